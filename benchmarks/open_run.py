"""Opening a run of a million metrics: first chart, whole chart, memory, and keys typed meanwhile; beside LEET.

    python benchmarks/open_run.py [--points 1000000] [--repeat 3] [--leet PATH-OF-wandb]

Both programs open it on a terminal of 120 x 40, in turns, and are watched from their start by one measure: the first
chart is there with the first braille on the screen, and it has settled when the braille, and where it stands, changed
for the last time. LEET opens a run with as many steps of three metrics that wandb itself wrote; it is looked for on
the PATH, and left out where it is not installed. The median of the repeats counts.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import statistics
import string
import sys
import tempfile
import time
from pathlib import Path

import pyte

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cold_start import leet_run
from benchmarks.on_pty import SIZE, OnPty, machine, molting, screen_lines, words
from tests.support.runs import make_run

LIMITS = {"first chart s": 1.0, "settled s": 0.3, "memory MB": 0.6, "keys lost": None}  # of LEET's
_WATCHED = 40.0  # seconds from the start
_TYPED = string.ascii_letters[:40]
_FILTER = "filter the log"
_KEY_EVERY = 0.02  # seconds
_OPEN = """
import os, sys
from pathlib import Path
from engine.contract.rundir import RunDir
from molting_tui.begin import Begin
from molting_tui.commands.open_app import open_app
run = RunDir(Path(sys.argv[1]))
os.environ["MOLTING_RUNS"] = str(run.path.parent)
sys.exit(open_app(begin=Begin(show=run)))
"""


def write_run(runs: Path, points: int) -> Path:
    """A finished run with so many metrics."""
    from engine.contract import events, lifecycle

    run = make_run(runs, "long")
    log = run.attempt(1).events
    log.parent.mkdir(parents=True)
    began = time.time() - points * 0.2
    states = ("queued", "starting", "training", "finished")
    changes = [lifecycle.Transition(state=state, attempt=1, t=began) for state in states]
    run.lifecycle.write_bytes(b"".join(map(lifecycle.encode, changes)))
    chance = random.Random(1)
    with log.open("wb") as lines:
        said = {"device": "cpu", "precision": "fp32", "path": "padded", "trainable": 1, "parameters": 2}
        lines.write(events.encode(events.Start(step=0, steps=points, t=began, **said)))
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
            lines.write(events.encode(event))
    return run.path


def opening(program: OnPty) -> list[float]:
    """Watch a program open a run: the figures in the order of LIMITS, without the keys."""
    came: list[tuple[float, bytes]] = []
    taken = 0
    while (arrived := program.read(0.02)) - program.began < _WATCHED:
        if len(program.raw) > taken:
            came.append((arrived - program.began, bytes(program.raw[taken:])))
            taken = len(program.raw)
    memory = program.peak_memory()
    first, settled = charted(came)
    return [first, settled, memory]


def charted(came: list[tuple[float, bytes]]) -> tuple[float, float]:
    """When braille first stood on the screen, and when it changed for the last time. RuntimeError without any."""
    screen = pyte.Screen(*SIZE)
    stream = pyte.ByteStream(screen)
    first, settled, before = 0.0, 0.0, ""
    for t, raw in came:
        stream.feed(raw)
        now = "\n".join("".join(c if "\u2800" < c <= "\u28ff" else " " for c in row) for row in screen_lines(screen))
        if now != before:
            first = first or t
            settled, before = t, now
    if not before.strip():
        raise RuntimeError("No chart came.")
    return first, settled


def lost_keys(program: OnPty) -> float:
    """How many of the letters that are typed into the filter of the log while the run opens never stand there."""
    program.until(lambda raw: "loss" in words(raw))
    program.press("/")
    program.until(lambda raw: _FILTER in words(raw))
    for key in _TYPED:
        program.press(key)
        program.watch(_KEY_EVERY)
    program.watch(3.0)
    screen = pyte.Screen(*SIZE)
    pyte.ByteStream(screen).feed(bytes(program.raw))
    (row,) = (row for row in screen_lines(screen) if _FILTER in row)
    return len(set(_TYPED) - set(row.partition(_FILTER)[2]))


def ours(folder: Path, run: Path) -> list[float]:
    argv = ["-c", _OPEN, str(run)]
    with molting(folder, *argv) as program:
        figures = opening(program)
    with molting(folder, *argv) as program:
        return [*figures, lost_keys(program)]


def leet(wandb: str, run: Path, home: Path) -> list[float]:
    with OnPty([wandb, "leet", str(run)], HOME=str(home)) as program:
        return opening(program)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--leet", default=shutil.which("wandb"), metavar="PATH", help="the command `wandb`")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        run = write_run(home / "runs", args.points)
        size = (run / "attempts" / "1" / "events.jsonl").stat().st_size / 1e6
        print(f"{args.points:,} metrics, {size:.0f} MB of log; median of {args.repeat}")
        if args.leet:
            theirs = leet_run(home, args.points, args.leet)
        else:
            print("wandb is not installed: nothing to compare with (--leet PATH).")
        print(f"before: {machine()}")
        found, peers = [], []
        for _ in range(args.repeat):
            found.append(ours(home, run))
            peers.append(leet(args.leet, theirs, home) if args.leet else [])
    print(f"after: {machine()}")
    return table(_medians(found), _medians(peers))


def _medians(rows: list[list[float]]) -> list[float]:
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def table(mine: list[float], peer: list[float]) -> int:
    """Print both and their ratios; 1 when a limit was missed."""
    print(f"{'':14}{'ours':>8}{'LEET':>8}{'ratio':>8}  limit")
    missed = False
    peer = peer + [0.0] * (len(mine) - len(peer))
    for (what, limit), own, other in zip(LIMITS.items(), mine, peer, strict=True):
        over = own > 0 if limit is None else own > limit * other > 0
        missed = missed or over
        said = "none" if limit is None else f"<= {limit} of LEET"
        compared = f"{other:>8.2f}{own / other:>8.2f}" if other else f"{'–':>8}{'–':>8}"
        print(f"{what:14}{own:>8.2f}{compared}  {said}{'   MISSED' if over else ''}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
