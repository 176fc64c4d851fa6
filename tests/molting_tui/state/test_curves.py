"""What a run gives a plot to draw."""

from __future__ import annotations

import pytest

from engine.contract import events
from molting_tui.state.curves import drawing, ends, overlaid, title
from molting_tui.state.live import LiveRun
from tests.support.live_runs import metric, start, trained


def test_the_title_carries_the_numbers() -> None:
    assert title(trained(60)) == "loss 0.499 ↓  eval 0.699 ↓"
    assert title(trained(60), "grad_norm") == "grad norm 1 →"
    assert title(LiveRun()) == "loss"


def test_a_title_says_that_a_loss_is_not_a_number() -> None:
    run = trained(5)
    run.apply(1, metric(6, None))
    assert title(run).startswith("loss not a number")


def test_rewound_steps_are_curves_of_their_own_below_the_rest() -> None:
    run = trained(62)
    run.apply(2, start(step=40))
    names = [(curve.name, curve.rewound) for curve in drawing(run).curves]
    assert names == [("loss, attempt 1", True), ("loss", False), ("eval", False)]


def test_ends_are_the_plan_and_what_it_will_come_to() -> None:
    found = ends(trained(50))
    assert found == {"step": 100.0, "tokens": pytest.approx(10_000.0), "time": pytest.approx(200.0)}
    assert ends(LiveRun()) == {"step": 0.0, "tokens": 1.0, "time": 1.0}


def test_an_estimated_end_rarely_moves() -> None:
    run = LiveRun()
    run.apply(1, start(steps=1000))
    seen = set()
    for step in range(1, 500):
        event = metric(step)
        event.tokens = 100 * step + step % 7
        run.apply(1, event)
        seen.add(ends(run)["tokens"]) if step > 100 else None
    assert len(seen) <= 2


def test_runs_overlaid_keep_their_colours_and_share_the_longest_axis() -> None:
    a, b = trained(60), trained(60, of=300)
    both = overlaid([drawing(a, name="a"), drawing(b, name="b", colour=1)])
    assert both.ends["step"] == 300
    assert {curve.name: curve.colour for curve in both.curves} == {"a": 0, "a eval": 0, "b": 1, "b eval": 1}
    assert both.title == drawing(a).title
    assert overlaid([]).curves == []


def test_marks_of_evaluations_are_points_not_marks() -> None:
    run = trained(20)
    run.apply(1, events.Warn(id="w", message="m"))
    assert [marker.kind for marker in drawing(run).markers] == ["attempt", "checkpoint", "warn"]
