"""Grades in processes that are killed at random moments: `python killed_grading.py RUN ROUNDS SEED`.

Each round a child sits down where the one before was killed, types random keys as fast as the disk takes them, and
tells through a pipe what it would show as saved after each. It gets SIGKILL within 50 ms. Then the file must hold all
that was told, and the next form must stand where the child stood. Prints kills and keys.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from engine.contract import grades, slots
from engine.contract.rundir import RunDir
from molting_tui.services.grades import Sitting, Wanted, sheet_to_grade, sit_down
from molting_tui.state.grading_form import Form

_EACH = 25  # kills of one rater: a real file has hundreds of keys, not thousands


def type_keys(sitting: Sitting, told: int, seed: int) -> None:
    """Until the end of the process."""
    lot, form = random.Random(seed), sitting.form
    while True:
        key = lot.choice(["level"] * 12 + ["enter"] * 4 + ["undo"] * 3 + ["skip", "flag", "comment", "quote", "pause"])
        event = {
            "level": lambda: form.level(lot.randrange(3)),
            "enter": form.commit,
            "undo": form.undo,
            "skip": form.skip,
            "flag": form.flag,
            "comment": lambda: form.comment(str(lot.random())),
            "quote": lambda: form.quote(0, 6),
            "pause": form.pause,
        }[key]()
        if sitting.say(event or (form.undo() if form.finished else None)):
            os.write(told, json.dumps([len(form.events), form.grading.place]).encode() + b"\n")


def round_of(run: RunDir, rater: str, lot: random.Random) -> int:
    """One child and its death; how many keys it told."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(told)
        type_keys(sit_down(run, Wanted(rater)), tell, lot.randrange(1 << 30))
    os.close(tell)
    if lot.random() < 0.9:  # the others die while they sit down
        select.select([told], [], [], 10.0)
    time.sleep(lot.uniform(0.0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(told, "rb") as pipe:
        lines = pipe.read().splitlines()
    check(run, [json.loads(line) for line in lines])
    return len(lines)


def check(run: RunDir, told: list[tuple[int, list[str] | None]]) -> None:
    """All that was told is in the file, and it makes the same form again."""
    if not told:
        return
    count, place = told[-1]
    sheet = sheet_to_grade(run)
    recorded = grades.read(grades.listed(run)[-1])  # who had finished began anew
    # A line that the kill tore was not told yet: it counts as damage, and never as one of these.
    assert count <= len(recorded.events) <= count + 1, (count, len(recorded.events))
    form = Form(recorded.opened, slots.slots(sheet, recorded.opened), events=recorded.events[:count])
    assert (list(form.grading.place) if form.grading.place else None) == place, (form.grading.place, place)


def main(run: RunDir, rounds: int, seed: int) -> None:
    lot = random.Random(seed)
    keys = sum(round_of(run, f"rater{n // _EACH}", lot) for n in range(rounds))
    print(f"{rounds} kills, {keys} keys")


if __name__ == "__main__":
    main(RunDir(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
