"""Two processes that train one run against one, on the same cores: rows a second, and what the launcher costs.

    python benchmarks/two_processes.py [--steps 20] [--rows 32] [--hidden 256] [--pairs 1]

Runs are real ones of a random Llama, through the supervisor. One process has all cores, two share them. On a CPU two
processes cannot be faster than one that uses both cores well; the table says how much they lose to each other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.contract import events, summary
from engine.contract.rundir import RunDir
from tests.support.tiny import tiny_llama
from tests.support.world import World, read_events, wait_for, world


class Took(NamedTuple):
    """Seconds from the order to the first step, rows a second of the steps after it, peak bytes of the host."""

    start: float
    rows: float
    peak: int
    loss: float


def measure(place: World, model: Path, processes: int, steps: int, rows: int) -> Took:
    plan = {"max_steps": steps, "batch": rows, "save_every": steps, "packing": False, "compile": False}
    quiet = {"every": steps, "sample_every": steps, "probes": "probes.txt"}
    spec = place.persona(f"of{processes}", count=4 * rows, model=model, training=plan, evaluation=quiet)
    spec.write_text(f"devices = {processes}\n{spec.read_text()}")
    run = place.train(spec)
    wait_for(run, "finished")
    return took(run)


def took(run: RunDir) -> Took:
    said = read_events(run, 1)
    steps = [event for event in said if isinstance(event, events.Metric)]
    peak = max(event.host_peak for event in said if isinstance(event, events.Memory))
    starting = next(each.t for each in summary.transitions(run)[0] if each.state == "starting")
    seconds = sum(step.seconds for step in steps[1:])
    return Took(steps[0].t - starting, sum(step.rows for step in steps[1:]) / seconds, peak, steps[-1].loss or 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rows", type=int, default=32, help="a step")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="two-") as folder, world(Path(folder)) as place:
        place.env.pop("OMP_NUM_THREADS", None)  # all cores for one, half of them for each of two
        model = tiny_llama(Path(folder) / "model", hidden=wanted.hidden, layers=8)
        found: dict[int, list[Took]] = {1: [], 2: []}
        for _ in range(wanted.pairs):
            for processes in (1, 2):
                found[processes].append(measure(place, model, processes, wanted.steps, wanted.rows))
    print(f"{wanted.steps} steps of {wanted.rows} rows, hidden {wanted.hidden}; medians of {wanted.pairs}")
    print(f"{'processes':>9} {'rows/s':>9} {'first step after s':>19} {'peak MB':>9} {'last loss':>12}")
    for processes, each in found.items():
        rows, start = (statistics.median(getattr(one, name) for one in each) for name in ("rows", "start"))
        peak = max(one.peak for one in each)
        print(f"{processes:>9} {rows:>9.1f} {start:>19.1f} {peak / 1e6:>9.0f} {each[-1].loss:>12.6f}")
    gained = [two.rows / one.rows for one, two in zip(found[1], found[2], strict=True)]
    launcher = [two.start - one.start for one, two in zip(found[1], found[2], strict=True)]
    print(
        f"two / one: {statistics.median(gained):.2f} x rows/s; the launcher costs {statistics.median(launcher):.1f} s"
    )


if __name__ == "__main__":
    main()
