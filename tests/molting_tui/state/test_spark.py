from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from molting_tui.state import spark

VALUES = st.lists(st.none() | st.floats(-1e6, 1e6), max_size=300)


def test_a_falling_loss_falls() -> None:
    assert spark.blocks([4.0, 3.0, 2.0, 1.0], 6) == "  █▆▃▁"


def test_what_is_not_finite_is_marked() -> None:
    assert spark.blocks([1.0, None], 2) == "▁x"


def test_noise_is_no_mountain_range() -> None:
    assert set(spark.blocks([2.00, 2.02, 2.01, 2.03], 4)) <= set("▁▂")


@given(VALUES, st.integers(1, 40))
def test_blocks_fill_exactly_their_width(values: list[float | None], width: int) -> None:
    assert len(spark.blocks(values, width)) == width


@given(VALUES, st.integers(1, 40), st.integers(1, 8))
def test_a_curve_fits_its_box(values: list[float | None], width: int, rows: int) -> None:
    lines = spark.braille(values, width, rows)
    assert [len(line) for line in lines] == [width] * rows
    if any(value is not None and math.isfinite(value) for value in values[: width * 2]) and len(values) <= width * 2:
        assert any(line.strip() for line in lines)


def test_a_steep_step_leaves_no_hole() -> None:
    lines = spark.braille([0.0, 10.0], 1, 3)
    assert all(line.strip() for line in lines)
