"""What is told of a Slurm that refuses, waits, is silent or absent; the real one is asked in train/test_slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.checks import cluster
from engine.contract.calls import Finding
from engine.contract.spec import Data, Launcher, Model, Spec

SPEC = Spec(model=Model(base="x"), data=Data(train="x"), launcher=Launcher(kind="slurm", partition="gpu"))


def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, spec: Spec = SPEC) -> list[Finding]:
    """With an `sbatch` that does `body` after it has written down what it was given."""
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n/bin/cat > {tmp_path}/script\n{body}\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cluster._asked.cache_clear()
    return [each for _ in range(3) for each in cluster.check(spec, tmp_path / "models")]


def test_the_script_itself_is_tried_once_and_not_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(tmp_path, monkeypatch, "exit 0") == []
    assert (tmp_path / "called").read_text() == "--test-only\n", "a sweep of 64 runs asks once"
    assert "#SBATCH --partition=gpu\n" in (tmp_path / "script").read_text()


@pytest.mark.parametrize(
    ("said", "id", "severity"),
    [
        ("sbatch: error: invalid partition specified: gpu", "slurm-refuses", "error"),
        ("allocation failure: Invalid account or account/partition combination specified", "slurm-refuses", "error"),
        ("allocation failure: Requested node configuration is not available", "slurm-waits", "warning"),
        ("allocation failure: Unable to contact slurm controller (connect failure)", "slurm-silent", "warning"),
    ],
)
def test_slurms_own_words_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, id: str, severity: str
) -> None:
    first = found(tmp_path, monkeypatch, f'echo "{said}" >&2; exit 1')[0]
    assert (first.id, first.severity) == (id, severity)
    assert said.rpartition(": ")[2] in first.message and first.remedy
    assert "allocation failure" not in first.message


def test_without_sbatch_it_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert [each.id for each in cluster.check(SPEC, tmp_path)] == ["no-slurm"]


def test_a_run_of_this_machine_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Spec(model=Model(base="x"), data=Data(train="x"))
    assert found(tmp_path, monkeypatch, "exit 1", here) == [] and not (tmp_path / "called").exists()
