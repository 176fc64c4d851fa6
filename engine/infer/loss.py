"""The answer loss: mean nats per learned token, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch

from .generate import answering
from .head import chunk_length, hidden_states, logits

IGNORED = -100


class Row(Protocol):
    """What `engine.data.encode` gives: labels are the ids where learned, else -100, not shifted."""

    @property
    def input_ids(self) -> Sequence[int]: ...
    @property
    def labels(self) -> Sequence[int]: ...


def answer_loss(
    model: Any, rows: Sequence[Row], *, batch_tokens: int = 2048, pad_id: int = 0
) -> tuple[float | None, int]:
    """Mean nats per learned token over `rows`, and how many tokens were learned; None where none is.

    `model` is a causal language model, plain or a PeftModel, and keeps its mode. A batch holds at most
    `batch_tokens` tokens with padding, or one row. Logits are computed at learned positions only, some at a
    time, and reduced in fp32. The first token of a row is predicted from nothing, so it never counts.
    """
    total, learned = 0.0, 0
    with answering(model):
        for batch in _batches(rows, batch_tokens):
            hidden, targets = _learned_positions(model, batch, pad_id)
            total += _negative_log_likelihood(model, hidden, targets)
            learned += len(targets)
    return (total / learned if learned else None), learned


def _batches(rows: Sequence[Row], batch_tokens: int) -> Iterator[list[Row]]:
    """Rows of like length together: nothing is learned here, so their order is free and padding is waste."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.input_ids)):
        if batch and len(row.input_ids) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _learned_positions(model: Any, batch: list[Row], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [n, width] that predict a learned token, and those tokens [n]."""
    width = max(len(row.input_ids) for row in batch)

    def padded(values: Sequence[int], fill: int) -> list[int]:
        return list(values) + [fill] * (width - len(values))

    device = model.device
    ids = torch.tensor([padded(row.input_ids, pad_id) for row in batch], device=device)
    labels = torch.tensor([padded(row.labels, IGNORED) for row in batch], device=device)
    mask = torch.tensor([padded([1] * len(row.input_ids), 0) for row in batch], device=device)
    wanted = labels[:, 1:] != IGNORED
    return hidden_states(model, ids, mask)[:, :-1][wanted], labels[:, 1:][wanted]


def _negative_log_likelihood(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> float:
    total, step = 0.0, chunk_length(model)
    for start in range(0, len(targets), step):
        scores = logits(model, hidden[start : start + step])
        chosen = scores.gather(1, targets[start : start + step, None])[:, 0]
        total += float((scores.logsumexp(dim=1) - chosen).sum())
    return total
