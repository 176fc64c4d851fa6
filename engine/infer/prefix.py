"""What all prompts of a voice begin with, the system prompt: computed once and kept with the model.

Kept or not, a beginning is always computed by itself and in the same batch, so the answer to a question has the same
bits whether it was the first one or the hundredth.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from transformers import DynamicCache

KEPT = 4  # on one model; the one that was not used for longest makes room
LONGEST = 1024  # tokens: keys and values of a longer one would take memory that answers need

_Key = tuple[tuple[int, ...], tuple[str, ...]]


class Prefixes:
    """Keys and values of beginnings, by their tokens and by the voices of the batch."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, DynamicCache] = OrderedDict()

    def take(self, key: _Key, compute: Callable[[], DynamicCache]) -> DynamicCache:
        """A copy that may grow: growing replaces the tensors of a layer and never writes into them."""
        if key not in self._kept:
            while len(self._kept) >= KEPT:
                self._kept.popitem(last=False)
            self._kept[key] = compute()
        self._kept.move_to_end(key)
        found = copy.copy(self._kept[key])
        found.layers = [copy.copy(layer) for layer in found.layers]
        return found


@dataclass(frozen=True)
class Head:
    """The prompts begin with `tokens` that are the same whatever is asked; `voices` are those of the rows."""

    tokens: int
    voices: tuple[str, ...]
    kept: Prefixes
