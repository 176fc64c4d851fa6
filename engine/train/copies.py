"""How much of an answer is copied: what of it stands in the rows that were learned from, in the same company."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from engine.data.rows import EncodedRow

TOKENS = 6  # in a row that are called a copy: sentences seldom share as many by chance
_BITS = 27  # 16 MiB of bits, for a million different sequences one in 4,000 is mistaken for a known one
_MIX = np.uint64(0x9E3779B97F4A7C15)


OfStep = Callable[[int], list[EncodedRow]]


class Copies:
    """Sequences of TOKENS learned tokens, remembered as two bits each (Bloom 1970): bounded, however many rows."""

    def __init__(self) -> None:
        self._bits = np.zeros(1 << (_BITS - 3), np.uint8)

    def note(self, rows: Iterable[EncodedRow]) -> None:
        """Remember what is learned in the rows of a step."""
        for row in rows:
            for span in row.spans:
                if span.learned:
                    places = _places(row.input_ids[span.start : span.end])
                    np.bitwise_or.at(self._bits, places >> 3, (1 << (places & 7)).astype(np.uint8))

    def noting(self, of_step: OfStep, per_epoch: int) -> OfStep:
        """`of_step`, whose rows are noted as they are learned. `per_epoch`: steps after which all rows were seen.

        A resumed run notes what was learned before; of a stream (`per_epoch` 0) that is not read again.
        """
        began: list[int] = []

        def rows_of(step: int) -> list[EncodedRow]:
            if not began:
                began.append(max(0, step - per_epoch) if per_epoch else step)
                for earlier in range(began[0], step):
                    self.note(of_step(earlier))
            rows = of_step(step)
            if not per_epoch or step < began[0] + per_epoch:
                self.note(rows)
            return rows

        return rows_of

    def share(self, ids: Sequence[int]) -> float | None:
        """The share of the tokens of an answer that belong to a known sequence; None for an empty answer."""
        if not len(ids):
            return None
        places = _places(ids)
        known = ((self._bits[places >> 3] >> (places & 7)) & 1).reshape(2, -1).all(axis=0)
        copied = np.zeros(len(ids), bool)
        for start in np.flatnonzero(known):
            copied[start : start + TOKENS] = True
        return float(copied.mean())


def _places(ids: Sequence[int]) -> Any:
    """Two places in the bits for each sequence of TOKENS ids; a shorter text is one sequence."""
    values = np.asarray(ids, np.uint64) + np.uint64(1)
    size = min(TOKENS, len(values))
    hashes = np.zeros(len(values) - size + 1, np.uint64)
    for i in range(size):
        hashes = (hashes ^ values[i : len(values) - size + 1 + i]) * _MIX
        hashes ^= hashes >> np.uint64(29)
    return np.concatenate([hashes >> np.uint64(64 - _BITS), (hashes * _MIX) >> np.uint64(64 - _BITS)]).astype(np.int64)
