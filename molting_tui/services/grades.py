"""A sitting: one grading that is being written, and the form made of what is on the disk."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.contract import grades, grading, sheets, slots, verdict
from engine.contract import rubric as rubrics
from engine.contract.errors import MoltingError
from engine.contract.grades import AnyEvent, GradeFile, Opened
from engine.contract.rubric import Rubric
from engine.contract.rundir import RunDir
from engine.contract.settings import Judge
from engine.contract.sheets import Sheet

from ..state.grading_form import Form
from .durable_form import DurableForm
from .task import Task

RATER = "grade.rater"  # of View.choices: the name given last


@dataclass(frozen=True)
class Wanted:
    """What is to be graded, by whom. Empty: the newest sheet, the rubric that is in it."""

    rater: str
    sheet: str = ""
    rubric: Path | Rubric | None = None
    mode: Literal["cells", "pairs"] = "cells"
    base: bool = False  # the base's answers too; in pairs they are always one side
    against: RunDir | None = None  # pairs: the same voice of another run


class Sitting(DurableForm[Form, AnyEvent]):
    """A sheet, its form and the file of its grades."""

    def __init__(self, sheet: Sheet, file: GradeFile) -> None:
        """Continue `file`, which is of `sheet`. MoltingError when it is damaged."""
        self.sheet, self.path = sheet, file.path
        recorded = grades.read(file.path)
        super().__init__(_form(sheet, recorded), file, recorded.events[-1].t if recorded.events else 0.0)


def newest_sheet(run: RunDir, name: str = "") -> Sheet | None:
    """The sheet of that name, or the newest that can be graded; None where there is none.

    MoltingError for a name that is not there, or a sheet that cannot be used.
    """
    if name:
        if name not in {file.stem for file in sheets.listed(run)}:
            known = ", ".join(file.stem for file in sheets.listed(run)) or "none"
            raise MoltingError(f"{run.id} has no answer sheet {name!r}.", remedy=f"There are: {known}.", code=2)
        return sheets.read(run.sheet(name))
    readable, problems = sheets.readable(run)
    if not readable and problems:
        raise MoltingError(problems[-1], remedy=f"`molting answers {run.id}` makes a new sheet.", code=2)
    return readable[-1] if readable else None


def sheet_to_grade(run: RunDir, name: str = "") -> Sheet:
    """As `newest_sheet`; MoltingError (code 2) where there is none."""
    sheet = newest_sheet(run, name)
    if sheet is None:
        raise MoltingError(
            f"{run.id} has no answers to grade yet.", remedy=f"`molting answers {run.id}` makes a sheet.", code=2
        )
    return sheet


def unfinished(run: RunDir, sheet: Sheet, wanted: Wanted) -> Path | None:
    """The grading of this sheet that the rater began and did not finish."""
    found = [path for path, form in _own(run, sheet, wanted) if not form.grading.complete]
    return found[-1] if found else None


def finished(run: RunDir, sheet: Sheet, wanted: Wanted) -> Path | None:
    """The last grading of this sheet that the rater finished."""
    found = [path for path, form in _own(run, sheet, wanted) if form.grading.complete]
    return found[-1] if found else None


def any_unfinished(run: RunDir, sheet: Sheet, rater: str) -> Path | None:
    """The same, of whatever kind."""
    kinds = [Wanted(rater), Wanted(rater, base=True)]
    kinds += [Wanted(rater, mode="pairs")] if len(sheet.voices) > 1 else []
    found = [path for kind in kinds if (path := unfinished(run, sheet, kind))]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def wanted_of(path: Path) -> Wanted:
    """What a grade file was begun for."""
    opened = grades.read(path).opened
    return Wanted(opened.rater, opened.sheet, mode=opened.mode, base=opened.mode == "cells" and len(opened.voices) > 1)


def _own(run: RunDir, sheet: Sheet, wanted: Wanted) -> list[tuple[Path, Form]]:
    like = _opening(run, sheet, wanted, seed=0)
    found = []
    for path in grades.listed(run):
        try:
            recorded = grades.read(path)
            if _same(recorded.opened, like):
                found.append((path, _form(sheet, recorded)))
        except MoltingError:
            continue  # told where gradings are counted
    return found


def _form(sheet: Sheet, recorded: grades.Recorded) -> Form:
    opened = recorded.opened
    if opened.mode == "pairs":
        return Form(opened, bouts=slots.pairs(sheet, opened), events=recorded.events)
    return Form(opened, slots.slots(sheet, opened), events=recorded.events)


def _same(one: Opened, other: Opened) -> bool:
    keys = ("rater", "sheet_hash", "rubric_hash", "mode", "voices", "kind", "origin", "against")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def begin(run: RunDir, sheet: Sheet, wanted: Wanted) -> Sitting:
    """A new grading with an order of its own. MoltingError where there is nothing to grade."""
    opened = _opening(run, sheet, wanted, seed=secrets.randbelow(1 << 31))
    something = slots.pairs(sheet, opened) if opened.mode == "pairs" else slots.slots(sheet, opened)
    if not something:
        raise MoltingError("Both sides answered no question in common.", remedy="Compare other sheets.", code=2)
    return Sitting(sheet, GradeFile.create(run, opened))


def resume(sheet: Sheet, path: Path) -> Sitting:
    """Continue a grade file where it was left; the time between is no work."""
    file = GradeFile(path)
    try:
        sitting = Sitting(sheet, file)
        if sitting.form.events:
            sitting.say(grades.Resume())
        return sitting
    except BaseException:
        file.close()
        raise


def sit_down(run: RunDir, wanted: Wanted) -> Sitting:
    """Continue what the rater left unfinished, else begin anew. MoltingError where there is nothing to grade."""
    sheet = sheet_to_grade(run, wanted.sheet)
    left = unfinished(run, sheet, wanted)
    return resume(sheet, left) if left else begin(run, sheet, wanted)


def _opening(run: RunDir, sheet: Sheet, wanted: Wanted, seed: int) -> Opened:
    by = _rubric(wanted, sheet)
    other = sheet_to_grade(wanted.against) if wanted.against else None
    opened = Opened(
        rater=wanted.rater,
        sheet=sheet.header.name,
        sheet_hash=sheet.sha256,
        rubric=by,
        rubric_hash=by.fingerprint,
        adapter=sheet.header.adapter,
        mode=wanted.mode,
        seed=seed,
        voices=_voices(sheet, wanted, other),
    )
    if other is not None and wanted.against is not None:
        opened.against, opened.against_path = other.sha256, str(wanted.against.sheet(other.header.name))
    return opened


def _rubric(wanted: Wanted, sheet: Sheet) -> Rubric:
    chosen = wanted.rubric or sheet.header.rubric
    return rubrics.load(chosen) if isinstance(chosen, Path) else chosen


def rubric_of(run: RunDir) -> Rubric:
    """The rubric by which a run was graded last, else that of its answers. MoltingError (code 2) where it has none."""
    last = grading.latest(grading.of_run(run)[0])
    return last.opened.rubric if last else sheet_to_grade(run).header.rubric


def _voices(sheet: Sheet, wanted: Wanted, other: Sheet | None) -> list[str]:
    main = sheet.main_voice
    if other is not None:
        return [main, other.main_voice]
    if wanted.mode == "cells":
        return ["base", main] if wanted.base and "base" in sheet.voices and main != "base" else [main]
    if len(sheet.voices) < 2:
        raise MoltingError(
            "This sheet has the answers of one voice only, so there are no pairs.",
            remedy="Give --against RUN, or make a sheet with the base's answers too.",
            code=2,
        )
    return ["base", main]


def hits(run: RunDir, wanted: Wanted, sheet: Sheet, task: Task) -> dict[str, list[verdict.Hit]]:
    """What the rules of the rubric say of every answer. MoltingError when the engine cannot tell."""
    request = verdict.PrechecksRequest(sheet=str(run.sheet(sheet.header.name)), rubric=_rubric(wanted, sheet))
    return task.call("prechecks", request, verdict.Prechecks).hits


def judge_request(
    run: RunDir, sheet: Sheet, judge: Judge, rubric: Path | None = None, *, base: bool = False
) -> verdict.JudgeRequest:
    """What the verb `judge` needs to grade a sheet by the endpoint of the settings.

    MoltingError (code 2) where the settings name no judge, or a variable that is not set.
    """
    if not judge.base_url or not judge.model:
        raise MoltingError(
            "There is no judge in the settings.",
            remedy="Set base_url and model in the section [judge] of config.toml.",
            code=2,
        )
    key = os.environ.get(judge.api_key_env, "") if judge.api_key_env else ""
    if judge.api_key_env and not key:
        raise MoltingError(
            f"The settings say that the judge's key is in {judge.api_key_env}, which is not set.",
            remedy=f"export {judge.api_key_env}=…",
            code=2,
        )
    return verdict.JudgeRequest(
        run=str(run.path),
        sheet=str(run.sheet(sheet.header.name)),
        rubric=str(rubric) if rubric else "",
        base=base,
        base_url=judge.base_url,
        model=judge.model,
        key=key,
        timeout=judge.timeout,
    )


def counted(run: RunDir, path: Path, task: Task) -> tuple[verdict.Cycle | None, verdict.Evaluation]:
    """What a finished grading adds up to, beside everything else graded in its run."""
    found = task.call("cycle", verdict.CycleRequest(run=str(run.path)), verdict.Evaluation)
    cycles: Sequence[verdict.Cycle] = [each for each in (found.main, *found.others) if each]
    return next((each for each in cycles if each.grades == path.name), None), found
