"""What a voice's prompts begin with, the system prompt and the turns before the question: computed once and kept.

Kept or not, a beginning is always computed in the same pieces and by itself, so the answer to a question has the same
bits whether it was the first one or the hundredth.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager as Context
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from engine.train import batch

KEPT_BYTES = 256 << 20  # on one model; the beginning that was not used for longest makes room

_Key = tuple[str, tuple[int, ...]]


class Prefixes:
    """Keys and values of beginnings, by their voice and their tokens."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.most = most
        self._kept: OrderedDict[_Key, DynamicCache] = OrderedDict()

    def begin(
        self, model: Any, voice: str, prompt: Sequence[int], ends: Sequence[int], speaking: Callable[[], Context]
    ) -> DynamicCache:
        """The keys and values of `prompt` up to the last of `ends`, one row; a copy that may grow.

        Each piece between two ends is computed by itself, with those before it in the cache. In `speaking()`, which is
        entered only for that, the model answers as `voice` and without gradients.
        """
        keys = [(voice, tuple(prompt[:end])) for end in ends]
        known = next((index for index in reversed(range(len(keys))) if keys[index] in self._kept), -1)
        cache = DynamicCache(config=model.config.get_text_config())
        if known >= 0:
            cache = self._kept[keys[known]]
            self._kept.move_to_end(keys[known])
        for index in range(known + 1, len(keys)):
            cache, start = _copy(cache), ends[index - 1] if index else 0
            piece = torch.tensor([prompt[start : ends[index]]], device=model.device)
            with speaking():
                model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._keep(keys[index], cache)
        return _copy(cache)

    def _keep(self, key: _Key, cache: DynamicCache) -> None:
        self._kept[key] = cache
        while sum(map(_bytes, self._kept.values())) > self.most:
            self._kept.popitem(last=False)


def pieces(prompt: Sequence[int], ends: Iterable[int]) -> tuple[int, ...]:
    """Those of `ends`, ascending, that lie within the prompt and far enough apart to be worth a pass of their own."""
    found, last = [], 0
    for end in sorted(ends):
        if last + batch.WORTH <= end < len(prompt):
            found.append(end)
            last = end
    return tuple(found)


def joined(model: Any, rows: Sequence[DynamicCache]) -> DynamicCache:
    """One cache of several of one row each, padded at the left to the longest."""
    width = max(row.get_seq_length() for row in rows)
    longest = next(row for row in rows if row.get_seq_length() == width)
    found = DynamicCache(config=model.config.get_text_config())
    for index, layer in enumerate(longest.layers):
        if layer.keys is None:  # it uses the keys and values of another layer
            continue
        keys = torch.cat([_padded(row.layers[index].keys, layer.keys) for row in rows])
        found.update(keys, torch.cat([_padded(row.layers[index].values, layer.values) for row in rows]), index)
    return found


def _padded(some: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    if some is None:
        return torch.zeros_like(like)
    return pad(some, (0, 0, like.shape[-2] - some.shape[-2], 0))


def _copy(cache: DynamicCache) -> DynamicCache:
    """Growing replaces the tensors of a layer and never writes into them, so those are shared."""
    found = copy.copy(cache)
    found.layers = [copy.copy(layer) for layer in cache.layers]
    return found


def _bytes(cache: DynamicCache) -> int:
    tensors = (tensor for layer in cache.layers for tensor in (layer.keys, layer.values) if tensor is not None)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
