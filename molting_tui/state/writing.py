"""Rows while they are written: every change can be taken back and made again, without limit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .rows_file import Layout, Row


@dataclass(frozen=True)
class Splice:
    """At row `at`, `old` gave way to `new`: adding, editing, deleting and moving are all this."""

    at: int
    old: tuple[Row, ...]
    new: tuple[Row, ...]

    @property
    def back(self) -> Splice:
        return Splice(self.at, self.new, self.old)


class Writing:
    """The rows of one file and what was done to them since it was opened."""

    def __init__(self, layout: Layout, rows: Sequence[Row]) -> None:
        self.layout = layout
        self.rows = list(rows)
        self._done: list[Splice] = []
        self._undone: list[Splice] = []
        self._saved: Splice | None = None  # the last change that is in the file

    @property
    def dirty(self) -> bool:
        """Whether there is anything that the file does not hold."""
        return (self._done[-1] if self._done else None) is not self._saved

    @property
    def can_undo(self) -> bool:
        return bool(self._done)

    def text(self) -> str:
        """The whole file as it would be saved."""
        return self.layout.text(self.rows)

    def saved(self) -> None:
        """The file now holds what stands here."""
        self._saved = self._done[-1] if self._done else None

    def add(self, at: int, row: Row) -> int:
        """Put a row before row `at`; its number."""
        return self._do(Splice(max(0, min(at, len(self.rows))), (), (row,)))

    def put(self, at: int, row: Row) -> int:
        """Give row `at` other content; nothing happens where it is the same."""
        return at if self.rows[at].raw == row.raw else self._do(Splice(at, (self.rows[at],), (row,)))

    def delete(self, at: int) -> int:
        """Take row `at` away; the number of the row that then stands there or, at the end, before it."""
        self._do(Splice(at, (self.rows[at],), ()))
        return max(0, min(at, len(self.rows) - 1))

    def move(self, at: int, by: int) -> int:
        """Swap row `at` with its neighbour; where it stands then."""
        other = at + by
        if not 0 <= other < len(self.rows):
            return at
        low = min(at, other)
        one, two = self.rows[low : low + 2]
        self._do(Splice(low, (one, two), (two, one)))
        return other

    def take_over(self, rows: Sequence[Row]) -> None:
        """Put other rows in the place of all, as one change."""
        self._do(Splice(0, tuple(self.rows), tuple(rows)))

    def undo(self) -> int | None:
        """Take back the last change; the row where it was, None when there is none."""
        if not self._done:
            return None
        change = self._done.pop()
        self._undone.append(change)
        return self._apply(change.back)

    def redo(self) -> int | None:
        """Make the change again that was taken back last."""
        if not self._undone:
            return None
        change = self._undone.pop()
        self._done.append(change)
        return self._apply(change)

    def _do(self, change: Splice) -> int:
        self._done.append(change)
        self._undone.clear()
        return self._apply(change)

    def _apply(self, change: Splice) -> int:
        self.rows[change.at : change.at + len(change.old)] = change.new
        return max(0, min(change.at, len(self.rows) - 1))
