"""`molting judge`: a language model as a second rater of a run's answers; never part of a score."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from engine.contract import rubric as rubrics
from engine.contract import settings, verdict
from engine.contract.errors import MoltingError
from engine.contract.settings import Judge

from .. import terminal
from ..grade_lines import agreement_line, cycle_lines
from ..services import engine, grades
from ..terminal import one_line
from ..text import plural
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
    asked = settings.load().judge
    chosen = grades.sheet_to_grade(found, sheet)
    request = verdict.JudgeRequest(
        run=str(found.path),
        sheet=str(found.sheet(chosen.header.name)),
        rubric=str(rubrics.find(rubric)) if rubric else "",
        base=base,
        base_url=asked.base_url,
        model=asked.model,
        key=_key(asked),
        timeout=asked.timeout,
    )
    with progress(json_wanted=json) as line:
        judged = engine.call("judge", request, verdict.Judged, line)
    if json:
        print_json(judged)
        return
    out = terminal.out()
    for each in cycle_lines(judged.cycle):
        out.line(each)
    out.line(f"discarded  {plural(judged.discarded, 'cell')} without two replies that agree")
    for agreed in judged.agreements:
        out.line(agreement_line(agreed))
    if not judged.agreements:
        out.line("agreement  nobody else has graded these answers yet")
    out.line()
    out.line(f"A judge's grades are never part of a score. They are in {one_line(judged.grades)}.")


def _key(asked: Judge) -> str:
    """The endpoint's key. MoltingError (code 2) where the settings name no judge, or a variable that is not set."""
    if not asked.base_url or not asked.model:
        raise MoltingError(
            "There is no judge in the settings.",
            remedy="Set base_url and model in the section [judge] of config.toml.",
            code=2,
        )
    if asked.api_key_env and not os.environ.get(asked.api_key_env):
        raise MoltingError(
            f"The settings say that the judge's key is in {asked.api_key_env}, which is not set.",
            remedy=f"export {asked.api_key_env}=…",
            code=2,
        )
    return os.environ.get(asked.api_key_env, "") if asked.api_key_env else ""
