"""Whether a run knows its rows: the outcome, and which of its figures is told first."""

from __future__ import annotations

import pytest

from engine.contract.calls import Losses
from engine.contract.spec import Data, Model, Spec
from engine.infer.conclude import Found
from engine.infer.effect import Shift, Weights
from engine.infer.evidence import Recital
from engine.infer.why_steps import steps

BACK = "of 8 trained answers come back (base 0%)"


def recites(adapter: float, back: float):
    found = Found(
        spec=Spec(model=Model(base="demo"), data=Data(train="rows.jsonl")),
        weights=Weights(nonzero=4, total=4),
        shift=Shift(kl=1.0, flip_rate=0.5, positions=100),
        differing=4,
        probes=4,
        recital=Recital(asked=8, base=0.0, tuned=back),
        row_loss=Losses(base=3.0, adapter=adapter),
    )
    return next(step for step in steps(found, "whole", "") if step.id == "recites")


@pytest.mark.parametrize(
    ("adapter", "back", "outcome"),
    [(0.6, 0.9, "passed"), (0.6, 0.0, "passed"), (2.9, 0.0, "unknown"), (3.0, 0.0, "failed")],
)
def test_rows_are_known_where_they_come_back_or_their_loss_fell(adapter, back, outcome):
    assert recites(adapter, back).outcome == outcome


def test_what_a_tick_rests_on_is_told_first():
    loss = "loss on trained rows: base 3.000, adapter 0.600"
    assert recites(0.6, 0.9).evidence == f"90% {BACK}; {loss}"
    assert recites(0.6, 0.0).evidence == f"{loss}; word for word, 0% {BACK}"
