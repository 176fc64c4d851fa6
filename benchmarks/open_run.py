"""Opening a run of a million metrics: first chart, whole chart, memory, and keys pressed meanwhile.

    python benchmarks/open_run.py [--points 1000000]

Starts a small app with the real plot and the real reader in a process of its own; times count from its start.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LIMITS = {"first chart s": 0.77, "settled s": 2.0, "memory MB": 125.0, "keys lost": 0.0}
_KEYS = 40


def write_run(runs: Path, points: int) -> Path:
    """A run directory with so many metrics."""
    from engine.contract import events, lifecycle

    run = runs / "long-run"
    (run / "attempts" / "1").mkdir(parents=True)
    began = time.time() - points * 0.2
    states = ("queued", "starting", "training")
    changes = [lifecycle.Transition(state=state, attempt=1, t=began) for state in states]
    (run / "lifecycle.jsonl").write_bytes(b"".join(map(lifecycle.encode, changes)))
    chance = random.Random(1)
    with (run / "attempts" / "1" / "events.jsonl").open("wb") as log:
        said = {"device": "cpu", "precision": "fp32", "path": "padded", "trainable": 1, "parameters": 2}
        log.write(events.encode(events.Start(step=0, steps=points, t=began, **said)))
        for step in range(1, points + 1):
            event = events.Metric(
                seq=step,
                t=began + step * 0.2,
                step=step,
                loss=0.3 + 3 * math.exp(-5 * step / points) + chance.gauss(0, 0.1),
                grad_norm=chance.random(),
                lr=8.1e-4 * (1 - step / points),
                tokens=step * 397,
                learned=212,
                rows=16,
                seconds=0.2,
                epoch=step / 1000,
            )
            log.write(events.encode(event))
    return run


def measure(run_path: Path) -> None:
    """The measured process: prints one number a line in the order of LIMITS."""
    began = time.perf_counter() - time.process_time()  # what Python itself took to start is CPU time
    import asyncio

    from textual.app import App, ComposeResult

    from engine.contract.rundir import RunDir
    from molting_tui.services.tail import History, RunTail
    from molting_tui.state.curves import drawing
    from molting_tui.widgets.plot import Plot

    class Opened(App[None]):
        BINDINGS = [("k", "heard")]

        def __init__(self) -> None:
            super().__init__()
            self.plot = Plot()
            self.times: list[float] = []
            self.keys = 0
            self.settled = asyncio.Event()

        def compose(self) -> ComposeResult:
            yield self.plot

        def on_mount(self) -> None:
            self.tail = RunTail(RunDir(run_path), self.post_message).start()

        def action_heard(self) -> None:
            self.keys += 1

        def on_history(self, message: History) -> None:
            self.plot.show(drawing(message.live))
            self.plot.refresh_data()
            self.plot.call_after_refresh(self.painted, message.complete)

        def painted(self, complete: bool) -> None:
            self.times.append(time.perf_counter() - began)
            if complete:
                self.settled.set()

    async def opened() -> None:
        app = Opened()
        async with app.run_test(size=(120, 40)) as pilot:
            for _ in range(_KEYS):
                await pilot.press("k")
                await asyncio.sleep(0.01)
            await asyncio.wait_for(app.settled.wait(), 120)
            app.tail.stop()
            lost = _KEYS - app.keys
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(app.times[0], app.times[-1], memory, lost, sep="\n")

    asyncio.run(opened())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder), args.points)
        size = (run / "attempts" / "1" / "events.jsonl").stat().st_size / 1e6
        print(f"{args.points:,} metrics, {size:.0f} MB of log")
        argv = [sys.executable, __file__, "--measure", str(run)]
        said = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    found = dict(zip(LIMITS, map(float, said.stdout.split()), strict=True))
    for what, value in found.items():
        over = "   MISSED" if value > LIMITS[what] else ""
        print(f"{what:<14} {value:>8.2f}   limit {LIMITS[what]:g}{over}")
    return 0 if all(found[what] <= limit for what, limit in LIMITS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
