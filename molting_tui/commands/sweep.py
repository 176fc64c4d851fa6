"""`molting sweep`: several runs of one spec, and how they compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.contract import calls, names, rundir, summary, sweeps
from engine.contract.errors import MoltingError
from engine.contract.summary import Summary

from .. import terminal, text
from ..services import engine
from ..state import sweep_table
from ..terminal import one_line
from .context import Json, Places, places, print_json, progress, spec_file
from .runs import as_json

What = Annotated[
    list[str], typer.Argument(metavar="SPEC | show NAME", help="A spec with a [sweep]; or show, and a sweep.")
]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Show the runs that would be made; start nothing.")]


def sweep(ctx: typer.Context, what: What, plan: PlanOnly = False, json: Json = False) -> None:
    """Queue a run for every point of a spec's [sweep]; `show NAME` compares them, the best by held-out loss marked."""
    if what[0] == "show" and len(what) == 2:
        show(places(ctx), what[1], json=json)
        return
    if len(what) != 1 or what[0] == "show":
        raise MoltingError(
            "`molting sweep` takes a spec, or `show` and a sweep.",
            remedy="`molting sweep SPEC` or `molting sweep show NAME`",
            code=2,
        )
    queue(places(ctx), spec_file(Path(what[0])), plan=plan, json=json)


def queue(where: Places, spec: Path, *, plan: bool, json: bool) -> None:
    """Check and queue all runs, or only say what they would be."""
    request = calls.SweepRequest(spec=str(spec), runs=str(where.runs), models=str(where.models), start=not plan)
    with progress(json_wanted=json) as line:
        made = engine.call("sweep", request, calls.Sweeping, line)
    if json:
        print_json(made)
        return
    out = terminal.out()
    cells = [["run", "steps", "about", "id"]]
    cells += [[one_line(run.name), str(run.steps or "?"), text.clock(run.seconds), run.run] for run in made.runs]
    for each in text.table(cells, frozenset({1, 2})):
        out.line(each)
    total = f"about {text.clock(made.seconds)}" if made.seconds is not None else "how long is not known yet"
    out.line(f"{text.plural(len(made.runs), 'run')}, one after another, {total}.")
    if made.sweep:
        out.line(made.sweep)
        terminal.err().line(f"They run without this terminal. `molting sweep show {made.sweep}` compares them.")


def show(where: Places, wanted: str, *, json: bool) -> None:
    """One table of a sweep's runs."""
    found = [summary.summarise(run) for run in rundir.listed(where.runs)]
    name = find(found, wanted, names.given(where.runs))
    runs = sweep_table.members(found, name)
    if json:
        best = sweeps.best(runs) or None
        print_json({"sweep": name, "best": best, "runs": [as_json(run) for run in runs]})
        return
    out = terminal.out()
    for each in sweep_table.lines(runs, ascii=not out.unicode):
        out.line(each)


def find(runs: list[Summary], wanted: str, given: dict[str, str]) -> str:
    """The sweep meant by its id, a unique beginning of it, or one of its runs. MoltingError (code 2) otherwise."""
    known = sorted({run.sweep for run in runs if run.sweep})
    if wanted in known:
        return wanted
    matches = [sweep for sweep in known if wanted and sweep.startswith(wanted)]
    matches = matches or sorted(
        {run.sweep for run in runs if run.sweep and wanted in {run.id, names.shown(run.id, run.name, given)}}
    )
    if len(matches) == 1:
        return matches[0]
    shown = one_line(wanted)
    if matches:
        raise MoltingError(
            f"{len(matches)} sweeps are meant by {shown!r}: {', '.join(matches[:5])}.",
            remedy="Give more of it.",
            code=2,
        )
    there = f"There are: {', '.join(known[:5])}." if known else "`molting sweep SPEC` starts one."
    raise MoltingError(f"There is no sweep {shown!r}.", remedy=there, code=2)
