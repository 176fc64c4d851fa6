"""`molting runs`: the table of runs."""

from __future__ import annotations

from typing import Any

import typer

from engine.contract import rundir, summary
from engine.contract.summary import Summary

from .. import terminal, text
from ..terminal import one_line
from .context import Json, places, print_json

_HEAD = ["", "name", "state", "step", "eta", "loss", "eval", "age", "id"]
_RIGHT = frozenset({3, 4, 5, 6, 7})
_NAME_WIDTH = 28


def runs(ctx: typer.Context, json: Json = False) -> None:
    """List the runs, those that are live first."""
    where = places(ctx).runs
    found = summary.newest_first(summary.summarise(run) for run in rundir.listed(where))
    if json:
        print_json({"runs": [as_json(each) for each in found]})
        return
    out = terminal.out()
    if not found:
        out.line(f"No runs in {one_line(str(where))} yet. `molting demo` makes one.")
        return
    lines = list(text.table([_HEAD, *(row(each, out) for each in found)], _RIGHT))
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
        f"{each.step}/{each.steps or '?'}",
        text.clock(each.eta),
        loss(each),
        text.number(each.eval_loss),
        text.age(each.age()),
        each.id,
    ]


def loss(each: Summary) -> str:
    """The last loss; one that was not finite says so."""
    return "nan" if each.loss is None and each.trend else text.number(each.loss)


def as_json(each: Summary) -> dict[str, Any]:
    """The object that scripts get for one run."""
    keys = (
        "id name state reason why attempt step steps loss eval_loss score eta checkpoint resumable base method "
        "parent started warnings problem path"
    )
    return {key: getattr(each, key) for key in keys.split()} | {"age": each.age()}
