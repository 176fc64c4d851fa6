"""Curves for trackers: what TensorBoard reads back is what the run recorded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.contract import outputs
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Model, Spec
from engine.share.trackers import config_of, export
from tests.support.runs import finished_run, make_run


def exported(run: RunDir, to: str, folder: Path) -> outputs.Exported:
    request = outputs.ExportRequest(run=str(run.path), to=to, dir=str(folder))  # type: ignore[arg-type]
    return export(request, lambda line: None)


def test_tensorboard_reads_the_curves_of_a_run(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = finished_run(tmp_path / "runs")
    made = exported(run, "tensorboard", tmp_path / "curves")
    assert (made.steps, made.evals) == (100, 2)
    read = accumulators.EventAccumulator(made.path)
    read.Reload()
    losses = read.Scalars("train/loss")
    assert [each.step for each in losses] == list(range(1, 101))
    assert losses[3].value == pytest.approx(1.0) and losses[99].value == pytest.approx(0.04)
    assert losses[99].wall_time - losses[98].wall_time == pytest.approx(1.0)
    assert [(each.step, each.value) for each in read.Scalars("eval/loss")] == [
        (50, pytest.approx(0.9)),
        (100, pytest.approx(0.5)),
    ]
    assert {"train/grad_norm", "train/learning_rate", "train/epoch", "train/tokens"} <= set(read.Tags()["scalars"])


def test_the_same_curves_are_not_written_twice(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = finished_run(tmp_path / "runs")
    exported(run, "tensorboard", tmp_path / "curves")
    with pytest.raises(MoltingError, match="exported before"):
        exported(run, "tensorboard", tmp_path / "curves")


@pytest.mark.parametrize("to", ["tensorboard", "trackio", "wandb"])
def test_an_absent_tracker_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.setitem(sys.modules, to, None)  # as if it were not installed
    monkeypatch.setenv("TRACKIO_DIR", "")
    with pytest.raises(MoltingError, match=f"{to} is not installed here") as refused:
        exported(finished_run(tmp_path / "runs"), to, tmp_path / "curves")
    assert f"pip install {to}" in refused.value.remedy and refused.value.code == 3


def test_a_run_without_a_step_has_no_curves(tmp_path: Path) -> None:
    with pytest.raises(MoltingError, match="no step yet"):
        exported(make_run(tmp_path / "runs"), "tensorboard", tmp_path / "curves")


def test_texts_and_folders_do_not_go_along() -> None:
    spec = Spec(
        model=Model(base="/home/ana/models/tiny"), data=Data(train="/home/ana/rows.jsonl", system="You are a secret.")
    )
    told = str(config_of(spec))
    assert "ana" not in told and "secret" not in told and "'tiny'" in told
