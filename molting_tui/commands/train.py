"""`molting train`: freeze a spec into a run and start it, detached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.contract import calls
from engine.contract.rundir import RunDir

from .. import terminal
from ..services import engine
from . import attach
from .context import Json, Places, SpecFile, places, print_json, progress, spec_file

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Stay and follow the run.")]


def train(ctx: typer.Context, spec: SpecFile, follow: Follow = False, json: Json = False) -> None:
    """Start a run, detached: it goes on when this terminal closes. Prints its id."""
    started = create(places(ctx), spec_file(spec), json=json)
    hand_over(started, follow=follow, json=json)


def create(where: Places, spec: Path, *, json: bool) -> calls.Started:
    """Freeze `spec` into a new run and start its supervisor."""
    request = calls.CreateRequest(spec=str(spec), runs=str(where.runs), models=str(where.models))
    with progress(json_wanted=json) as line:
        return engine.call("create", request, calls.Started, line)


def hand_over(started: calls.Started, *, follow: bool, json: bool) -> None:
    """Print the id, or stay and follow."""
    run = RunDir(Path(started.path))
    if follow:
        attach.finish(run, attach.follow(run, quiet=json), json=json)
    elif json:
        print_json({"run": started.run, "state": started.state, "path": started.path})
    else:
        terminal.out().line(started.run)
        terminal.err().line(f"It runs without this terminal. `molting attach {started.run}` follows it.")
