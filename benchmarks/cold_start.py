"""From the start of the process to the first painted frame on a real terminal, beside `wandb leet`.

    python benchmarks/cold_start.py [--runs 200] [--repeat 5] [--leet PATH-OF-wandb]

Both open a folder with as many runs of a hundred steps, in turns; the median of the repeats counts. A frame is there
when a line of words is; the first run when its name is. Memory is that of the whole process tree, at its highest
within two seconds. LEET is looked for on the PATH, and left out where it is not installed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.on_pty import OnPty, machine, molting, words
from tests.support import runs as recorded

LIMITS = {"first frame s": 0.8, "first run s": None, "memory MB": 0.7}  # of LEET's
_WORDS = 40  # letters that make a line
_WATCHED = 2.0  # seconds from the start
_OFFLINE_RUN = """
import sys, wandb
run = wandb.init(project="bench", mode="offline", dir=sys.argv[1])
for n in range(1, int(sys.argv[2]) + 1):
    run.log({"loss": 4 / n, "lr": 1e-3, "grad_norm": 1.0}, step=n)
run.finish()
"""


def our_runs(folder: Path, count: int) -> None:
    (folder / "runs").mkdir()
    for n in range(count):
        recorded.finished_run(folder / "runs", f"run-{n:03}", start=recorded.T0 + 1000 * n)


def leet_runs(folder: Path, count: int, wandb: str) -> Path:
    """One offline run made by wandb itself, and copies of it."""
    made = leet_run(folder, 100, wandb)
    stem, _, made_id = made.name.rpartition("-")
    for n in range(count - 1):
        copy = made.with_name(f"{stem}-{n:08x}")
        shutil.copytree(made, copy)
        (copy / f"run-{made_id}.wandb").rename(copy / f"run-{n:08x}.wandb")
    return folder / "wandb"


def leet_run(folder: Path, steps: int, wandb: str) -> Path:
    """A run of so many steps, made by wandb itself."""
    python = Path(wandb).resolve().with_name("python")
    env = {"HOME": str(folder), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    subprocess.run([python, "-c", _OFFLINE_RUN, str(folder), str(steps)], env=env, check=True, capture_output=True)
    (made,) = (folder / "wandb").glob("offline-run-*")
    return made


def start(begin: Callable[[], OnPty], run: bytes) -> list[float]:
    """The figures in the order of LIMITS. `run`: how the names of runs begin."""
    with begin() as program:
        frame = program.until(lambda raw: len("".join(words(raw).split())) >= _WORDS)
        first = program.until(lambda raw: run in raw)
        program.watch(max(0.0, program.began + _WATCHED - time.perf_counter()))
        return [frame - program.began, first - program.began, program.peak_memory()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--leet", default=shutil.which("wandb"), metavar="PATH", help="the command `wandb`")
    args = parser.parse_args()
    found: dict[str, list[list[float]]] = {"ours": [], "leet": []}
    with tempfile.TemporaryDirectory() as place:
        mine, theirs = Path(place) / "ours", Path(place) / "leet"
        mine.mkdir()
        theirs.mkdir()
        our_runs(mine, args.runs)
        if args.leet:
            argv = [args.leet, "leet", str(leet_runs(theirs, args.runs, args.leet))]
        else:
            print("wandb is not installed: nothing to compare with (--leet PATH).")
        for turn in range(args.repeat + 1):
            one = start(lambda: molting(mine), b"run-")
            other = start(lambda: OnPty(argv, HOME=str(theirs)), b"offline-run-") if args.leet else []
            if turn:  # the first only warms the caches
                found["ours"].append(one)
                found["leet"].append(other)
    print(f"{args.runs} runs, median of {args.repeat}; {machine()}")
    print(f"{'':14}{'ours':>8}{'LEET':>8}{'ratio':>8}  limit")
    ours = [statistics.median(column) for column in zip(*found["ours"], strict=True)]
    peer = [statistics.median(column) for column in zip(*found["leet"], strict=True)] or [0.0] * len(ours)
    missed = False
    for (what, limit), one_, other_ in zip(LIMITS.items(), ours, peer, strict=True):
        ratio = one_ / other_ if other_ else 0.0
        over = limit is not None and ratio > limit
        missed = missed or over
        said = f"<= {limit} of LEET{'   MISSED' if over else ''}" if limit else "-"
        print(f"{what:14}{one_:>8.2f}{other_:>8.2f}{ratio:>8.2f}  {said}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
