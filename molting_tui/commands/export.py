"""`molting export`: the curves of a run for TensorBoard, trackio or Weights & Biases."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from engine.contract import outputs

from .. import terminal, text
from ..services import engine
from ..terminal import one_line
from .context import Json, Run, places, print_json, progress


class Tracker(str, Enum):
    """Where the curves can go."""

    tensorboard = "tensorboard"
    trackio = "trackio"
    wandb = "wandb"


_LOOK = {
    Tracker.tensorboard: "tensorboard --logdir {dir}",
    Tracker.trackio: "TRACKIO_DIR={dir} trackio show --project molting",
    Tracker.wandb: "wandb sync {path}  (sends it to Weights & Biases)",
}


def export(
    ctx: typer.Context,
    run: Run,
    to: Annotated[Tracker, typer.Option(help="The tracker that is to show the run.")],
    dir: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The folder that the tracker reads.")],
    json: Json = False,
) -> None:
    """Write the curves of a run into a folder that a tracker reads. Nothing leaves this machine."""
    folder = dir.expanduser().absolute()
    request = outputs.ExportRequest(run=str(places(ctx).find(run).path), to=to.value, dir=str(folder))
    with progress(json_wanted=json) as line:
        made = engine.call("export", request, outputs.Exported, line)
    if json:
        print_json(made)
        return
    terminal.out().line(
        f"{text.plural(made.steps, 'step')}, {text.plural(made.evals, 'evaluation')}: {one_line(made.path)}"
    )
    terminal.err().line(f"look: {one_line(_LOOK[to].format(dir=folder, path=made.path))}")
