"""Damaged checkpoints are refused with a sentence, and an older sealed one is used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract import durable, events
from engine.contract.rundir import RunDir
from engine.train import checkpoint
from tests.support.world import World, metrics, read_events, wait_for, wait_for_step

pytestmark = pytest.mark.slow
STATE = (*checkpoint.REQUIRED, checkpoint.RANDOM[0])


@pytest.fixture(scope="module")
def interrupted(world: World) -> RunDir:
    """A run stopped with at least two sealed checkpoints."""
    run = world.train(world.persona(training={"max_steps": 400, "save_every": 2, "keep": 3}))
    wait_for_step(run, 6)
    (run.control / "stop").touch()
    wait_for(run, "interrupted")
    assert len(run.checkpoint_steps()) >= 3
    return run


@pytest.fixture
def copy(interrupted: RunDir, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(interrupted.path, tmp_path / interrupted.id)))


def truncate(name: str) -> Callable[[Path], None]:
    return lambda path: os.truncate(path / name, (path / name).stat().st_size // 2)


def remove(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def flip(path: Path) -> None:
    file = path / "adapter_model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


def link(path: Path) -> None:
    (path / "optimizer.pt").unlink()
    (path / "optimizer.pt").symlink_to("/etc/hostname")


def pickle_added(path: Path) -> None:
    (path / "adapter_model.bin").write_bytes(b"\x80\x04.")


def foreign(path: Path) -> None:
    manifest = json.loads((path / durable.MANIFEST).read_text())
    manifest["uid"] += 1
    (path / durable.MANIFEST).write_text(json.dumps(manifest))


def forgotten(name: str) -> Callable[[Path], None]:
    """The file is gone from the folder and from the manifest, as if it had never been saved."""

    def damage(path: Path) -> None:
        (path / name).unlink()
        manifest = json.loads((path / durable.MANIFEST).read_text())
        del manifest["files"][name]
        (path / durable.MANIFEST).write_text(json.dumps(manifest))

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty directory": empty,
    "no manifest": remove(durable.MANIFEST),
    "manifest torn": truncate(durable.MANIFEST),
    "manifest of another user": foreign,
    "one bit flipped": flip,
    "symlink for a file": link,
    "a pickle that nobody sealed": pickle_added,
    **{f"no {name}": remove(name) for name in STATE},
    **{f"{name} never saved": forgotten(name) for name in STATE},
    **{f"{name} truncated": truncate(name) for name in (*STATE, "adapter_model.safetensors")},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_passed_over(copy: RunDir, damage: Callable[[Path], None]) -> None:
    newest, older = copy.checkpoint_steps()[:2]
    damage(copy.checkpoint(newest))
    step, path, refused = checkpoint.newest_valid(copy)
    assert (step, path) == (older, copy.checkpoint(older))
    assert len(refused) == 1
    assert f"Checkpoint {newest} is not used" in refused[0]
    assert refused[0].endswith(".")


def test_nothing_valid_means_step_zero(copy: RunDir) -> None:
    for step in copy.checkpoint_steps():
        empty(copy.checkpoint(step))
    step, path, refused = checkpoint.newest_valid(copy)
    assert (step, path) == (0, None)
    assert len(refused) >= 3


def test_resume_goes_on_from_the_older_one_and_says_so(world: World, interrupted: RunDir) -> None:
    run = RunDir(Path(shutil.copytree(interrupted.path, world.runs / "copied-run")))
    newest, older = run.checkpoint_steps()[:2]
    before = metrics(run)
    os.truncate(run.checkpoint(newest) / "optimizer.pt", 100)
    world.resume(run)
    wait_for_step(run, newest + 1)
    (run.control / "stop").touch()
    wait_for(run, "interrupted")
    attempt = run.attempts()[-1].number
    said = read_events(run, attempt)
    assert next(event for event in said if isinstance(event, events.Start)).step == older
    assert any(isinstance(event, events.Warn) and event.id == "checkpoint-refused" for event in said)
    again = {event.step: event.loss for event in said if isinstance(event, events.Metric)}
    assert again[newest] == before[newest].loss, "the repeated steps are the same steps"


def test_rotation_spares_what_is_not_ours(copy: RunDir) -> None:
    for name in ("checkpoint-best-mine", "notes", "step-99999999"):
        (copy.checkpoints / name).mkdir()
    steps = copy.checkpoint_steps()
    best = steps[-1]
    checkpoint.rotate(copy, keep=2, best=best)
    left = {entry.name for entry in copy.checkpoints.iterdir()}
    ours = {copy.checkpoint(step).name for step in (*steps[:2], best)}
    assert left == {"checkpoint-best-mine", "notes", "step-99999999"} | ours


def test_too_little_space_is_said_before_anything_is_written(copy: RunDir) -> None:
    with pytest.raises(checkpoint.MoltingError, match="MB free") as caught:
        checkpoint.require_space(copy, last_size=durable.free_bytes(copy.path))
    assert caught.value.reason == "disk_full"
    assert "resume" in caught.value.remedy
