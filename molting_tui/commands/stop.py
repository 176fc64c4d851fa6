"""`molting stop`: end a run, saving first."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from engine.contract import calls, slurm, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.summary import Summary

from .. import terminal, text
from ..services import control, engine
from .context import Json, Run, places, print_json, progress

PATIENCE = 90.0  # seconds; a supervisor ends by force what has not stopped after 60
_POLL = 0.2


def stop(
    ctx: typer.Context,
    run: Run,
    now: Annotated[bool, typer.Option("--now", help="End it at once, without saving.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has ended.")] = True,
    json: Json = False,
) -> None:
    """Finish the step, save, and end the run. Stopping a run that has ended is no error; asked twice, offers --now."""
    found = places(ctx).find(run)
    slurm.refresh_for([found])
    before = summary.summarise(found)
    if not before.live or before.owned is False:
        _say(before, _nothing_to_stop(before), json)
        return
    at_once = now or _insists(found, before, json=json)
    control.ask(found, "stop-now" if at_once else "stop")
    if before.slurm:
        engine.call("stop-job", calls.StopJobRequest(run=str(found.path), now=at_once), calls.Started)
    after = _wait(found, json=json) if wait else summary.summarise(found)
    _say(after, _outcome(after), json)


def _insists(run: RunDir, seen: Summary, *, json: bool) -> bool:
    """Whether a run that was asked to stop already is to end now: somebody at a terminal is asked, others are told."""
    if not control.stopping(run, seen.state):
        return False
    lost = text.plural(max(0, seen.step - (seen.checkpoint or 0)), "step")
    said = f"{seen.id} was asked to stop already and is saving."
    if not json and sys.stdin.isatty() and terminal.out().tty:
        return typer.confirm(f"{said} End it now instead? {lost} since the last checkpoint would be lost", err=True)
    terminal.err().line(f"{said} `molting stop --now {seen.id}` ends it at once; {lost} would be lost.")
    return False


def _wait(run: RunDir, *, json: bool) -> Summary:
    began = time.monotonic()
    with progress(json_wanted=json) as line:
        while (seen := summary.summarise(run)).live:
            waited = time.monotonic() - began
            if waited > PATIENCE:
                raise MoltingError(
                    f"{run.id} was asked to stop {PATIENCE:.0f} s ago and is still {seen.state}.",
                    remedy=f"`molting stop --now {run.id}` ends it at once.",
                )
            if seen.slurm:
                slurm.refresh_soon()
            line(calls.Progress(phase=f"{run.id} is {seen.state}; stopping", done=waited, unit="s"))
            time.sleep(_POLL)
        line.clear()
    return seen


def _nothing_to_stop(seen: Summary) -> str:
    if seen.live:
        return f"{seen.id} is {seen.state}, but no supervisor looks after it, so nothing runs."
    if seen.state == "lost":
        return f"{seen.id} is lost: its supervisor died, so nothing runs. `molting resume {seen.id}` continues it."
    return f"{seen.id} has ended already: {seen.state}."


def _outcome(seen: Summary) -> str:
    if seen.live:
        return f"{seen.id} was asked to stop."
    saved = f" Saved at step {seen.checkpoint}." if seen.checkpoint is not None else ""
    resumable = f" `molting resume {seen.id}` continues it." if seen.state != "finished" else ""
    return f"{seen.id} is {seen.state}.{saved}{resumable}"


def _say(seen: Summary, sentence: str, json: bool) -> None:
    if json:
        print_json({"run": seen.id, "state": seen.state, "path": seen.path})
    else:
        terminal.out().line(sentence)
