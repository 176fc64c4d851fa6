"""Small curves made of characters. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_LEAST_SPAN = 0.2  # of the highest value
BLOCKS = "▁▂▃▄▅▆▇█"
_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))  # braille dots of a column, from the bottom


def blocks(values: Sequence[float | None], width: int) -> str:
    """The last values as at most `width` blocks; `x` where one was not finite, blanks on the left where none is."""
    chosen = _spread(values, width)
    low, span = _range(chosen)
    shown = ("x" if value is None else BLOCKS[_level(value, low, span, len(BLOCKS))] for value in chosen)
    return "".join(shown).rjust(width)


def braille(values: Sequence[float | None], width: int, rows: int) -> list[str]:
    """`rows` lines of `width` braille cells, two values a cell; gaps where one was not finite."""
    chosen = _spread(values, width * 2)
    low, span = _range(chosen)
    cells = [[0] * width for _ in range(rows)]
    before: int | None = None
    for place, value in enumerate(chosen):
        level = None if value is None else _level(value, low, span, rows * 4)
        for each in _steps(before, level):
            cells[rows - 1 - each // 4][place // 2] |= _DOTS[place % 2][each % 4]
        before = level
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in cells]


def _steps(before: int | None, level: int | None) -> range:
    """The dots that join one value to the next: no hole in a steep curve."""
    if level is None:
        return range(0)
    if before is None or abs(level - before) < 2:
        return range(level, level + 1)
    return range(before + 1, level + 1) if level > before else range(level, before)


def _spread(values: Sequence[float | None], count: int) -> list[float | None]:
    """At most `count` of them, evenly taken, first and last included."""
    if len(values) <= count:
        return list(values)
    return [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)] if count > 1 else []


def _range(values: Sequence[float | None]) -> tuple[float, float]:
    known = [value for value in values if value is not None]
    if not known:
        return 0.0, 0.0
    low, high = min(known), max(known)
    # The noise of a flat curve is not drawn as if it were a mountain range.
    return low, max(high - low, _LEAST_SPAN * abs(high))


def _level(value: float, low: float, span: float, levels: int) -> int:
    return min(levels - 1, int((value - low) / span * levels)) if span > 0 else 0
