"""`molting resume`: continue a run that has ended before its time."""

from __future__ import annotations

import typer

from engine.contract import calls

from ..services import engine
from .context import Json, Run, places, progress
from .train import Follow, hand_over


def resume(ctx: typer.Context, run: Run, follow: Follow = False, json: Json = False) -> None:
    """Continue from the newest valid checkpoint, from step 0 where there is none."""
    where = places(ctx)
    request = calls.RunRequest(run=str(where.find(run).path), models=str(where.models))
    with progress(json_wanted=json) as line:
        started = engine.call("resume", request, calls.Started, line)
    hand_over(started, follow=follow, json=json)
