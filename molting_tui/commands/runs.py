"""`molting runs`: the table of runs."""

from __future__ import annotations

from typing import Any

import typer

from engine.contract import names, rundir, summary
from engine.contract.summary import Summary

from .. import terminal, text
from ..terminal import one_line
from .context import Json, places, print_json

_HEAD = ["", "name", "state", "step", "eta", "rows/s", "tok/s", "shared", "loss", "eval", "score", "age", "id"]
_RIGHT = frozenset(range(3, 12))
_SCORE, _ROWS, _SHARED = map(_HEAD.index, ("score", "rows/s", "shared"))
_NAME_WIDTH = 28


def runs(ctx: typer.Context, json: Json = False) -> None:
    """List the runs, those that are live first."""
    where = places(ctx).runs
    found = summary.newest_first(summary.summarise(run) for run in rundir.listed(where))
    given = names.given(where)
    if json:
        print_json({"runs": [as_json(each) | {"name": given.get(each.id) or each.name} for each in found]})
        return
    for each in found:
        each.name = names.shown(each.id, each.name, given)
    out = terminal.out()
    if not found:
        out.line(f"No runs in {one_line(str(where))} yet. `molting demo` makes one.")
        return
    rows = [_HEAD, *(row(each, out) for each in found)]
    if all(each.score is None for each in found):
        rows = [[*cells[:_SCORE], "", *cells[_SCORE + 1 :]] for cells in rows]
    if not any(each.live and each.rows_rate for each in found):
        rows = [[*cells[:_ROWS], "", "", "", *cells[_SHARED + 1 :]] for cells in rows]
    lines = list(text.table(rows, _RIGHT))
    out.line(out.paint("dim", lines[0]))
    for line, each in zip(lines[1:], found, strict=True):
        out.line(out.paint(each.state, line[:1]) + line[1:])
    for each in found:
        if each.problem:
            terminal.warn(f"{each.id}: {each.problem}")


def row(each: Summary, out: terminal.Terminal) -> list[str]:
    """The cells of one run."""
    name = one_line(each.name)
    name = text.fit(name, _NAME_WIDTH).rstrip() if len(name) > _NAME_WIDTH else name
    state = f"{each.state} ({each.reason})" if each.reason else each.state
    return [
        out.mark(each.state),
        name,
        state,
        f"{each.step}/{each.steps or '?'}" if each.step or each.steps else "–",
        text.clock(each.eta),
        *speed(each),
        loss(each),
        text.number(each.eval_loss),
        text.number(each.score),
        text.age(each.age()),
        each.id,
    ]


def speed(each: Summary) -> list[str]:
    """Rows and tokens a second while it trains, and the share of tokens that sharing saved."""
    if not each.live:
        return [text.DASH] * 3
    shared = text.percent(each.shared) if each.shared is not None else text.DASH
    return [text.number(each.rows_rate), text.number(each.token_rate), shared]


def loss(each: Summary) -> str:
    """The last loss; one that was not finite says so."""
    return "nan" if each.loss is None and each.trend else text.number(each.loss)


def as_json(each: Summary) -> dict[str, Any]:
    """The object that scripts get for one run."""
    keys = (
        "id name state reason why attempt step steps loss eval_loss score eta checkpoint resumable base method "
        "rows_rate token_rate shared parent sweep changes started warnings problem path"
    )
    return {key: getattr(each, key) for key in keys.split()} | {"age": each.age()}
