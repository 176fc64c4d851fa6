"""`molting report`: one run as Markdown and one HTML file; what people wrote into its notes is kept."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.contract import verdict

from .. import terminal
from ..services import engine
from ..terminal import one_line
from .context import Json, Run, places, print_json, progress


def report(
    ctx: typer.Context,
    run: Run,
    against: Annotated[str, typer.Option(metavar="RUN", help="Compare with this run; else with its parent.")] = "",
    short: Annotated[bool, typer.Option("--short", help="Print a few lines fit to post.")] = False,
    json: Json = False,
) -> None:
    """Write the cycle report of a run into it: report.md and report.html."""
    where = places(ctx)
    request = verdict.ReportRequest(
        run=str(where.find(run).path), against=str(where.find(against).path) if against else ""
    )
    with progress(json_wanted=json) as line:
        made = engine.call("report", request, verdict.Reported, line)
    for warning in made.warnings:
        terminal.warn(warning)
    if json:
        print_json(made)
        return
    out = terminal.out()
    for said in made.short.splitlines() if short else [made.sentence]:
        out.line(one_line(said))
    if not short:
        for each in made.missing:
            terminal.warn(each)
        out.line(one_line(made.markdown))
        out.line(one_line(made.html))
