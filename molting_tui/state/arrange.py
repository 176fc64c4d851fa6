"""Where the panes of the Live screen stand: all that fits, by size, by what is put away and what is maximised."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

RATES = ("lr", "grad_norm", "rate")
PANES = ("loss", *RATES, "memory", "samples", "log")
WIDE = 100  # columns from which panes stand beside each other
TALL = 20  # rows from which more than the loss is a pane
_LINES = (("memory", 6), ("log", 7), ("samples", 10))  # one-line panes, and the height from which they are there
_SIDE = (38, 72)  # least and greatest width of the memory pane
_RATES = (6, 12)
_TEXT = (6, 24)
_GAP = 1


class Box(NamedTuple):
    """Cells, from the upper left of the room."""

    x: int
    y: int
    width: int
    height: int


def arrange(width: int, height: int, hidden: Collection[str] = (), maximised: str = "") -> dict[str, Box]:
    """The panes that are shown. A box of height 1 is for a pane in one line. The loss is always there."""
    if maximised:
        return {maximised: Box(0, 0, width, height)}
    if width < WIDE or height < TALL:
        return _compact(width, height, hidden)
    return _full(width, height, hidden)


def _compact(width: int, height: int, hidden: Collection[str]) -> dict[str, Box]:
    lines = [pane for pane, least in _LINES if pane not in hidden and height >= least]
    lines.sort(key=PANES.index)
    top = max(1, height - len(lines))
    boxes = {"loss": Box(0, 0, width, top)}
    return boxes | {pane: Box(0, top + place, width, 1) for place, pane in enumerate(lines)}


def _full(width: int, height: int, hidden: Collection[str]) -> dict[str, Box]:
    texts = [pane for pane in ("samples", "log") if pane not in hidden]
    rates = [] if "rates" in hidden else list(RATES)
    below = _within(height * 3 // 10, _TEXT) if texts else 0
    middle = _within(height // 5, _RATES) if rates and height - below >= 14 else 0
    top = height - below - middle
    boxes = {"loss": Box(0, 0, width, top)}
    if "memory" not in hidden:
        side = _within(width * 3 // 10, _SIDE)
        boxes["loss"] = Box(0, 0, width - side - _GAP, top)
        boxes["memory"] = Box(width - side, 0, side, top)
    if middle:
        boxes |= _row(rates, width, top, middle)
    return boxes | _row(texts, width, top + middle, below)


def _row(panes: list[str], width: int, y: int, height: int) -> dict[str, Box]:
    """Beside each other, all of the width used."""
    found, x = {}, 0
    for left, pane in zip(range(len(panes), 0, -1), panes, strict=True):
        share = (width - x - _GAP * (left - 1)) // left
        found[pane] = Box(x, y, share, height)
        x += share + _GAP
    return found


def _within(value: int, limits: tuple[int, int]) -> int:
    return min(limits[1], max(limits[0], value))
