"""How long a run will take: from what runs on this machine took, and never from nothing."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from engine.contract.spec import Data, Model, Spec, Training
from engine.train.calibration import Run
from engine.train.duration import Pace, expected, tokens_a_step


@dataclass(frozen=True)
class Row:
    input_ids: list[int]
    labels: list[int]


def ran(pace: float = 0.01, **changed: object) -> Run:
    """A run of 1,000 tokens at `pace` seconds a token, and 20 seconds beside its steps."""
    run = Run(
        device="cpu", method="lora", forecast=1, measured=1, model="ours", parameters=100, settings="bf16",
        tokens=1000, seconds=1000 * pace, beside=20.0,
    )  # fmt: skip
    return msgspec.structs.replace(run, **changed)


LIKE = ran(tokens=0, seconds=0.0)


def test_runs_of_the_same_model_tell_it_by_their_median() -> None:
    told = expected([ran(0.01), ran(0.02), ran(9.0)], LIKE, steps=50, tokens_a_step=100.0)
    assert told is not None
    assert told.seconds == pytest.approx(20 + 50 * 100 * 0.02)
    assert told.known_from == "3 runs of this model here"


def test_another_model_of_similar_size_stands_in_and_that_is_said() -> None:
    told = expected([ran(model="other", parameters=50)], LIKE, steps=10, tokens_a_step=100.0)
    assert told is not None and told.seconds == pytest.approx(20 + 10 * 100 * 0.01 * 2)
    assert told.known_from == "a run of a model of similar size here"


@pytest.mark.parametrize(
    "other",
    [
        {"device": "RTX 3050"},
        {"method": "full"},
        {"settings": "fp32"},
        {"settings": "bf16, checkpointing"},
        {"model": "toy", "parameters": 2},
        {"tokens": 0, "seconds": 0.0},
    ],
)
def test_runs_unlike_this_one_tell_nothing(other: dict[str, object]) -> None:
    assert expected([ran(**other)], LIKE, steps=10, tokens_a_step=100.0) is None


def test_the_first_step_is_no_pace() -> None:
    pace = Pace()
    for seconds in (30.0, 1.0, 1.0):
        pace.add(100, seconds)
    assert (pace.tokens, pace.seconds) == (200, 2.0)


def test_the_tokens_of_a_step_count_padding_and_what_is_shared_only_once() -> None:
    rows = [Row([*range(200), 1000 + n], [0] * 201) for n in range(12)]
    short = [Row([1] * (10 * n), [0] * 10 * n) for n in range(1, 13)]
    packed = Spec(model=Model(base="x"), data=Data(train="x"), training=Training(max_steps=3, batch=4, packing=True))
    padded = msgspec.structs.replace(packed, training=msgspec.structs.replace(packed.training, packing=False))
    assert tokens_a_step(rows, packed) < 1.3 * 204 < 804 == tokens_a_step(rows, padded)
    assert tokens_a_step(short, padded) > sum(10 * n for n in range(1, 13)) / 3
