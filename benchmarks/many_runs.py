"""The Runs screen with many runs, on a real terminal: first paint, all runs read, keys, CPU at rest and memory.

    python benchmarks/many_runs.py [--runs 10 100 1000 10000] [--keys 40]

The folder holds finished runs with a spec, a lifecycle and an event log each. The first paint is the first name of a
run on the screen; all is read when the count of the filter says so. Then the cursor moves at random moments: from
the key to the bytes of the new line. Each letter of a filter, which goes through all runs, is timed in the same way. At
rest the CPU is what looking for changes costs.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.on_pty import OnPty, machine, molting, words
from tests.support.runs import finished_run

LIMITS = {"first s": 1.0, "key p95 ms": 60.0, "letter p95 ms": 200.0, "rest CPU %": 10.0}
_DOWN, _UP = "\x1b[B", "\x1b[A"
_CURSOR = "▸".encode()
_TAIL = 1 << 17  # bytes of the end that are looked through: more than one read gives


def write_runs(folder: Path, count: int) -> None:
    """So many finished runs, copies of one but for their names and times."""
    runs = folder / "runs"
    made = finished_run(folder / "pattern", "pattern")
    spec = made.spec.read_text()
    runs.mkdir(mode=0o700)
    for number in range(count):
        run = runs / f"run{number:05d}-20260101-{number % 65536:04x}"
        shutil.copytree(made.path, run, copy_function=os.link)  # nothing writes into them
        (run / "spec.toml").unlink()
        (run / "spec.toml").write_text(spec.replace('"pattern"', f'"run{number:05d}"'))


def measure(count: int, keys: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_runs(folder, count)
        with molting(folder) as app:
            first = app.until(lambda raw: b"run0" in raw) - app.began
            app.press("/")
            app.until(lambda raw: "words in name" in words(raw[-_TAIL:]))
            _filter(app, "finishedz", f"0 of {count}")  # which no run is
            _filter(app, "\x7f", f"{count} of {count}")  # which each is once it was read
            read = time.perf_counter() - app.began
            app.press("\x1b")
            app.watch(3.0)
            cpu, since = _spent(app), time.perf_counter()
            app.watch(seconds)
            rest = (_spent(app) - cpu) / (time.perf_counter() - since)
            moved = [_answered(app, _UP if n % 2 else _DOWN, _CURSOR) for n in range(keys + 2)][2:]
            app.press("/")
            app.watch(1.0)
            told = f" of {count}".encode()
            typed = [_answered(app, letter, told) for letter in ("1\x7f" * max(2, keys // 8))]
            memory = app.peak_memory()
    return {
        "first s": first,
        "read s": read,
        "key p50 ms": statistics.median(moved),
        "key p95 ms": statistics.quantiles(moved, n=20)[-1],
        "letter p95 ms": statistics.quantiles(typed, n=20)[-1],
        "rest CPU %": rest * 100,
        "memory MB": memory,
    }


def _filter(app: OnPty, keys: str, told: str) -> None:
    """Type into the filter and wait for what the count beside it then says; it must not have said so before."""
    begin = len(app.raw)
    for key in keys:
        app.press(key)
    count = re.compile(rf"(?<!\d){told}")
    app.until(lambda raw: bool(count.search(words(raw[-_TAIL:]))), begin, seconds=300.0)


def _spent(app: OnPty) -> float:
    times = app.process.cpu_times()
    return float(times.user + times.system)


def _answered(app: OnPty, key: str, painted: bytes) -> float:
    """Milliseconds from a key to the bytes that it asks for, after a wait that no repaint keeps step with."""
    app.watch(random.uniform(0.3, 0.6))
    begin = len(app.raw)
    pressed = app.press(key)
    return (app.until(lambda raw: painted in raw, begin, 30.0) - pressed) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--keys", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    print(f"{args.keys} keys each; {machine()}")
    missed = False
    for place, count in enumerate(args.runs):
        found = measure(count, args.keys, args.seconds)
        if not place:
            print("    runs  " + "  ".join(f"{title:>13}" for title in found))
        over = [title for title, limit in LIMITS.items() if found[title] > limit]
        missed = missed or bool(over)
        cells = "  ".join(f"{value:>13.2f}" if value < 10 else f"{value:>13.0f}" for value in found.values())
        print(f"{count:>8,}  {cells}{'   MISSED: ' + ', '.join(over) if over else ''}", flush=True)
    print(f"{'limit':>8}  " + "  ".join(f"{LIMITS.get(title, ''):>13}" for title in found))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
