"""Sealed checkpoints: which one to resume from, and which to let go. Writing one is the trainer's."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.contract import durable
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

# Without any of these the HF trainer resumes silently with a fresh optimizer, rate or random state.
REQUIRED = ("optimizer.pt", "scheduler.pt", "trainer_state.json", "progress.json")
RANDOM = ("rng_state.pth", "rng_state_0.pth")  # of one process, or of the first of several


def problems(path: Path) -> list[str]:
    """Why `path` must not be resumed from; empty for a sealed and complete checkpoint."""
    found = durable.check_seal(path)
    if found:
        return found
    files = durable.read_manifest(path).files
    lacking = [name for name in REQUIRED if name not in files]
    lacking += [] if any(name in files for name in RANDOM) else [RANDOM[0]]
    return [f"{path.name} has no {name}." for name in lacking]


def newest_valid(run: RunDir) -> tuple[int, Path | None, list[str]]:
    """(step, checkpoint, what was wrong with newer ones); step 0 and None where there is none."""
    refused: list[str] = []
    for step in run.checkpoint_steps():
        wrong = problems(run.checkpoint(step))
        if not wrong:
            return step, run.checkpoint(step), refused
        refused.append(f"Checkpoint {step} is not used: {wrong[0]}")
    return 0, None, refused


def rotate(run: RunDir, keep: int, best: int | None) -> None:
    """Delete all but the `keep` newest sealed checkpoints and the best one; nothing that is not ours."""
    for step in run.checkpoint_steps()[keep:]:
        path = run.checkpoint(step)
        if step != best and (path / durable.MANIFEST).is_file():
            shutil.rmtree(path, ignore_errors=True)


def clear_staging(run: RunDir) -> None:
    """Remove what an attempt that was killed while saving left behind."""
    for leftover in run.checkpoints.glob(".staging-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def require_space(run: RunDir, last_size: int) -> None:
    """Raise MoltingError (disk_full) unless twice the last checkpoint fits on the disk."""
    free = durable.free_bytes(run.path)
    if free < 2 * last_size:
        raise disk_full(run, free, f"a checkpoint needs {2 * last_size / 1e6:.0f} MB")


def disk_full(run: RunDir, free: int, why: str) -> MoltingError:
    return MoltingError(
        f"The disk of {run.path} has {free / 1e6:.0f} MB free and {why}.",
        remedy=f"Free some space, then `molting resume {run.id}`: the checkpoints before this are whole.",
        reason="disk_full",
    )


def size_of(path: Path) -> int:
    """Bytes of the files below `path`."""
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def set_aside(run: RunDir, newer_than: int) -> None:
    """Rename checkpoints after step `newer_than`, so that the steps which are repeated can be saved again."""
    for step in run.checkpoint_steps():
        if step > newer_than:
            path = run.checkpoint(step)
            target = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(target, ignore_errors=True)
            path.rename(target)
