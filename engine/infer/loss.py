"""The answer loss: mean nats per learned token, in bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from engine.train import batch
from engine.train.attention import tree_attention
from engine.train.batch import Layout, Row
from engine.train.loss import model_inputs

from .generate import answering
from .head import chunk_length, hidden_states, logits


def answer_loss(
    model: Any, rows: Sequence[Row], *, batch_tokens: int = 2048, pad_id: int = 0
) -> tuple[float | None, int]:
    """Mean nats per learned token over `rows`, and how many tokens were learned; None where none is.

    `model` is a causal language model, plain or a PeftModel, and keeps its mode. A batch holds at most
    `batch_tokens` tokens, or one row; what rows share is computed once wherever training would. Logits are computed
    at learned positions only, some at a time, and reduced in fp32. The first token of a row is predicted from
    nothing, so it never counts.
    """
    total, learned = 0.0, 0
    with answering(model):
        for layout in _layouts(model, rows, batch_tokens, pad_id):
            total += _negative_log_likelihood(model, *_learned_positions(model, layout))
            learned += len(layout.targets)
    return (total / learned if learned else None), learned


def _layouts(model: Any, rows: Sequence[Row], batch_tokens: int, pad_id: int) -> Iterator[Layout]:
    """What passes through the model, one layout after another; those with nothing learned are left out."""
    longest = max((len(row.input_ids) for row in rows), default=0)
    if batch.unpackable(model.config.get_text_config(), longest):
        layouts = (batch.pad(part, pad_id) for part in _of_like_length(rows, batch_tokens))
    else:
        layouts = (batch.pack(part) for part in batch.micro_batches(rows, batch_tokens))
    return (layout for layout in layouts if layout.targets)


def _of_like_length(rows: Sequence[Row], batch_tokens: int) -> Iterator[list[Row]]:
    """Rows of like length together: nothing is learned here, so their order is free and padding is waste."""
    part: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.input_ids)):
        if part and len(row.input_ids) * (len(part) + 1) > batch_tokens:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _learned_positions(model: Any, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [n, width] that predict a learned token, and those tokens [n]."""
    device = model.device
    with tree_attention(model) if layout.segments else contextlib.nullcontext():
        hidden = hidden_states(model, **model_inputs(layout, device))
    lines, places = zip(*layout.sources, strict=True)
    chosen = hidden[torch.tensor(lines, device=device), torch.tensor(places, device=device)]
    return chosen, torch.tensor(layout.targets, device=device)


def _negative_log_likelihood(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> float:
    total, step = 0.0, chunk_length(model)
    for start in range(0, len(targets), step):
        scores = logits(model, hidden[start : start + step])
        chosen = scores.gather(1, targets[start : start + step, None])[:, 0]
        total += float((scores.logsumexp(dim=1) - chosen).sum())
    return total
