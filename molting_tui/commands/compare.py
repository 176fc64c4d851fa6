"""`molting compare`: is B better than A, and could that have been seen at all?"""

from __future__ import annotations

from typing import Annotated

import typer

from engine.contract import verdict
from engine.contract.errors import MoltingError

from .. import terminal, verdicts
from ..services import engine
from .context import Json, places, print_json, progress


def compare(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="The run before (with --base: the only run).")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run after.")] = "",
    base: Annotated[bool, typer.Option("--base", help="Compare the base with the adapter of one run.")] = False,
    rater: Annotated[str, typer.Option(help="Use the gradings of this rater; else the last complete ones.")] = "",
    json: Json = False,
) -> None:
    """Compare two graded runs, or base and adapter of one, and give one of five verdicts."""
    if base == bool(b):
        raise MoltingError("Compare two runs, or one with --base.", remedy="`molting compare A B`", code=2)
    where = places(ctx)
    first = str(where.find(a).path)
    request = verdict.CompareRequest(
        a="" if base else first, b=first if base else str(where.find(b).path), base=base, rater=rater
    )
    with progress(json_wanted=json) as line:
        found = engine.call("compare", request, verdict.Comparison, line)
    if json:
        print_json(found)
        return
    out = terminal.out()
    for each in verdicts.lines(found, out):
        out.line(each)
