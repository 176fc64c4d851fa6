"""`molting judge`: a language model as a second rater of a run's answers; never part of a score."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.contract import rubric as rubrics
from engine.contract import settings, verdict

from .. import terminal
from ..grade_lines import judged_lines
from ..services import engine, grades
from .context import Json, Run, places, print_json, progress


def judge(
    ctx: typer.Context,
    run: Run,
    sheet: Annotated[str, typer.Option(metavar="NAME", help="An answer sheet of the run; else the newest.")] = "",
    rubric: Annotated[
        str, typer.Option(metavar="R", help="Judge by this rubric; else by the one the sheet was made with.")
    ] = "",
    base: Annotated[bool, typer.Option("--base", help="The base's answers too.")] = False,
    json: Json = False,
) -> None:
    """Let the language model of [judge] in config.toml grade a run's answers, and say how far it agrees with people."""
    found = places(ctx).find(run)
    by = rubrics.find(rubric) if rubric else None
    request = grades.judge_request(found, grades.sheet_to_grade(found, sheet), settings.load().judge, by, base=base)
    with progress(json_wanted=json) as line:
        judged = engine.call("judge", request, verdict.Judged, line)
    if json:
        print_json(judged)
        return
    for each in judged_lines(judged):
        terminal.out().line(each)
