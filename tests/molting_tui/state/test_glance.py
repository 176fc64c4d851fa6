from __future__ import annotations

from engine.contract import events
from molting_tui.state import glance
from tests.support.live_runs import metric, start


def test_the_rate_counts_the_tokens_that_the_live_screen_counts() -> None:
    said = [start(step=10, tokens=1_000), metric(11), metric(12)]
    seen = glance.of_lines(events.encode(event) for event in said)
    assert seen.rate == 50  # 100 tokens in two seconds; only 40 of them are learned
    assert glance.of_lines([events.encode(metric(11))]).rate is None  # no step before it in sight


def test_damage_is_passed_over() -> None:
    seen = glance.of_lines([b"{", events.encode(metric(3, 0.5)), b"\xff\n"])
    assert seen.losses == [0.5] and seen.first_step == 3
