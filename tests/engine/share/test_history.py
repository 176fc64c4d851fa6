"""The record of a Trainer elsewhere becomes a run that is shown like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import events, outputs, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.share.history import import_history, recorded
from molting_tui.services import run_reader
from molting_tui.services.follow import Follower
from molting_tui.services.run_reader import RunReader

LOG = [
    {"epoch": 0.5, "grad_norm": 2.5, "learning_rate": 2e-4, "loss": 3.2, "step": 10, "num_tokens": 1000.0},
    {"epoch": 1.0, "grad_norm": float("nan"), "learning_rate": 1e-4, "loss": 2.1, "step": 20, "num_tokens": 2000.0},
    {"epoch": 1.0, "eval_loss": 2.3, "eval_runtime": 1.2, "step": 20},
    {"epoch": 1.5, "grad_norm": 1.1, "learning_rate": 5e-5, "loss": 9.9, "step": 30, "num_tokens": 3000.0},
    {"epoch": 1.5, "grad_norm": 1.1, "learning_rate": 5e-5, "loss": 0.9, "step": 30, "num_tokens": 3000.0},
    {"epoch": 1.5, "eval_loss": 1.9, "eval_runtime": 1.2, "step": 30},
    {"epoch": 1.5, "step": 30, "train_loss": 2.0, "train_runtime": 60.0, "total_flos": 1e12},
    "junk",
    {"loss": 1.0},
]


def state(**more: Any) -> dict[str, Any]:
    return {"global_step": 30, "max_steps": 40, "train_batch_size": 4, "log_history": LOG} | more


def imported(tmp_path: Path, text: str) -> outputs.ImportedHistory:
    file = tmp_path / "trainer_state.json"
    file.write_text(text)
    request = outputs.TrainerStateRequest(file=str(file), name="old phi", runs=str(tmp_path / "runs"))
    return import_history(request, lambda line: None)


def test_what_was_left_out_is_counted(tmp_path: Path) -> None:
    for junk, told in (([7], "1 entry of its log tells"), ([7, {}], "2 entries of its log tell")):
        said = imported(tmp_path, json.dumps({"log_history": [{"step": 1, "loss": 2.0}, *junk]}))
        assert said.problems[0].startswith(told)


def test_an_old_run_shows_up_with_its_curves(tmp_path: Path) -> None:
    said = imported(tmp_path, json.dumps(state()))  # which writes NaN, as transformers does
    assert (said.steps, said.evals, said.left_out) == (3, 2, 2)
    run = RunDir(Path(said.path))
    seen = summary.summarise(run)
    assert (seen.state, seen.name, seen.problem) == ("finished", "old phi", "")
    assert (seen.step, seen.steps, seen.loss, seen.eval_loss, seen.method) == (30, 40, 0.9, 1.9, "")
    assert "imported" in seen.why and not seen.resumable
    live = RunReader(run).history()
    assert (live.state, live.step, live.max_steps, live.pace) == ("finished", 30, 40, 2.0)
    assert live.best_eval is not None and live.best_eval.step == 30
    assert (run.inputs / "trainer_state.json").is_file()
    with Follower(run) as follower:
        seen_steps = [each.what.step for each in follower.poll() if isinstance(each.what, events.Metric)]
    assert seen_steps == [10, 20, 30]


def test_a_long_history_is_seen_at_a_glance_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_reader, "GLANCE_OVER", 0)
    said = imported(tmp_path, json.dumps(state()))
    seen = RunReader(RunDir(Path(said.path))).glance()
    assert seen is not None and (seen.state, seen.step) == ("finished", 30)


def test_a_step_without_a_finite_gradient_keeps_its_loss() -> None:
    found = recorded(json.loads(json.dumps(state())))
    assert [(each.step, each.loss, each.grad_norm) for each in found.metrics] == [
        (10, 3.2, 2.5),
        (20, 2.1, None),
        (30, 0.9, 1.1),
    ]
    assert found.seconds == 2.0 and all(each.seconds == 2.0 for each in found.metrics)


def test_unknown_times_are_said_to_be_unknown(tmp_path: Path) -> None:
    said = imported(tmp_path, json.dumps(state(log_history=LOG[:2])))
    assert any("a second a step is assumed" in problem for problem in said.problems)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("\x00\x01", "it is not JSON"),
        ("[1]", "it has no log_history"),
        ('{"log_history": {"loss": 1}}', "it has no log_history"),
        ('{"log_history": []}', "tells of no step"),
        (
            '{"log_history": [{"loss": 1, "step": -1}, {"loss": 1, "step": 1e400}, {"loss": 1, "step": true}]}',
            "no step",
        ),
    ],
)
def test_what_is_no_such_file_is_refused_with_a_sentence(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(MoltingError, match=why) as refused:
        imported(tmp_path, text)
    assert refused.value.code == 2
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_a_file_that_is_not_there_or_not_plain_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "none.json", tmp_path, Path("/dev/zero")):
        request = outputs.TrainerStateRequest(file=str(file), name="x", runs=str(tmp_path / "runs"))
        with pytest.raises(MoltingError):
            import_history(request, lambda line: None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner),
    max_leaves=5,
)
ENTRY = st.dictionaries(
    st.sampled_from(
        ["step", "loss", "eval_loss", "epoch", "grad_norm", "learning_rate", "train_runtime", "num_tokens"]
    ),
    JSON,
)


@given(st.lists(ENTRY | JSON, max_size=6), JSON, JSON)
def test_whatever_the_log_holds_only_sound_steps_are_taken(log: list[Any], most: Any, batch: Any) -> None:
    found = recorded({"log_history": log, "max_steps": most, "train_batch_size": batch})
    steps = [each.step for each in found.metrics]
    assert steps == sorted(set(steps)) and all(0 <= step <= found.steps for step in steps)
    assert all(each.seconds > 0 for each in found.metrics)
