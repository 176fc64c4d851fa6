"""The rows of each optimizer step, from memory or from a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.contract.errors import MoltingError

from . import plan


def in_memory(rows: list[Any], per_step: int, seed: int) -> Callable[[int], list[Any]]:
    """Rows of step `step` (from 0), in the seed's order."""
    return lambda step: [rows[i] for i in plan.rows_of_step(step, len(rows), per_step, seed)]


class Streamed:
    """Rows of each step from an endless stream, which can only go forward.

    `open_pass(n)` gives the rows of pass n through the data. A resumed run replays what was consumed.
    """

    def __init__(self, open_pass: Callable[[int], Iterator[Any]], per_step: int) -> None:
        self._open_pass, self._per_step = open_pass, per_step
        self._pass, self._step = 0, 0
        self._rows = open_pass(0)

    def __call__(self, step: int) -> list[Any]:
        while self._step < step:
            self._take()
        return self._take()

    def _take(self) -> list[Any]:
        self._step += 1
        return [self._next() for _ in range(self._per_step)]

    def _next(self) -> Any:
        for row in self._rows:
            return row
        self._pass += 1
        self._rows = self._open_pass(self._pass)
        for row in self._rows:
            return row
        raise MoltingError(
            "No row of the training file can be learned from.",
            remedy="`molting doctor SPEC` says why each row was dropped.",
            reason="bad_data",
        )
