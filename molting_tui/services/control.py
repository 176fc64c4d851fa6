"""Asks a run's supervisor for something by dropping a file in `control/`."""

from __future__ import annotations

from typing import Literal

from engine.contract import durable
from engine.contract.rundir import RunDir

Command = Literal["stop", "stop-now", "save-now"]


def ask(run: RunDir, command: Command) -> None:
    """Drop the file. Asking twice is asking once. MoltingError when the disk refuses."""
    try:
        durable.make_private_dir(run.control)
        durable.write_replace(run.control / command, b"")
    except OSError as error:
        raise durable.explain(error, f"ask {run.id} to {command}") from None


def stopping(run: RunDir, state: str) -> bool:
    """Whether a live run in `state` was asked to stop already."""
    return state == "stopping" or (run.control / "stop").exists()
