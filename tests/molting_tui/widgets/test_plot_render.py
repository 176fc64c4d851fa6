"""Rows of characters: dots where the values are, ticks that can be read, nothing outside."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molting_tui.state.series import Series
from molting_tui.widgets import plot_scale
from molting_tui.widgets.plot_render import Layer, Layout, View, render, trace
from molting_tui.widgets.plot_scale import Scale, fitted, short, x_ticks, y_ticks


def layer(xs: list[float], ys: list[float | None], x1: float, columns: int, x0: float = 0.0, **more: object) -> Layer:
    series = Series()
    series.extend(xs, ys)
    window = series.window(x0, x1, columns)
    return Layer(window, "curve-0", "*", before=series.before(x0), after=series.after(x1), **more)  # type: ignore[arg-type]


def text(view: View) -> list[str]:
    return ["".join(part for part, _ in row) for row in render(view)]


def test_a_falling_line_in_ascii() -> None:
    view = View(10, 3, 0, 10, layers=[layer([0.0, 10.0], [2.0, 0.0], 10, 10)], scale=Scale(0, 2), ascii=True)
    assert text(view) == ["***       ", "   ****   ", "       ***"]


def test_a_falling_line_in_braille() -> None:
    view = View(4, 2, 0, 8, layers=[layer([0.0, 8.0], [7.0, 0.0], 8, 8)], scale=Scale(0, 7))
    assert text(view) == ["⠑⢄  ", "  ⠑⢄"]


def test_a_gap_interrupts_the_line() -> None:
    curve = layer([0, 4, 5, 6, 9], [1.0, 1.0, None, 1.0, 1.0], 10, 10)
    assert text(View(10, 1, 0, 10, layers=[curve], scale=Scale(0, 2), ascii=True)) == ["***** ****"]


def test_a_column_of_many_values_spans_them() -> None:
    curve = layer([0, 0.1, 0.2, 0.3], [1.0, 3.0, 0.0, 2.0], 1, 1)
    assert text(View(1, 3, 0, 1, layers=[curve], scale=Scale(0, 3), ascii=True)) == ["*", "*", "*"]


def test_zoomed_between_two_points_the_line_still_passes() -> None:
    curve = layer([0.0, 100.0], [0.0, 100.0], 60, 5, x0=40)
    view = View(5, 3, 40, 60, layers=[curve], scale=Scale(40, 60), ascii=True)
    masks = trace(curve, view, view.scale.rows(3), 5, 3)
    # Nothing lies inside, so nothing is joined unless the ends outside are.
    assert all(masks), text(view)


def test_what_is_on_top_hides_what_is_below() -> None:
    below = Layer(layer([0, 9], [1.0, 1.0], 10, 10).columns, "raw-0", ".")
    above = Layer(layer([5, 9], [1.0, 1.0], 10, 10).columns, "curve-0", "*")
    (row,) = render(View(10, 1, 0, 10, layers=[below, above], scale=Scale(0, 2), ascii=True))
    assert row == [(".....", "raw-0"), ("*****", "curve-0")]


def test_points_are_signs() -> None:
    view = View(9, 2, 0, 9, layers=[layer([0, 4], [1.0, 0.0], 9, 9, points=True)], scale=Scale(0, 1), ascii=True)
    assert text(view) == ["*        ", "    *    "]


def test_marks_axis_and_cursor_have_their_rows() -> None:
    view = View(
        40,
        8,
        0,
        100,
        layers=[layer([0, 100], [1.0, 0.0], 100, 33)],
        ascii=True,
        marks=[(50, ":", "marker"), (50, "!", "warn"), (500, "!", "warn")],
        cursor=50,
        readout="50 loss 0.5",
    )
    rows = render(view)
    assert ("!", "warn") in rows[6] and not any(":" in part for part, _ in rows[6])
    assert " 50 loss 0.5 " in text(view)[7]
    assert any(style == "cursor" for row in rows[:6] for _, style in row)
    assert text(view)[0].startswith("     1 ")


@pytest.mark.parametrize("cursor", range(0, 101, 7))
def test_what_the_cursor_reads_leaves_no_half_labels(cursor: int) -> None:
    plain = View(60, 8, 0, 100, layers=[layer([0, 100], [1.0, 0.0], 100, 53)], ascii=True)
    read = replace(plain, cursor=cursor, readout="#" * 9)
    labels = text(read)[-1].replace("#" * 9, "-").replace("-", " ").split()
    assert set(labels) <= set(text(plain)[-1].replace("-", " ").split())


@pytest.mark.parametrize("message", ["No steps yet.", "A message that is far too long for so few cells"])
def test_an_empty_plot_says_so(message: str) -> None:
    rows = text(View(20, 5, 0, 1, empty=message))
    assert message[:20] in rows[2]
    assert all(len(row) == 20 for row in rows)


_finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.integers(1, 120),
    st.integers(1, 30),
    st.lists(st.tuples(st.floats(0, 1e9), st.none() | _finite), max_size=60),
    st.booleans(),
    st.booleans(),
    st.floats(0, 1e9),
    st.floats(1e-6, 1e9),
)
def test_any_values_fill_exactly_the_cells(
    width: int, height: int, points: list, ascii: bool, log: bool, x0: float, span: float
) -> None:
    points.sort(key=lambda each: each[0])
    layout = Layout.of(width, height)
    columns, _ = layout.dots(ascii)
    x1 = x0 + span
    if x1 <= x0:
        return
    curve = layer([x for x, _ in points], [y for _, y in points], x1, columns, x0=x0)
    numbers = [value for each in curve.columns if each and each.low == each.low for value in (each.low, each.high)]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    scale = fitted(low, high, layout.height, log and low > 0)
    view = View(
        width,
        height,
        x0,
        x1,
        layers=[curve],
        scale=scale,
        ascii=ascii,
        marks=[(x0, "!", "warn")],
        cursor=x1,
        readout="x",
    )
    rows = text(view)
    assert [len(row) for row in rows] == [width] * height


@given(_finite, _finite, st.integers(1, 200), st.booleans())
def test_a_scale_holds_what_it_was_fitted_to(a: float, b: float, height: int, log: bool) -> None:
    low, high = min(a, b), max(a, b)
    scale = fitted(low, high, height, log and low > 0)
    slack = 1e-6 * max(abs(low), abs(high))
    assert scale.low <= low + slack and scale.high >= high - slack and scale.low < scale.high
    row_of = scale.rows(height)
    assert 0 <= row_of(high) <= row_of(low) <= height - 1
    labels = y_ticks(scale, height)
    assert all(0 <= row < height for row in labels)
    assert all(len(label.strip("-").split("e")[0].replace(".", "").strip("0")) <= 4 for label in labels.values())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (0.31, "0.31"),
        (0.123456, "0.123"),
        (999.4, "999"),
        (999.6, "1k"),
        (12_480, "12.5k"),
        (999_700, "1M"),
        (3e6, "3M"),
        (-2500, "-2.5k"),
        (8.1e-5, "8.1e-5"),
        (3e38, "3e38"),
    ],
)
def test_numbers_in_three_digits(value: float, expected: str) -> None:
    assert short(value) == expected


def test_ticks_of_a_usual_loss() -> None:
    assert list(y_ticks(fitted(0.3, 3.9, 16), 16).values()) == ["0", "1", "2", "3", "4"]
    assert list(y_ticks(fitted(0.02, 3.9, 20, log=True), 20).values()) == [
        "0.02",
        "0.05",
        "0.1",
        "0.2",
        "0.5",
        "1",
        "2",
        "5",
    ]


def test_ticks_of_a_flat_curve_differ() -> None:
    labels = list(y_ticks(fitted(0.3, 0.3, 16), 16).values())
    assert len(labels) >= 2 and len(set(labels)) == len(labels)


def test_ticks_of_time_are_whole_minutes_or_hours() -> None:
    labels = [label for _, label in x_ticks(0, 4000, 80, "time")]
    assert labels == ["0:00", "15:00", "30:00", "45:00", "1:00:00"]
    assert len(x_ticks(0, 1e8, 80, "time")) <= 8


def test_ticks_of_steps_are_whole() -> None:
    assert [label for _, label in x_ticks(0, 3, 80, "step")] == ["0", "1", "2", "3"]
    assert [label for _, label in x_ticks(0, 1_000_000, 80, "step")] == ["0", "200k", "400k", "600k", "800k", "1M"]


def test_labels_of_neighbouring_rows_do_not_crowd() -> None:
    rows = sorted(y_ticks(Scale(0.0, 1.0), 60))
    assert all(b - a >= 2 for a, b in pairwise(rows))


def test_what_is_not_positive_falls_to_the_bottom_of_a_logarithmic_scale() -> None:
    row_of = plot_scale.Scale(0.1, 10, log=True).rows(9)
    assert (row_of(10), row_of(1), row_of(0.1), row_of(0.0), row_of(-5)) == (0, 4, 8, 8, 8)
    assert not math.isnan(row_of(1e-300))
