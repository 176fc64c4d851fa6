"""Deleting runs with a way back: they move to `runs/.trash` and stay there until it is emptied."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.contract import durable, lifecycle, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

FOLDER = ".trash"


def delete(run: RunDir) -> Path:
    """Move a run to the trash; returns where it lies now. MoltingError while something works on it."""
    seen = summary.summarise(run)
    if seen.owned is not False and seen.state in lifecycle.LIVE:
        raise MoltingError(f"{run.id} is {seen.state}, so it was not deleted.", remedy="Stop it first.")
    if summary.owner_alive(run):
        raise MoltingError(f"A supervisor still works on {run.id}, so it was not deleted.", remedy="Stop it first.")
    trash = run.path.parent / FOLDER
    target = trash / run.id
    try:
        durable.make_private_dir(trash)
        run.path.rename(target)
    except OSError as error:
        raise durable.explain(error, f"move {run.id} to {trash}") from None
    return target


def restore(run_id: str, runs: Path) -> None:
    """Bring a run back from the trash. MoltingError when it is not there or its place is taken."""
    source, target = runs / FOLDER / run_id, runs / run_id
    if target.exists():
        raise MoltingError(f"There is a run {run_id} again, so the deleted one stays in {source.parent}.")
    try:
        source.rename(target)
    except OSError as error:
        raise durable.explain(error, f"bring {run_id} back from {source.parent}") from None


def contents(runs: Path) -> list[str]:
    """Ids of the runs in the trash."""
    trash = runs / FOLDER
    return sorted(entry.name for entry in trash.iterdir()) if trash.is_dir() else []


def empty(runs: Path) -> int:
    """Delete what is in the trash for good; how many runs that were."""
    gone = contents(runs)
    for name in gone:
        path = runs / FOLDER / name
        try:
            path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)
        except OSError as error:
            raise durable.explain(error, f"delete {path}") from None
    return len(gone)
