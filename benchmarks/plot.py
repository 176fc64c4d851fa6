"""Redraw of the loss plot: from new data to painted, at a thousand to a million points.

    python benchmarks/plot.py [--repeat 30]

Prints the median and the slowest of the redraws, each of which includes the wait for a frame (about 16 ms), beside
the limit, and beside textual-plotext in the same run where that is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import math
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from textual.app import App, ComposeResult
from textual.widget import Widget

from molting_tui.state.curves import drawing
from molting_tui.state.live import LiveRun
from molting_tui.state.records import Metrics
from molting_tui.widgets.plot import Plot

LIMIT_MS = 35.0  # at a million points
SIZE = (120, 40)
POINTS = (1_000, 100_000, 1_000_000)
_CHUNK = 5_000


def run_of(points: int) -> LiveRun:
    """A falling, noisy loss of so many steps."""
    chance, run = random.Random(1), LiveRun()
    run.max_steps = points + 1_000
    for begin in range(1, points + 1, _CHUNK):
        steps = list(range(begin, min(begin + _CHUNK, points + 1)))
        count = len(steps)
        losses: list[float | None] = [0.3 + 3 * math.exp(-5 * n / points) + chance.gauss(0, 0.1) for n in steps]
        tokens, times = [100 * n for n in steps], [1e9 + n for n in steps]
        ones = [1.0] * count
        run.apply_metrics(1, Metrics(steps, losses, list(losses), ones, tokens, ones, times, ones, [4] * count))
    return run


class Bench(App[None]):
    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    def compose(self) -> ComposeResult:
        yield self.widget


async def redraws(widget: Widget, redraw: Callable[[int], None], repeat: int) -> list[float]:
    """Milliseconds from the call to the paint."""
    found = []
    app = Bench(widget)
    async with app.run_test(size=SIZE) as pilot:
        redraw(0)
        await pilot.pause()
        for index in range(1, repeat + 1):
            painted = asyncio.Event()
            began = time.perf_counter()
            redraw(index)
            widget.call_after_refresh(painted.set)
            await painted.wait()
            found.append((time.perf_counter() - began) * 1000)
    return found


def ours(run: LiveRun, repeat: int) -> list[float]:
    plot = Plot()
    steps = run.step

    def redraw(index: int) -> None:
        # One more step, and the cursor moves: rows all over the plot change.
        n = steps + index
        one = [1.0]
        run.apply_metrics(1, Metrics([n], [0.3 + index / 50], one, one, [100 * n], one, [1e9 + n], one, [4]))
        plot.show(drawing(run))
        plot.cursor = n - index * run.max_steps / (repeat + 1)
        plot.refresh_data()

    return asyncio.run(redraws(plot, redraw, repeat))


def plotext(points: int, repeat: int) -> list[float]:
    from textual_plotext import PlotextPlot

    plot = PlotextPlot()
    xs, ys = list(range(points)), [0.3 + 3 * math.exp(-5 * n / points) for n in range(points)]

    def redraw(index: int) -> None:
        xs.append(points + index)
        ys.append(0.3)
        plot.plt.clear_data()
        plot.plt.plot(xs, ys)
        plot.refresh()

    return asyncio.run(redraws(plot, redraw, repeat))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=30)
    repeat = parser.parse_args().repeat
    peer = importlib.util.find_spec("textual_plotext") is not None
    if not peer:
        print("textual-plotext is not installed: its column is left out.")
    print(f"{'points':>9}  {'ours ms':>8}  {'slowest':>8}  {'limit':>6}  {'plotext':>8}  {'memory MB':>9}")
    median = 0.0
    for points in POINTS:
        found = ours(run_of(points), repeat)
        median = statistics.median(found)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        limit = f"{LIMIT_MS:.0f}" if points == POINTS[-1] else "–"
        # A million points take the peer a quarter of a minute each.
        theirs = f"{statistics.median(plotext(points, 2)):.0f}" if peer and points <= 100_000 else "–"
        print(f"{points:>9,}  {median:>8.1f}  {max(found):>8.1f}  {limit:>6}  {theirs:>8}  {memory:>9.0f}")
    return 0 if median <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
