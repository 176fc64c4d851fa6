"""A sitting of 12 answers on a real terminal, replayed from recorded keys: what the form adds to reading.

    python benchmarks/grading.py

Keys an answer; from each key to the bytes of what it shows, at moments that no repaint keeps step with; and how long a
grade takes to be on the disk.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.on_pty import OnPty, machine, molting
from engine.contract import grades, sheets, slots
from engine.contract.grades import GradeFile, Opened
from engine.contract.rundir import RunDir
from tests.support.graded import graded_run

KEYS, PAINT_MS, WRITE_MS = 6.0, 50.0, 20.0  # limits: keys an answer, p95 of a key, p95 of a write
# A real sitting in the order of seed 7: a level for each of five dimensions, and Enter.
SEED = 7
_LEVELS = """22221 22121 21102 10100 01021 22222 20122 21121 22121 21121 22102 11121"""
RECORDED = [f"{levels}\r" for levels in _LEVELS.split()]


def begun(run: RunDir) -> list[slots.Slot]:
    """The grade file that the app goes on with, so that the order is that of the recording."""
    [sheet] = sheets.readable(run)[0]
    by = sheet.header.rubric
    opened = Opened(rater="Ana", sheet="rhea-1", sheet_hash=sheet.sha256, rubric=by, rubric_hash="", seed=SEED)
    with GradeFile.create(run, opened):
        return slots.slots(sheet, opened)


def replay(folder: Path) -> list[float]:
    """Milliseconds from each key to what it shows."""
    run, sheet = graded_run(folder / "runs")
    total, names = len(begun(run)), [each.name.encode() for each in sheet.header.rubric.dimensions]
    assert total == len(RECORDED)
    times = []
    with molting(folder, "-m", "molting_tui", "grade", "rhea", "--rater", "Ana") as app:
        app.until(lambda raw: names[0] in raw and b"item 1/12" in raw)
        app.watch(1.0)
        while app.process.children():  # the pre-checks, which are looked for while the first answer is read
            app.watch(0.2)
        for number, keys in enumerate(RECORDED, 1):
            ends = [*names[1:], b"all levels", names[0] if number < total else b"Nothing is left"]
            times += [pressed(app, key, wanted) for key, wanted in zip(keys, ends, strict=True)]
    return times


def pressed(app: OnPty, key: str, wanted: bytes) -> float:
    """Milliseconds from the key to the bytes of what the rater sees next."""
    app.watch(random.uniform(0.1, 0.35))
    begin = len(app.raw)
    since = app.press(key)
    return (app.until(lambda raw: wanted in raw, begin, 10.0) - since) * 1000


def writes(folder: Path, count: int) -> list[float]:
    """Milliseconds until a grade is on the disk."""
    run, sheet = graded_run(folder / "runs")
    by, times = sheet.header.rubric, []
    opened = Opened(rater="Bo", sheet="rhea-1", sheet_hash=sheet.sha256, rubric=by, rubric_hash="")
    with GradeFile.create(run, opened) as file:
        for n in range(count):
            event = grades.Cell(item=sheet.items[n % len(sheet.items)].id, dimension=by.dimensions[0].id, level=1)
            since = time.perf_counter()
            file.say(event)
            times.append((time.perf_counter() - since) * 1000)
    return times


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:  # on a disk: /tmp may be memory
        (Path(place) / "b").mkdir()
        shown, written = replay(Path(place)), writes(Path(place) / "b", 200)
    each = sum(map(len, RECORDED)) / len(RECORDED)
    paint, write = (statistics.quantiles(times, n=20)[-1] for times in (shown, written))
    rows = [
        ("keys an answer", each, KEYS),
        ("key to paint, p50 ms", statistics.median(shown), None),
        ("key to paint, p95 ms", paint, PAINT_MS),
        ("added to an answer, ms", sum(shown) / len(RECORDED), None),
        ("durable write, p50 ms", statistics.median(written), None),
        ("durable write, p95 ms", write, WRITE_MS),
    ]
    print(f"{len(RECORDED)} answers, {len(shown)} keys, {len(written)} writes; {machine()}")
    print(f"{'':24}{'measured':>9}{'limit':>7}")
    for name, value, limit in rows:
        missed = "   MISSED" if limit is not None and value > limit else ""
        print(f"{name:24}{value:9.1f}{'-' if limit is None else f'{limit:g}':>7}{missed}")
    return int(any(limit is not None and value > limit for _, value, limit in rows))


if __name__ == "__main__":
    sys.exit(main())
