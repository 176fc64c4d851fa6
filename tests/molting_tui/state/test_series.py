"""Series, Ema and Table against the plain way of doing the same."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from molting_tui.state.pyramid import Pyramid
from molting_tui.state.series import Ema, Series, Table

_number = st.floats(width=32, allow_nan=False, allow_infinity=False)
_value = st.one_of(_number, _number, _number, st.none(), st.just(math.nan), st.just(math.inf), st.just(1e300))
_values = st.lists(_value, max_size=700)


def _plain(value: float | None) -> float:
    return value if value is not None and abs(value) <= 3.4028234663852886e38 else math.nan


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@given(_values, st.integers(0, 700), st.integers(0, 700))
def test_extremes_are_those_of_the_numbers(values: list[float | None], begin: int, end: int) -> None:
    pyramid = Pyramid(values)
    end = min(end, len(values))
    numbers = [each for each in map(_plain, values[begin:end]) if not math.isnan(each)]
    expected = (min(numbers), max(numbers)) if numbers else (math.inf, -math.inf)
    assert pyramid.extremes(begin, end) == expected


@example([0.0] * 16, [], 0)
@given(_values, _values, st.integers(0, 700))
def test_however_it_grew_the_pyramid_is_the_same(first: list[float | None], then: list[float | None], cut: int) -> None:
    grown = Pyramid()
    for value in first:
        grown.append(value)
    grown.truncate(cut)
    for value in then:
        grown.append(value)
    at_once = Pyramid([*first[:cut], *then])
    assert list(map(str, grown.values)) == list(map(str, at_once.values))
    assert list(grown.gaps) == list(at_once.gaps)
    assert (grown._lows, grown._highs) == (at_once._lows, at_once._highs)


@given(
    st.lists(st.tuples(st.integers(0, 50), _value), max_size=300),
    st.integers(-5, 60),
    st.integers(1, 60),
    st.integers(1, 40),
)
def test_a_window_shows_each_point_once(points: list, x0: int, span: int, columns: int) -> None:
    points = sorted(points, key=lambda each: each[0])
    series = Series()
    series.extend([x for x, _ in points], [y for _, y in points])
    window = series.window(x0, x0 + span, columns)
    assert len(window) == columns
    inside = [_plain(y) for x, y in points if x0 <= x <= x0 + span]
    numbers = [y for y in inside if not math.isnan(y)]
    shown = [column for column in window if column and not math.isnan(column.low)]
    assert any(column and column.gap for column in window) == (len(numbers) < len(inside))
    assert bool(shown) == bool(numbers)
    assert series.bounds(x0, x0 + span) == ((min(numbers), max(numbers)) if numbers else None)
    ends = [x0 + number * (span / columns) for number in range(columns)] + [math.inf]
    for column, (begin, end) in zip(window, pairwise(ends), strict=True):
        assert (column is not None) == any(begin <= x < end and x <= x0 + span for x, _ in points)
    if numbers:
        assert min(column.low for column in shown) == min(numbers)
        assert max(column.high for column in shown) == max(numbers)
        assert (shown[0].first, shown[-1].last) == (numbers[0], numbers[-1])


def test_columns_hold_what_falls_into_them() -> None:
    series = Series()
    series.extend([0, 1, 2, 3, 9, 10], [5.0, 1.0, None, 3.0, 7.0, 8.0])
    first, empty, last = series.window(0, 10, 3)[0], series.window(0, 10, 5)[2], series.window(0, 10, 3)[2]
    assert first == (1.0, 5.0, 5.0, 3.0, True)
    assert empty is None
    assert last == (7.0, 8.0, 7.0, 8.0, False)


def test_a_column_of_gaps_has_no_numbers_but_says_so() -> None:
    series = Series()
    series.extend([1, 2], [None, math.inf])
    (column,) = series.window(0, 3, 1)
    assert column is not None and column.gap
    assert math.isnan(column.low)
    assert series.bounds() is None
    assert series.last is None


@pytest.mark.parametrize("window", [(5, 5, 10), (6, 5, 10), (0, 10, 0), (math.nan, 10, 5)])
def test_a_window_that_is_none_is_empty(window: tuple[float, float, int]) -> None:
    series = Series()
    series.append(1, 2.0)
    assert series.window(*window) == []


@given(st.lists(st.integers(0, 100), min_size=1, max_size=100), st.integers(-10, 110))
def test_at_gives_the_nearest(xs: list[int], x: int) -> None:
    series = Series()
    series.extend(sorted(xs), [float(each) for each in sorted(xs)])
    point = series.at(x)
    assert point is not None
    assert abs(point.x - x) == min(abs(each - x) for each in xs)
    assert point.y == point.x


def test_neighbours_lie_outside_of_the_window() -> None:
    series = Series()
    series.extend([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0])
    assert series.before(2) == (1, 1.0)
    assert series.after(3) == (4, 4.0)
    assert series.before(1) is None and series.after(4) is None
    assert Series().at(3) is None


@pytest.mark.parametrize("odd", [-1.0, math.nan, math.inf, -math.inf])
def test_x_never_goes_back(odd: float) -> None:
    one_by_one, at_once = Series(), Series()
    for x in (3.0, odd, 4.0):
        one_by_one.append(x, 1.0)
    at_once.extend([3.0, odd, 4.0], [1.0, 1.0, 1.0])
    assert list(one_by_one.xs) == list(at_once.xs) == [3.0, 3.0, 4.0]


def test_truncating_returns_what_was_cut() -> None:
    series = Series()
    series.extend(range(100), [float(x) if x % 7 else None for x in range(100)])
    cut = series.truncate_after(41)
    assert list(series.xs) == list(range(42))
    assert list(cut.xs) == list(range(42, 100))
    assert series.bounds() == (1.0, 41.0)
    assert cut.bounds() == (43.0, 99.0)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 xs for 1 ys"):
        Series().extend([1, 2], [1.0])


@example([3.4028234663852886e38, None], 0.8066946862314802, 0)
@given(_values, st.floats(0, 0.999), st.integers(0, 700))
def test_the_average_streams(values: list[float | None], smoothing: float, split: int) -> None:
    source = Pyramid(values[:split])
    ema = Ema(source, smoothing)
    ema.catch_up()
    source.extend(values[split:])
    streamed = list(ema.catch_up().values)
    at_once = list(Ema(Pyramid(values), smoothing).catch_up().values)
    assert all(map(_same, streamed, at_once))
    assert [math.isnan(each) for each in streamed] == [math.isnan(_plain(each)) for each in values]


def test_the_average_is_the_weighted_one() -> None:
    smooth = Ema(Pyramid([4.0, 2.0, None, 1.0]), 0.5).catch_up().values
    assert smooth[0] == 4.0
    assert smooth[1] == pytest.approx((0.5 * 4 + 2) / 1.5)
    assert math.isnan(smooth[2])
    assert smooth[3] == pytest.approx((0.25 * 4 + 0.5 * 2 + 1) / 1.75)


def test_the_average_begins_anew_after_a_cut() -> None:
    source = Pyramid([1.0, 2.0, 3.0, 4.0])
    ema = Ema(source, 0.9)
    ema.catch_up()
    source.truncate(2)
    source.extend([9.0, 9.0])
    assert list(ema.catch_up().values) == list(Ema(Pyramid([1.0, 2.0, 9.0, 9.0]), 0.9).catch_up().values)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0])
def test_smoothing_has_bounds(smoothing: float) -> None:
    with pytest.raises(ValueError):
        Ema(Pyramid(), smoothing)


def test_a_table_reads_the_same_column_over_each_axis() -> None:
    table = Table(("step", "time"), ("loss", "lr"))
    table.append((1, 10.0), (3.0, 0.1))
    table.extend([[2, 3], [20.0, 35.0]], [[2.0, 1.0], [0.2, 0.3]])
    assert table.series("loss", "time").at(21.0) == (20.0, 2.0)
    assert table.series("lr", "step").last == pytest.approx(0.3)
    assert len(table.series("loss", "step", smoothing=0.9)) == 3


def test_a_table_is_cut_on_all_axes() -> None:
    table = Table(("step", "time"), ("loss",))
    table.extend([[1, 2, 3], [10.0, 20.0, 30.0]], [[3.0, 2.0, 1.0]])
    cut = table.truncate_after("step", 1)
    assert cut is not None and list(cut.axes["time"]) == [20.0, 30.0]
    assert list(table.axes["time"]) == [10.0] and table.series("loss", "time").last == 3.0
    assert table.truncate_after("step", 1) is None
