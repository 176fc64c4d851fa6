"""Curves that grow: columns of numbers over axes that never go back, and what of them falls into a window."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from .pyramid import Pyramid

_CHUNK = 1 << 16  # numbers smoothed at a time, to bound memory
# 32 bits are enough for a time, within hundredths of a second over days, and for whole steps.
_KINDS: dict[str, Literal["f", "I"]] = {"time": "f", "step": "I"}
_FULL = 1 - 1e-9  # the weight of a past that is as good as complete; plots keep seven digits


class Column(NamedTuple):
    """What falls into one column of a window. With nothing but gaps in it, all four are NaN."""

    low: float
    high: float
    first: float
    last: float
    gap: bool


class Point(NamedTuple):
    """One point; `y` is NaN at a gap."""

    x: float
    y: float


class Series:
    """Points in the order of x: an axis and a column, which several series may share."""

    __slots__ = ("xs", "ys")

    def __init__(self, xs: array[float] | None = None, ys: Pyramid | None = None) -> None:
        self.xs = array("d") if xs is None else xs
        self.ys = Pyramid() if ys is None else ys

    def __len__(self) -> int:
        return len(self.xs)

    def append(self, x: float, y: float | None) -> None:
        """Add a point (about 0.3 µs); None or NaN is a gap. An x before the last one counts as the last."""
        self.xs.append(_onward(self.xs, x))
        self.ys.append(y)

    def extend(self, xs: Sequence[float], ys: Sequence[float | None]) -> None:
        """Add many points."""
        if len(xs) != len(ys):
            raise ValueError(f"{len(xs)} xs for {len(ys)} ys")
        _extend_axis(self.xs, xs)
        self.ys.extend(ys)

    def truncate_after(self, x: float) -> Series:
        """Forget the points beyond x, and return them."""
        keep = bisect_right(self.xs, x)
        removed = Series(self.xs[keep:], Pyramid(self.ys.values[keep:]))
        del self.xs[keep:]
        self.ys.truncate(keep)
        return removed

    def window(self, x0: float, x1: float, columns: int) -> list[Column | None]:
        """[x0, x1] in `columns` equal parts; None for a part without points. A few µs a column."""
        if columns < 1 or not x1 > x0:
            return []
        xs, found = self.xs, []
        width = (x1 - x0) / columns
        begin = bisect_left(xs, x0)
        for column in range(1, columns):
            end = bisect_left(xs, x0 + column * width, begin)
            found.append(self._column(begin, end))
            begin = end
        found.append(self._column(begin, bisect_right(xs, x1, begin)))
        return found

    def bounds(self, x0: float = -math.inf, x1: float = math.inf) -> tuple[float, float] | None:
        """The smallest and largest y of the points in [x0, x1]; None where there is no number."""
        low, high = self.ys.extremes(bisect_left(self.xs, x0), bisect_right(self.xs, x1))
        return (low, high) if low <= high else None

    def at(self, x: float) -> Point | None:
        """The point nearest to x, the earlier of two as near; None without points."""
        after = bisect_left(self.xs, x)
        near = [i for i in (after - 1, after) if 0 <= i < len(self.xs)]
        if not near:
            return None
        i = min(near, key=lambda each: abs(self.xs[each] - x))
        return Point(self.xs[i], self.ys.values[i])

    def before(self, x: float) -> Point | None:
        """The last point before x."""
        i = bisect_left(self.xs, x) - 1
        return Point(self.xs[i], self.ys.values[i]) if i >= 0 else None

    def after(self, x: float) -> Point | None:
        """The first point after x."""
        i = bisect_right(self.xs, x)
        return Point(self.xs[i], self.ys.values[i]) if i < len(self.xs) else None

    @property
    def last(self) -> float | None:
        """The y of the last point; None at a gap and without points."""
        value = self.ys.values[-1] if self.ys.values else math.nan
        return None if math.isnan(value) else value

    def _column(self, begin: int, end: int) -> Column | None:
        if begin == end:
            return None
        ys = self.ys
        gap = bool(ys.gaps) and ys.has_gap(begin, end)
        low, high = ys.extremes(begin, end)
        if low > high:
            return Column(math.nan, math.nan, math.nan, math.nan, True)
        return Column(low, high, ys.first(begin, end), ys.last(begin, end), gap)


class Ema:
    """The exponential moving average of a column, number for number; a gap stays a gap.

    `smoothing` in [0, 1) is the weight of the past. The start is corrected for the missing past (as Adam does),
    so the first average is the first number.
    """

    def __init__(self, source: Pyramid, smoothing: float) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError("smoothing lies in [0, 1)")
        self.source, self.smoothing = source, smoothing
        self.values = Pyramid()
        self._cuts = source.cuts
        self._sum = self._weight = 0.0

    def catch_up(self) -> Pyramid:
        """The averages of all there is now; about 0.2 µs for each number that is new."""
        if self._cuts != self.source.cuts:
            self.values.truncate(0)
            self._cuts, self._sum, self._weight = self.source.cuts, 0.0, 0.0
        while len(self.values) < len(self.source):
            begin = len(self.values)
            self.values.extend(self._smooth(self.source.values[begin : begin + _CHUNK]))
        return self.values

    def _smooth(self, values: Sequence[float]) -> list[float]:
        past, new = self.smoothing, 1 - self.smoothing
        total, weight, smooth = self._sum, self._weight, []
        for begin, value in enumerate(values):
            if weight >= _FULL:
                rest = values[begin:]
                # The past is complete, so that nothing is left to correct: what is done a million times is short.
                smooth += [(total := past * total + new * each) if each == each else each for each in rest]
                break
            if value == value:
                total = past * total + new * value
                weight = past * weight + new
                smooth.append(total / weight)
            else:
                smooth.append(value)
        self._sum, self._weight = total, weight
        return smooth


class Table:
    """Rows that grow: the same columns over several axes (steps, tokens, time), each of which never goes back."""

    def __init__(self, axes: Sequence[str], columns: Sequence[str]) -> None:
        self.axes: dict[str, array[float]] = {name: _axis(name) for name in axes}
        self.columns = {name: Pyramid() for name in columns}
        self._emas: dict[str, Ema] = {}

    def __len__(self) -> int:
        return len(next(iter(self.axes.values())))

    def append(self, at: Sequence[float], values: Sequence[float | None]) -> None:
        """Add a row: a place on each axis, a number (or None) for each column, in their order."""
        for axis, x in zip(self.axes.values(), at, strict=True):
            axis.append(_onward(axis, x))
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def extend(self, at: Sequence[Sequence[float]], values: Sequence[Sequence[float | None]]) -> None:
        """Add many rows, given as columns of equal length."""
        for axis, xs in zip(self.axes.values(), at, strict=True):
            _extend_axis(axis, xs)
        for column, numbers in zip(self.columns.values(), values, strict=True):
            column.extend(numbers)

    def truncate_after(self, axis: str, x: float) -> Table | None:
        """Forget the rows beyond x on that axis, and return them; None if there are none."""
        keep = bisect_right(self.axes[axis], x)
        if keep == len(self):
            return None
        removed = Table(list(self.axes), list(self.columns))
        removed.extend([xs[keep:] for xs in self.axes.values()], [each.values[keep:] for each in self.columns.values()])
        for xs in self.axes.values():
            del xs[keep:]
        for column in self.columns.values():
            column.truncate(keep)
        return removed

    def series(self, column: str, axis: str, smoothing: float = 0.0) -> Series:
        """A column over an axis, as it grows; smoothed by an Ema where `smoothing` is more than 0."""
        ys = self.columns[column]
        return Series(self.axes[axis], self._smooth(column, smoothing) if smoothing else ys)

    def _smooth(self, column: str, smoothing: float) -> Pyramid:
        ema = self._emas.get(column)
        if ema is None or ema.smoothing != smoothing:
            ema = self._emas[column] = Ema(self.columns[column], smoothing)
        return ema.catch_up()


def _axis(name: str) -> array[Any]:
    return array(_KINDS.get(name, "d"))


def _onward(axis: array[float], x: float) -> float:
    """x, or the end of the axis if x lies before it or is not finite."""
    last = axis[-1] if axis else 0.0
    return x if (x >= last or not axis) and math.isfinite(x) else last


def _extend_axis(axis: array[float], xs: Sequence[float]) -> None:
    try:
        new = array(axis.typecode, xs)
        if math.isfinite(sum(new)) and list(xs) == sorted(xs) and (not axis or new[0] >= axis[-1]):
            axis.extend(new)
            return
    except (OverflowError, IndexError):
        pass
    for x in xs:
        axis.append(_onward(axis, x))
