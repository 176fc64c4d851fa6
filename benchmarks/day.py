"""A day of events at five a second, folded one by one: memory by the hour, and the same story read back at once.

    python benchmarks/day.py [--hours 24]

Memory may grow by the steps themselves (50 bytes each) and by nothing else.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from engine.contract import events
from molting_tui.services.run_reader import apply, decode
from molting_tui.state.live import LiveRun

LIMIT_BYTES = 60.0  # a step
_RATE = 5
_BLOCK = 5_000  # lines


def event_at(n: int, steps: int) -> events.Event:
    """Nearly all are steps; every so often a sample, an evaluation, a checkpoint, memory or a line of log."""
    t = 1.76e9 + n / _RATE
    if n % 500 == 499:
        return events.Sample(t=t, step=n, question=f"Q{n // 500 % 8}", answer="words " * 60, tokens=60, stop="cap")
    if n % 500 == 250:
        return events.Eval(t=t, step=n, loss=1 + 1 / n, rows=64, seconds=2.0)
    if n % 500 == 100:
        return events.Checkpoint(t=t, step=n, path=f"checkpoints/step-{n:08d}", size=27_000_000, seconds=0.4)
    if n % 50 == 10:
        return events.Memory(t=t, host=1 << 30, host_peak=1 << 30, disk_free=1 << 36, device=1 << 31)
    if n % 100 == 30:
        return events.Log(t=t, message=f"line {n}")
    loss = 0.3 + 3 * math.exp(-5 * n / steps) + 0.1 * math.sin(n)
    return events.Metric(
        t=t, step=n, loss=loss, grad_norm=0.7, lr=8e-4, tokens=397 * n, learned=212, rows=16, seconds=0.2, epoch=n / 1e3
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=24)
    hours = parser.parse_args().hours
    total, an_hour = hours * 3600 * _RATE, 3600 * _RATE
    live, process = LiveRun(), psutil.Process()
    spent = 0.0
    memory = [process.memory_info().rss]
    for n in range(1, total + 1):
        event = event_at(n, total)
        began = time.perf_counter()
        live.apply(1, event)  # type: ignore[arg-type]
        spent += time.perf_counter() - began
        if n % an_hour == 0:
            gc.collect()
            memory.append(process.memory_info().rss)
            if n // an_hour % 4 == 0:
                print(f"{n // an_hour:>3} h  {memory[-1] / 1e6:>6.1f} MB  {len(live.steps):>9,} steps")
    replayed = LiveRun()
    for begin in range(1, total + 1, _BLOCK):
        some = range(begin, min(total + 1, begin + _BLOCK))
        lines = [events.encode(event_at(n, total)).rstrip(b"\n") for n in some]
        apply(replayed, [(1, what) for what in decode(lines)[0]])
    same = (
        live.steps.axes == replayed.steps.axes
        and live.series("loss").ys.values == replayed.series("loss").ys.values
        and (live.log, live.samples, live.markers) == (replayed.log, replayed.samples, replayed.markers)
    )
    # The first hours fill the buffers that are bounded.
    settled = len(memory) // 2
    grown = (memory[-1] - memory[settled]) / (total - settled * an_hour)
    print(f"one event: {spent / total * 1e6:.1f} µs; the replay is {'the same' if same else 'NOT THE SAME'}")
    print(f"growth: {grown:.0f} bytes an event   limit {LIMIT_BYTES:.0f}")
    return 0 if same and grown <= LIMIT_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
