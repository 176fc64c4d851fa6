"""`molting grade`: score the answers of a run, blind; the form on a terminal, a line for each answer elsewhere."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from engine.contract import grading
from engine.contract import rubric as rubrics
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from .. import line_form, terminal
from ..begin import Begin
from ..grade_lines import end_lines
from ..services import grades
from ..services.grades import Sitting, Wanted
from ..services.task import Task
from ..services.view_state import ViewStore
from ..terminal import one_line
from .context import Json, Places, Run, places, print_json


def grade(
    ctx: typer.Context,
    run: Run,
    sheet: Annotated[str, typer.Option(metavar="NAME", help="An answer sheet of the run; else the newest.")] = "",
    rater: Annotated[str, typer.Option(metavar="NAME", help="Who grades; else who graded here last.")] = "",
    rubric: Annotated[
        str, typer.Option(metavar="R", help="Grade by this rubric; else by the one the sheet was made with.")
    ] = "",
    rubric_of: Annotated[str, typer.Option(metavar="RUN", help="Grade by the rubric that RUN was graded by.")] = "",
    pairwise: Annotated[bool, typer.Option("--pairwise", help="Which of two answers is better?")] = False,
    base: Annotated[bool, typer.Option("--base", help="Mix in the base's answers.")] = False,
    against: Annotated[str, typer.Option(metavar="RUN", help="Pairs of this run's answers and those of RUN.")] = "",
    json: Json = False,
) -> None:
    """Grade a run's answers by keys, blind. Without a terminal every line of stdin grades one answer."""
    where = places(ctx)
    found = where.find(run)
    if rubric and rubric_of:
        raise MoltingError("Two rubrics are given.", remedy="Leave --rubric or --rubric-of away.", code=2)
    wanted = Wanted(
        rater=rater.strip(),
        sheet=sheet,
        rubric=grades.rubric_of(where.find(rubric_of)) if rubric_of else rubrics.find(rubric) if rubric else None,
        mode="pairs" if pairwise or against else "cells",
        base=base,
        against=where.find(against) if against else None,
    )
    if len(wanted.rater) > 60:
        raise MoltingError("That is too long for a rater's name.", remedy="Give at most 60 letters.", code=2)
    if sys.stdin.isatty() and terminal.out().tty and not json:
        from .open_app import open_app  # Textual is for the app alone

        if sheet:
            grades.sheet_to_grade(found, sheet)  # a wrong name is said here, not over the app
        plain = wanted == Wanted("")
        raise typer.Exit(open_app(where, Begin(grade=(found, None if plain else wanted))))
    _by_lines(where, found, wanted, json_wanted=json)


def _by_lines(where: Places, run: RunDir, wanted: Wanted, *, json_wanted: bool) -> None:
    name = wanted.rater or ViewStore(where.runs).read().choices.get(grades.RATER, "")
    if not name:
        raise MoltingError("Nobody has graded here yet.", remedy="Say who you are with --rater NAME.", code=2)
    wanted = Wanted(name, wanted.sheet, wanted.rubric, wanted.mode, wanted.base, wanted.against)
    sitting = grades.sit_down(run, wanted)
    try:
        _grade(run, wanted, sitting, silent=json_wanted)
        _tell_end(run, sitting, json_wanted=json_wanted)
    finally:
        sitting.close()


def _grade(run: RunDir, wanted: Wanted, sitting: Sitting, *, silent: bool) -> None:
    """Every line of stdin as an answer's grades; each is on the disk before the next answer is printed."""
    out, form = terminal.out(), sitting.form
    if form.opened.mode == "cells":
        form.hits = grades.hits(run, wanted, sitting.sheet, _quiet())
    for each in () if silent else line_form.rubric_page(form.rubric):
        out.line(each)
    number, shown = 0, None
    while not form.finished:
        here = (form.slot or form.bout, form.held)
        for each in () if silent or here == shown else line_form.place_lines(form):
            out.line(each)
        shown = here
        line = sys.stdin.readline()
        number += 1
        if not line:
            return
        if not line.strip():
            continue
        try:
            line_form.enter(sitting, line)
        except MoltingError as error:
            said = f"Line {number}: {error.message} What stood above it is saved."
            raise MoltingError(said, remedy=error.remedy, code=error.code) from None


def _tell_end(run: RunDir, sitting: Sitting, *, json_wanted: bool) -> None:
    form = sitting.form
    complete = form.grading.complete
    if json_wanted:
        print_json(_as_json(run, sitting))
        return
    if complete:
        cycle, found = grades.counted(run, sitting.path, _quiet())
        said = list(end_lines(run.id, sitting.path, cycle, found))
    else:
        where = one_line(str(sitting.path))
        said = [f"{form.settled} of {form.total} graded, in {where}. The same command goes on from there."]
    for each in said:
        terminal.out().line(each)


def _as_json(run: RunDir, sitting: Sitting) -> dict[str, Any]:
    form = sitting.form
    reached = grading.result(form.grading)
    return {
        "run": run.id,
        "sheet": form.opened.sheet,
        "rater": form.opened.rater,
        "mode": form.opened.mode,
        "grades": str(sitting.path),
        "done": form.settled,
        "total": form.total,
        "complete": form.grading.complete,
        "raw": reached.raw,
        "max": reached.most,
        "score": reached.score if form.grading.complete else None,
    }


def _quiet() -> Task:
    return Task(lambda heard: None)
