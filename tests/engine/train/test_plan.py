"""The arithmetic of a run."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.errors import MoltingError
from engine.contract.spec import Data, Model, Spec, Training, total_steps
from engine.train import plan


def spec(**training: object) -> Spec:
    return Spec(model=Model(base="x"), data=Data(train="y"), training=Training(**training))


def test_the_seeds_fifty_steps() -> None:
    assert total_steps(79, spec(batch=1, accumulation=8, epochs=5)) == 50
    assert total_steps(79, spec(batch=1, accumulation=4, epochs=8)) == 160


@given(rows=st.integers(1, 200), per_step=st.integers(1, 40), seed=st.integers(0, 99))
def test_an_epoch_sees_every_row_once(rows: int, per_step: int, seed: int) -> None:
    steps = -(-rows // per_step)
    for epoch in range(2):
        seen = [
            row
            for step in range(epoch * steps, (epoch + 1) * steps)
            for row in plan.rows_of_step(step, rows, per_step, seed)
        ]
        assert sorted(seen) == list(range(rows))


def test_epochs_differ_in_order_and_seeds_too() -> None:
    assert plan.epoch_order(50, 0, 1) != plan.epoch_order(50, 1, 1)
    assert plan.epoch_order(50, 0, 1) != plan.epoch_order(50, 0, 2)


@pytest.mark.parametrize(
    ("parameters", "kind", "low", "high"),
    [
        (135e6, "lora", 9e-4, 1e-3),
        (1.1e9, "qlora", 1.5e-4, 2e-4),
        (8e9, "lora", 1e-4, 1e-4),
        (135e6, "full", 5e-5, 1e-4),
    ],
)
def test_the_learning_rate_fits_the_model(parameters: float, kind: str, low: float, high: float) -> None:
    assert low <= plan.learning_rate(int(parameters), kind) <= high


def test_resolving_leaves_nothing_to_chance() -> None:
    resolved = plan.resolve(spec(), rows=64, parameters=135_000_000, precision="bf16")
    assert resolved.training.max_steps == 80
    assert b'"auto"' not in msgspec.json.encode(resolved.training.learning_rate)
    assert resolved.method.alpha == 32.0
    assert (resolved.training.save_every, resolved.evaluation.every, resolved.evaluation.sample_every) == (8, 16, 20)
    assert plan.resolve(resolved, rows=64, parameters=135_000_000, precision="bf16") == resolved


def test_a_stream_needs_max_steps() -> None:
    with pytest.raises(MoltingError, match=r"training\.max_steps"):
        plan.resolve(spec(), rows=0, parameters=1, precision="fp32")


@given(steps=st.integers(1, 5000), share=st.floats(0, 1))
def test_warmup_leaves_a_step_at_the_peak(steps: int, share: float) -> None:
    assert 0 <= plan.warmup_steps(steps, share) < steps


@given(steps=st.integers(1, 500), share=st.floats(0, 1), schedule=st.sampled_from(["cosine", "linear", "constant"]))
def test_no_step_is_made_for_nothing(steps: int, share: float, schedule: str) -> None:
    warmup = plan.warmup_steps(steps, share)
    rates = [plan.rate_share(step, steps, warmup, schedule) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[warmup] == 1
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
