"""The way into a grading: who grades, which sheet, what of it; nothing is asked twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract import rubric as rubrics
from engine.contract import summary, verdict
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.sheets import Sheet

from ..grade_lines import end_lines, judged_lines
from ..services import grades
from ..services.grades import Wanted
from ..state.view import View
from .dialog import Ask, Choice, Confirm
from .grade import Grade, Pairs
from .grade_dialogs import GradeEnd
from .job import Job

if TYPE_CHECKING:
    from ..app import MoltingApp

_OWN, _BOTH, _PAIRS = "the run's answers", "the base's answers too, mixed in", "pairs: base against the run"
_SHOW = "show what I graded"
_JUDGE = "a language model as second rater: the judge of config.toml"


async def grade(app: MoltingApp, run: RunDir, wanted: Wanted | None = None) -> None:
    """Ask for what is not told, then open the form. Called in a worker; failures are told."""
    try:
        rater = wanted.rater if wanted else ""
        rater = rater or app.runs.view.choices.get(grades.RATER, "") or await _rater(app)
        if not rater:
            return
        sheet = grades.newest_sheet(run, wanted.sheet if wanted else "") or await _make_sheet(app, run)
        if sheet is None:
            return
        if wanted is None:
            wanted = await _what(app, run, sheet, rater)
        if wanted is None:
            return
        wanted = Wanted(rater, sheet.header.name, wanted.rubric, wanted.mode, wanted.base, wanted.against)
        left = grades.unfinished(run, sheet, wanted)
        sitting = grades.resume(sheet, left) if left else grades.begin(run, sheet, wanted)
    except MoltingError as error:
        app.fail(error)
        return
    page = Pairs if sitting.form.opened.mode == "pairs" else Grade
    app.push_screen(page(run, sitting, wanted))


async def _rater(app: MoltingApp) -> str:
    """The rater's name, asked once and remembered."""
    ask = Ask("Who grades?", hint="your name; it stands in the grade file and is asked once", problem=_no_name)
    name = (await app.push_screen_wait(ask) or "").strip()
    if name:
        remember(app, name)
    return name


def _no_name(value: str) -> str:
    return "" if value.strip() and len(value) <= 60 else "Give a name of at most 60 letters."


def remember(app: MoltingApp, name: str) -> None:
    """Keep the rater's name for the next time."""

    def edit(view: View) -> None:
        view.choices[grades.RATER] = name

    edit(app.runs.view)
    app.store.change(edit)


async def _what(app: MoltingApp, run: RunDir, sheet: Sheet, rater: str) -> Wanted | None:
    """What is unfinished goes on by itself; else ask, as far as there is a choice."""
    left = grades.any_unfinished(run, sheet, rater)
    if left is not None:
        return grades.wanted_of(left)
    done = grades.finished(run, sheet, Wanted(rater))
    choices = [_OWN, *([_BOTH, _PAIRS] if len(sheet.voices) > 1 else []), *([_SHOW] if done else [])]
    # Not before the rater is done, whom its levels would lead.
    choices += [_JUDGE] if done and app.settings.judge.base_url else []
    chosen = choices[0]
    if len(choices) > 1:
        chosen = await app.push_screen_wait(Choice("Grade what?", choices, _SHOW if done else _OWN)) or ""
    if chosen == _SHOW and done:
        found = await app.push_screen_wait(Job("Adding up", lambda task: grades.counted(run, done, task)))
        if isinstance(found, MoltingError):
            raise found
        if found is not None:
            await app.push_screen_wait(GradeEnd(f"Graded: {app.runs.name(run.id)}", end_lines(run.id, done, *found)))
        return None
    if chosen == _JUDGE:
        await _judge(app, run, sheet)
        return None
    if not chosen:
        return None
    return Wanted(rater, mode="pairs" if chosen == _PAIRS else "cells", base=chosen == _BOTH)


async def _judge(app: MoltingApp, run: RunDir, sheet: Sheet) -> None:
    """The model of [judge] in the settings as a second rater, and how far it agrees with people."""
    request = grades.judge_request(run, sheet, app.settings.judge)
    name, model = app.runs.name(run.id), app.settings.judge.model
    job = Job(f"{model} judges {name}", lambda task: task.call("judge", request, verdict.Judged))
    judged = await app.push_screen_wait(job)
    if isinstance(judged, MoltingError):
        raise judged
    if judged is not None:
        await app.push_screen_wait(GradeEnd(f"Judged by {model}: {name}", judged_lines(judged)))


async def _make_sheet(app: MoltingApp, run: RunDir) -> Sheet | None:
    """Offer to let the run answer now."""
    file = rubrics.for_persona(summary.name_of(run))
    questions = len(rubrics.load(file).questions)
    said = f"The {questions} questions of the rubric “{file.stem}” are put to base and adapter first."
    name = app.runs.name(run.id)
    if not await app.push_screen_wait(Confirm(f"{name} has no answers to grade yet.", said, "Answer now", "Not now")):
        return None
    request = verdict.AnswersRequest(run=str(run.path), models=str(app.places.models), rubric=str(file))
    job = Job(f"{name} answers", lambda task: task.call("answers", request, verdict.Answered))
    made = await app.push_screen_wait(job)
    if isinstance(made, MoltingError):
        raise made
    return grades.newest_sheet(run, made.sheet) if made else None
