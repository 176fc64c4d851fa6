"""Hidden states and logits apart, so that the vocabulary-sized part runs over few positions at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

LOGITS_AT_ONCE = 1 << 23  # 32 MiB in fp32


def hidden_states(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: torch.Tensor
) -> torch.Tensor:
    """The last hidden states [rows, tokens, width] of a causal language model, plain or a PeftModel.

    `inputs` are further arguments of its forward, such as those of a packed layout.
    """
    inner = _causal(model).base_model
    return inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **inputs).last_hidden_state


def logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The model's fp32 logits [n, vocabulary] at hidden states [n, width].

    The model's own forward computes them, with its inner model answering `hidden`: families scale or cap
    their logits each in its own way (Gemma 2, Cohere, Granite), and calling `lm_head` alone would lose that.
    """
    causal = _causal(model)
    ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
    with _answering(causal.base_model, hidden[None]):
        return causal(input_ids=ids, use_cache=False).logits[0].float()


def chunk_length(model: Any) -> int:
    """Positions whose logits may be held at once."""
    return max(1, LOGITS_AT_ONCE // int(model.config.get_text_config().vocab_size))


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextlib.contextmanager
def _answering(inner: Any, hidden: torch.Tensor) -> Iterator[None]:
    own = inner.__dict__.get("forward")  # set where accelerate has placed a hook
    inner.forward = lambda *args, **kwargs: _Output(hidden)
    try:
        yield
    finally:
        if own is None:
            del inner.forward
        else:
            inner.forward = own


class _Output:
    """Hidden states as a model's output; whatever else a family passes on from there is None."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None
