"""A comparison as dots and intervals: one pane of everything, or two beside each other where there is room."""

from __future__ import annotations

from engine.contract.verdict import Comparison

from ..state.compare_view import differs_lines, picture_lines, verdict_lines
from ..state.lines import Line
from .lines_pane import LinesPane


class DotsPane(LinesPane):
    """The verdict and its picture; what differs follows below where `alone`."""

    def __init__(self, found: Comparison, id: str) -> None:
        super().__init__(id)
        self._found = found
        self.alone = True

    def lines(self, width: int) -> list[Line]:
        rows = [*verdict_lines(self._found, width), [], *picture_lines(self._found, width)]
        return [*rows, [], *differs_lines(self._found, width)] if self.alone else rows


class DiffersPane(LinesPane):
    """What is not the same about both, and what to be careful about."""

    def __init__(self, found: Comparison, id: str) -> None:
        super().__init__(id)
        self._found = found

    def lines(self, width: int) -> list[Line]:
        return differs_lines(self._found, width)
