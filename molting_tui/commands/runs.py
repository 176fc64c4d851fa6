"""`molting runs`: the table of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.contract import names, rundir, slurm, summary
from engine.contract.summary import Summary

from .. import terminal, text
from ..services.watch import RunsWatch
from ..terminal import one_line
from .context import Json, places, print_json

_HEAD = ["", "name", "state", "step", "eta", "rows/s", "tok/s", "shared", "loss", "eval", "score", "age", "id"]
_RIGHT = frozenset(range(3, 12))
_SCORE, _ROWS, _SHARED = map(_HEAD.index, ("score", "rows/s", "shared"))
_NAME_WIDTH = 28
_EVERY = 1.0  # seconds between looks for changes


Follow = Annotated[bool, typer.Option("--follow", "-f", help="Then a line for every change, until Ctrl+C.")]


def runs(ctx: typer.Context, follow: Follow = False, json: Json = False) -> None:
    """List the runs, those that are live first."""
    where = places(ctx).runs
    if follow:
        _follow(where, json)
        return
    listed = list(rundir.listed(where))
    silent = slurm.refresh_for(listed)
    found = summary.newest_first(summary.summarise(run) for run in listed)
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
    if silent:
        terminal.warn(f"What Slurm last said is shown. {silent}")


def _follow(where: Path, json: bool) -> None:
    """A line for each run and then for each change of one; with `json` an object, in which defaults are left out."""
    watch, complete = RunsWatch(where), False
    while True:
        for seen in watch.poll():
            given = names.given(where) if seen.changed else {}
            for each in seen.changed:
                each.name = given.get(each.id) or each.name
                _tell(each, json)
            for gone in seen.gone if json else []:
                print_json({"gone": gone})
        if json and not complete:
            print_json({"complete": True})
        complete = True
        terminal.pause(_EVERY)


def _tell(each: Summary, json: bool) -> None:
    if json:
        print_json({"run": changes(each)})
        return
    out = terminal.out()
    each.name = names.shown(each.id, each.name, {})
    out.line("  ".join(cell for cell in row(each, out) if cell != text.DASH))


def changes(each: Summary) -> dict[str, Any]:
    """All of a summary that is not as in a new one."""
    new = Summary(id="", path="", name="", state="queued")
    said = {key: getattr(each, key) for key in Summary.__struct_fields__}
    return {key: value for key, value in said.items() if key == "state" or value != getattr(new, key)}


def row(each: Summary, out: terminal.Terminal) -> list[str]:
    """The cells of one run."""
    name = one_line(each.name)
    name = text.fit(name, _NAME_WIDTH).rstrip() if len(name) > _NAME_WIDTH else name
    word = each.reason or (each.job.word if each.job and each.live else "")
    state = f"{each.state} ({word})" if word else each.state
    return [
        out.mark(each.state),
        name,
        state,
        f"{each.step}/{each.steps or '?'}{_seen(each)}" if each.step or each.steps else "–",
        text.clock(each.eta),
        *speed(each),
        loss(each),
        text.number(each.eval_loss),
        text.number(each.score),
        text.age(each.age()),
        each.id,
    ]


def _seen(each: Summary) -> str:
    """How much of a stream was learned from."""
    return "" if each.seen is None else f" ({text.fine_percent(each.seen)} seen)"


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
        "rows_rate token_rate shared records seen parent sweep changes started slurm job warnings problem path"
    )
    return {key: getattr(each, key) for key in keys.split()} | {"age": each.age()}
