"""A growing column of numbers with the smallest and largest of every block of 16, of 256, and so on up.

So the extremes of any stretch of a million numbers cost a few microseconds, which is what a plot asks for. It
takes 4.5 bytes a number: they are kept as 32-bit floats, seven digits.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import cast

_SHIFT = 4
_BLOCK = 1 << _SHIFT
_LARGEST = 3.402823567797336e38  # what still rounds to a 32-bit float; an average of the largest may lie above it
_NAN, _INF = math.nan, math.inf


class Pyramid:
    """Numbers by index. None and what is not finite are gaps: NaN in `values`, and in no extreme.

    `cuts` counts the calls of `truncate`, so that what was derived from the numbers can tell that it is stale.
    """

    __slots__ = ("_highs", "_lows", "cuts", "gaps", "values")

    def __init__(self, values: Iterable[float | None] = ()) -> None:
        self.values = array("f")
        self.gaps = array("Q")  # indices, ascending
        self.cuts = 0
        self._lows: list[array[float]] = []  # of blocks of 16, of 256 …; complete blocks only
        self._highs: list[array[float]] = []
        self.extend(list(values))

    def __len__(self) -> int:
        return len(self.values)

    def append(self, value: float | None) -> None:
        """Add one number (about 0.2 µs)."""
        values = self.values
        # One comparison chain refuses NaN, the infinities and what a 32-bit float cannot hold.
        if value is not None and -_LARGEST <= value <= _LARGEST:
            values.append(value)
        else:
            self.gaps.append(len(values))
            values.append(_NAN)
        if not len(values) & (_BLOCK - 1):
            self._fold()

    def extend(self, values: Sequence[float | None]) -> None:
        """Add many numbers at once."""
        try:
            # None raises; one NaN, infinity or number too large shows in the whole, at the speed of C.
            finite = math.hypot(*cast("Sequence[float]", values)) <= _LARGEST
        except (TypeError, OverflowError):
            finite = False
        if finite:
            self.values.extend(array("f", cast("Sequence[float]", values)))
            self._fold()
            return
        for value in values:
            self.append(value)

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` numbers."""
        if length >= len(self.values):
            return
        self.cuts += 1
        del self.gaps[bisect_left(self.gaps, length) :]
        del self.values[length:]
        for lows, highs in zip(self._lows, self._highs, strict=True):
            length >>= _SHIFT
            del lows[length:], highs[length:]
        while self._lows and not self._lows[-1]:
            del self._lows[-1], self._highs[-1]

    def has_gap(self, begin: int, end: int) -> bool:
        """Whether a gap lies in [begin, end)."""
        gaps = self.gaps
        at = bisect_left(gaps, begin)
        return at < len(gaps) and gaps[at] < end

    def extremes(self, begin: int, end: int) -> tuple[float, float]:
        """The smallest and the largest number in [begin, end); (inf, -inf) where there is none."""
        low, high = _INF, -_INF
        lows = highs = self.values
        for level in count():
            if begin >= end:
                break
            last = level == len(self._lows) or end - begin <= 2 * _BLOCK
            left = end if last else -(-begin >> _SHIFT) << _SHIFT  # where whole blocks begin
            right = end if last else end >> _SHIFT << _SHIFT  # and where they end
            for i, j in ((begin, left), (right, end)):
                if i < j:
                    smallest, largest = self._scan(lows, highs, level, i, j)
                    low = smallest if smallest < low else low
                    high = largest if largest > high else high
            if last:
                break
            lows, highs = self._lows[level], self._highs[level]
            begin, end = left >> _SHIFT, right >> _SHIFT
        return low, high

    def first(self, begin: int, end: int) -> float:
        """The first number in [begin, end); NaN where there is none."""
        values = self.values
        return next((value for i in range(begin, end) if (value := values[i]) == value), _NAN)

    def last(self, begin: int, end: int) -> float:
        """The last number in [begin, end); NaN where there is none."""
        values = self.values
        return next((value for i in range(end - 1, begin - 1, -1) if (value := values[i]) == value), _NAN)

    def _scan(self, lows: array[float], highs: array[float], level: int, i: int, j: int) -> tuple[float, float]:
        if level:
            return min(lows[i:j]), max(highs[i:j])
        part: Sequence[float] = lows[i:j]
        if self.gaps and self.has_gap(i, j):
            part = [value for value in part if value == value]
        return (min(part), max(part)) if part else (_INF, -_INF)

    def _fold(self) -> None:
        """Take the blocks that became complete up, level by level."""
        lows = highs = self.values
        for level in count():
            blocks = len(lows) >> _SHIFT
            if level == len(self._lows):
                if not blocks:
                    return
                self._lows.append(array("f"))
                self._highs.append(array("f"))
            upper_lows, upper_highs = self._lows[level], self._highs[level]
            if len(upper_lows) == blocks:
                return
            begin, end = len(upper_lows) << _SHIFT, blocks << _SHIFT
            if level or not self.has_gap(begin, end):
                smallest = lows[begin:end].tolist()
                upper_lows.extend(_each_block(min, smallest))
                upper_highs.extend(_each_block(max, highs[begin:end].tolist() if level else smallest))
            else:
                for i in range(begin, end, _BLOCK):
                    low, high = self._scan(lows, highs, level, i, i + _BLOCK)
                    upper_lows.append(low)
                    upper_highs.append(high)
            lows, highs = upper_lows, upper_highs


def _each_block(extreme: Callable[[list[float]], float], values: list[float]) -> Iterable[float]:
    return [extreme(values[i : i + _BLOCK]) for i in range(0, len(values), _BLOCK)]
