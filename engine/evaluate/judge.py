"""A language model as a second rater: verb `judge`. Its grades are a rater's file of their own, marked as a model's.

It is asked twice for each answer. The calibration answers come first: who fails them grades nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from engine.contract import calls, grades, grading, rubric, sheets, slots
from engine.contract.errors import MoltingError
from engine.contract.grades import GradeFile, Opened
from engine.contract.grading import Grading
from engine.contract.rundir import RunDir
from engine.contract.sheets import Sheet
from engine.contract.slots import Slot
from engine.contract.verdict import Judged, JudgeRequest

from . import agreement, summary
from .judge_endpoint import Endpoint
from .judge_prompt import levels, messages, settled

_READINGS = 3  # times that a reply may hold no levels
_NAME = 60  # letters of a rater's name

Tell = Callable[[calls.Line], None]


def judge(request: JudgeRequest, tell: Tell) -> Judged:
    """Grade a sheet, or go on where that was left. MoltingError: the endpoint fails (3), or calibration does (1)."""
    run, sheet = RunDir(Path(request.run)), sheets.read(Path(request.sheet))
    wanted = _opening(request, sheet)
    endpoint = Endpoint(
        request.base_url, request.model, request.key, request.timeout, lambda said: tell(calls.Note(text=said))
    )
    left = _left(run, sheet, wanted)
    with GradeFile(left) if left else GradeFile.create(run, wanted) as file:
        opened = grades.read(file.path).opened
        order = sorted(slots.slots(sheet, opened), key=lambda slot: slot.kind != "calibration")
        if order[:1] and order[0].kind != "calibration":
            tell(calls.Note(text="The rubric has no calibration answers: nothing says whether this judge can grade."))
        for number, slot in enumerate(order):
            if slot.kind != "calibration":
                _require_calibrated(file.path, sheet)
            tell(calls.Progress(phase="judging", done=number, total=len(order), unit="answers"))
            grade = grading.open_grading(file.path, [sheet]).grade(slot.id)
            if not (grade.committed or grade.skipped):
                _grade(endpoint, slot, opened.rubric, file)
        tell(calls.Progress(phase="judging", done=len(order), total=len(order), unit="answers"))
    return _counted(run, sheet, file.path)


def _opening(request: JudgeRequest, sheet: Sheet) -> Opened:
    by = rubric.load(Path(request.rubric)) if request.rubric else sheet.header.rubric
    main = sheet.main_voice
    return Opened(
        rater=f"judge {request.model}"[:_NAME],
        kind="model",
        sheet=sheet.header.name,
        sheet_hash=sheet.sha256,
        rubric=by,
        rubric_hash=by.fingerprint,
        adapter=sheet.header.adapter,
        seed=secrets.randbelow(1 << 31),
        voices=["base", main] if request.base and "base" in sheet.voices and main != "base" else [main],
    )


def _left(run: RunDir, sheet: Sheet, wanted: Opened) -> Path | None:
    """The grading that this judge began and did not finish, unless it failed its calibration."""
    keys = ("rater", "sheet_hash", "rubric_hash", "mode", "voices", "kind", "origin")
    found = []
    for path in grades.listed(run):
        try:
            made = grading.open_grading(path, [sheet])
        except MoltingError:
            continue
        same = all(getattr(made.opened, key) == getattr(wanted, key) for key in keys)
        if same and not made.complete and all(anchor.passed for anchor in summary.anchors(made)):
            found.append(path)
    return found[-1] if found else None


def _require_calibrated(path: Path, sheet: Sheet) -> None:
    """MoltingError (code 1) for a judge that does not see what is known about the calibration answers."""
    made = grading.open_grading(path, [sheet])
    failed = next((each for each in summary.anchors(made) if not each.passed), None)
    missing = any(slot.kind == "calibration" and made.grade(slot.id).skipped for slot in made.slots)
    if failed is None and not missing:
        return
    why = f"gave {_cells(failed.given)}, {_cells(failed.expected)} is right" if failed else "gave them no levels"
    raise MoltingError(
        f"{made.opened.rater} fails the calibration answers ({why}), so it grades nothing.",
        remedy="Name another model in the section [judge] of config.toml.",
        code=1,
    )


def _cells(levels: dict[str, int]) -> str:
    return " ".join(f"{name} {level}" for name, level in levels.items()) or "nothing"


def _grade(endpoint: Endpoint, slot: Slot, by: rubric.Rubric, file: GradeFile) -> None:
    """Two replies, and what they settle; an answer without any level is skipped, with the reason."""
    one, two = (_reply(endpoint, slot, by, turned=turned) for turned in (False, True))
    found = settled(one, two, by) if one and two else {}
    for name, level in found.items():
        if level is None:
            said = f"discarded: {one[name]}, and asked again {two[name]}"
            file.say(grades.Comment(item=slot.id, dimension=name, text=said))
        else:
            file.say(grades.Cell(item=slot.id, dimension=name, level=level))
    if any(level is not None for level in found.values()):
        file.say(grades.Commit(item=slot.id, key=slot.key))
        return
    if not found:
        file.say(grades.Comment(item=slot.id, text="its replies held no levels"))
    file.say(grades.Skip(item=slot.id))


def _reply(endpoint: Endpoint, slot: Slot, by: rubric.Rubric, *, turned: bool) -> dict[str, int]:
    """The levels of one reply; none where it never holds any."""
    for _ in range(_READINGS):
        try:
            return levels(endpoint.ask(messages(slot, by, turned=turned)), by)
        except ValueError:
            continue
    return {}


def _counted(run: RunDir, sheet: Sheet, path: Path) -> Judged:
    made = grading.open_grading(path, [sheet])
    if not made.complete:
        raise MoltingError(f"{made.opened.rater} gave no levels that hold, so nothing of it counts.", code=1)
    counted = summary.count(run, made, [sheet], summary.trained_questions(run))
    asked = len(made.opened.rubric.dimensions) * len(made.slots)
    given = sum(len(made.grade(slot.id).cells) for slot in made.slots)
    return Judged(
        run=run.id,
        grades=str(path),
        cycle=counted,
        discarded=asked - given,
        agreements=[agreement.agreement(made, other) for other in _others(run, made)],
    )


def _others(run: RunDir, made: Grading) -> list[Grading]:
    """Complete gradings of the same answers by others than this judge."""
    return [
        each
        for each in grading.of_run(run)[0]
        if each.complete
        and each.opened.mode == "cells"
        and each.opened.rater != made.opened.rater
        and each.opened.rubric_hash == made.opened.rubric_hash
        and agreement.common_cells(made, each)
    ]
