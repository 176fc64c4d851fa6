"""Which states follow on which, and which of them is shown of a run whose owner is dead."""

from __future__ import annotations

import pytest

from engine.contract import lifecycle

STATES = ("queued", "starting", "training", "stopping", "finished", "interrupted", "failed")
# A row for each state before, a column for each after: may a run pass there?
ALLOWED = {
    "": "x......",
    "queued": "xx...xx",
    "starting": "x.xxxxx",
    "training": "x..xxxx",
    "stopping": "x...xxx",
    "finished": ".......",
    "interrupted": "x...x..",
    "failed": "x...x..",
}


@pytest.mark.parametrize("before", ALLOWED)
def test_a_run_passes_only_where_it_may(before: str) -> None:
    assert "".join("x" if lifecycle.allowed(before, after) else "." for after in STATES) == ALLOWED[before]


def test_nobody_passes_to_or_from_a_state_that_is_not_stored() -> None:
    assert not any(lifecycle.allowed(state, "lost") or lifecycle.allowed("lost", state) for state in STATES)


@pytest.mark.parametrize("state", STATES)
def test_what_works_without_a_living_owner_is_lost_and_nothing_else_is(state: str) -> None:
    works = state in {"starting", "training", "stopping"}
    assert lifecycle.shown(state, owner_alive=False) == ("lost" if works else state)
    assert lifecycle.shown(state, owner_alive=True) == lifecycle.shown(state, owner_alive=None) == state
    assert lifecycle.shown("", owner_alive=False) == "queued"
