from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from molting_tui.state.arrange import PANES, RATES, Box, arrange

HIDEABLE = ("rates", "memory", "samples", "log")
sizes = st.tuples(st.integers(1, 300), st.integers(1, 100))
hidings = st.sets(st.sampled_from(HIDEABLE))


@given(sizes, hidings, st.sampled_from(["", *PANES]))
def test_panes_lie_in_the_room_beside_each_other(size: tuple[int, int], hidden: set[str], maximised: str) -> None:
    boxes = arrange(*size, hidden, maximised)
    for box in boxes.values():
        assert box.width > 0 and box.height > 0
        assert box.x >= 0 and box.x + box.width <= size[0]
        assert box.y >= 0 and box.y + box.height <= size[1]
    for a, b in combinations(boxes.values(), 2):
        assert not overlap(a, b)


def overlap(a: Box, b: Box) -> bool:
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


@given(sizes, hidings)
def test_the_loss_is_always_there_and_what_is_hidden_never(size: tuple[int, int], hidden: set[str]) -> None:
    boxes = arrange(*size, hidden)
    assert "loss" in boxes
    assert not hidden & boxes.keys()
    assert "rates" not in hidden or not set(RATES) & boxes.keys()


def test_a_small_terminal_has_the_loss_and_a_line_each_of_memory_sample_and_log() -> None:
    boxes = arrange(80, 19)
    assert boxes["loss"] == Box(0, 0, 80, 16)
    assert [pane for pane, box in boxes.items() if box.height == 1] == ["memory", "samples", "log"]


def test_a_large_one_has_every_pane_and_wastes_no_row() -> None:
    boxes = arrange(120, 36)
    assert set(boxes) == set(PANES)
    assert all(box.height >= 6 for box in boxes.values())
    assert boxes["log"].y + boxes["log"].height == 36
    assert boxes["memory"].height == boxes["loss"].height


def test_putting_panes_away_gives_their_room_to_the_loss() -> None:
    every, few = arrange(120, 36)["loss"], arrange(120, 36, ["memory", "samples", "log", "rates"])["loss"]
    assert few == Box(0, 0, 120, 36)
    assert every.width < few.width and every.height < few.height


def test_a_maximised_pane_is_alone() -> None:
    assert arrange(120, 36, ["log"], "log") == {"log": Box(0, 0, 120, 36)}
