"""The verb `export`: the curves of a run for TensorBoard, trackio or Weights & Biases. Nothing leaves this machine.

The trackers are optional packages, imported only here and only when asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from engine.checks.history import History, read_history
from engine.contract import calls, durable, outputs, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec

from .private import Cleaner

PROJECT = "molting"
_TOLD = ("method", "training", "generation")  # sections of the spec that go along: no paths, no texts


class Point(NamedTuple):
    """What was measured at one optimizer step, at Unix time `t`."""

    step: int
    t: float
    values: dict[str, float]


class Exporting(NamedTuple):
    """A run as the trackers take it."""

    run: RunDir
    name: str
    config: dict[str, Any]
    points: list[Point]


def export(request: outputs.ExportRequest, tell: Callable[[calls.Line], None]) -> outputs.Exported:
    """Write the curves of a run into a folder. MoltingError where the tracker is absent, or nothing was learned."""
    run, folder = RunDir(Path(request.run)), Path(request.dir)
    spec, history = summary.load_spec(run), read_history(run)
    points = list(points_of(history))
    if not points:
        raise MoltingError(f"{run.id} has made no step yet, so there are no curves to export.", code=1)
    durable.make_private_dir(folder)
    made = Exporting(run, spec.name or run.id, config_of(spec), points)
    try:
        path = _WRITERS[request.to](made, folder)
    except OSError as error:
        raise durable.explain(error, f"write to {folder}") from error
    return outputs.Exported(
        run=run.id, to=request.to, path=str(path), steps=len(history.metrics), evals=len(history.evals)
    )


def points_of(history: History) -> Iterator[Point]:
    """Steps and evaluations in the order of their steps; what was not a finite number is left out. Pure."""
    for metric in history.metrics:
        named = {
            "train/loss": metric.loss,
            "train/grad_norm": metric.grad_norm,
            "train/learning_rate": metric.lr,
            "train/epoch": metric.epoch,
            "train/tokens": float(metric.tokens),
            "train/seconds": metric.seconds,
        }
        yield Point(metric.step, metric.t, {key: value for key, value in named.items() if value is not None})
    for event in history.evals:
        if event.loss is not None:
            yield Point(event.step, event.t, {"eval/loss": event.loss})


def config_of(spec: Spec) -> dict[str, Any]:
    """What trackers show beside the curves. Texts and folders stay here: the folder may be given away. Pure."""
    values = msgspec.to_builtins(spec)
    base = spec.model.base.rstrip("/").rpartition("/")[2] if spec.model.base.startswith("/") else spec.model.base
    told = {section: values[section] for section in _TOLD}
    return told | {"base": Cleaner()(base), "parent": spec.parent, "sweep": spec.sweep.id}


def _tensorboard(made: Exporting, folder: Path) -> Path:
    _needs("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    target = folder / made.run.id
    _require_new(target)
    writer = EventFileWriter(str(target))
    for point in made.points:
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
        writer.add_event(Event(wall_time=point.t, step=point.step, summary=Summary(value=scalars)))
    writer.close()
    return target


def _trackio(made: Exporting, folder: Path) -> Path:
    for name in [name for name in os.environ if name.startswith("TRACKIO_")]:
        del os.environ[name]  # they could name a Space or a server to send to
    os.environ["TRACKIO_DIR"] = str(folder)  # read when trackio is imported
    trackio = _needs("trackio")
    trackio.init(
        project=PROJECT, name=made.run.id, config=made.config, embed=False, auto_log_gpu=False, auto_log_cpu=False
    )
    for point in made.points:
        trackio.log(point.values, step=point.step)
    trackio.finish()
    return folder


def _wandb(made: Exporting, folder: Path) -> Path:
    wandb = _needs("wandb")
    quiet = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        save_code=False,
        silent=True,
        x_disable_meta=True,
        x_disable_stats=True,
    )
    logged = wandb.init(
        project=PROJECT,
        id=made.run.id,
        name=made.name,
        group=made.config["sweep"] or None,
        config=made.config,
        dir=str(folder),
        mode="offline",
        settings=quiet,
    )
    for point in sorted(made.points, key=lambda each: each.step):  # it takes no step back
        logged.log(point.values, step=point.step)
    logged.finish()
    return Path(logged.dir).parent


_WRITERS: dict[outputs.Tracker, Callable[[Exporting, Path], Path]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}


def _require_new(target: Path) -> None:
    if target.exists():
        raise MoltingError(
            f"{target} is there already: the run was exported before, and its curves would be drawn twice.",
            remedy="Remove it, or give another --dir.",
            code=2,
        )


def _needs(name: outputs.Tracker) -> ModuleType:
    """The tracker's module. MoltingError (code 3) where its package is absent."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing != name:
            raise MoltingError(
                f"{name} is installed but cannot be used: {error}.", remedy=f"Install {name} anew."
            ) from None
        raise MoltingError(
            f"{name} is not installed here, and the export writes with it.",
            remedy=f"`pip install {name}` beside Molting; `pip install 'molting[trackers]'` brings all three.",
        ) from None
