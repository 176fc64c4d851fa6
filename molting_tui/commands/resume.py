"""`molting resume`: continue a run that has ended before its time."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.contract import calls

from ..services import engine
from .context import Json, Run, places, progress
from .train import Follow, hand_over

Devices = Annotated[
    int, typer.Option("--devices", min=0, max=1024, help="With so many devices; 0: as the run's spec says.")
]


def resume(ctx: typer.Context, run: Run, follow: Follow = False, devices: Devices = 0, json: Json = False) -> None:
    """Continue from the newest valid checkpoint, from step 0 where there is none."""
    where = places(ctx)
    request = calls.RunRequest(run=str(where.find(run).path), models=str(where.models), devices=devices)
    with progress(json_wanted=json) as line:
        started = engine.call("resume", request, calls.Started, line)
    hand_over(started, follow=follow, json=json)
