"""The rows of each optimizer step, from memory or from a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.contract.errors import MoltingError
from engine.data.index import Index
from engine.data.stream import Position, RowStream

from . import plan


def in_memory(rows: list[Any], per_step: int, seed: int) -> Callable[[int], list[Any]]:
    """Rows of step `step` (from 0), in the seed's order."""
    return lambda step: [rows[i] for i in plan.rows_of_step(step, len(rows), per_step, seed)]


class Streamed:
    """Rows of each step from an endless stream, pass after pass, which can only go forward."""

    def __init__(self, stream: RowStream, per_step: int) -> None:
        self._stream, self._per_step, self._step = stream, per_step, 0
        self._rows = iter(stream)

    def __call__(self, step: int) -> list[Any]:
        while self._step < step:
            self._take()
        return self._take()

    def position(self) -> Position:
        """Where the stream stands behind the last step that was taken."""
        return self._rows.position()

    def go_on(self, step: int, at: Position, known: Index) -> None:
        """Let step `step` be the next, at the place where the stream stood: nothing before it is read again."""
        self._rows, self._step = self._stream.go_on(at, known), step

    def _take(self) -> list[Any]:
        self._step += 1
        return [self._next() for _ in range(self._per_step)]

    def _next(self) -> Any:
        for row in self._rows:
            return row
        self._stream.set_epoch(self._stream.epoch + 1)
        self._rows = iter(self._stream)
        for row in self._rows:
            return row
        raise MoltingError(
            "No row of the training file can be learned from.",
            remedy="`molting doctor SPEC` says why each row was dropped.",
            reason="bad_data",
        )
