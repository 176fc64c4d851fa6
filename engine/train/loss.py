"""The one loss: summed over the learned tokens, with logits only where something is learned."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from .batch import Layout


def summed_loss(model: Any, layout: Layout) -> torch.Tensor:
    """Sum of the nats over the targets of `layout`, a float32 scalar on the model's device.

    `model` is a causal language model, plain, wrapped by PEFT or by DDP; it is called through its own forward, so
    soft-capping and scaling of logits are those of the model.
    """
    device = next(model.parameters()).device
    lines, places = zip(*layout.sources, strict=True)
    kept = sorted(set(places))
    where = {place: i for i, place in enumerate(kept)}
    inputs = {
        "input_ids": torch.tensor(layout.lines, device=device),
        "position_ids": torch.tensor(layout.positions, device=device),
        "attention_mask": _attention_mask(layout, device),
        "use_cache": False,
    }
    if _keeps_logits(model):
        inputs["logits_to_keep"] = torch.tensor(kept, device=device)
        columns = [where[place] for place in places]
    else:
        columns = list(places)
    logits = model(**inputs).logits
    chosen = logits[torch.tensor(lines, device=device), torch.tensor(columns, device=device)]
    targets = torch.tensor(layout.targets, device=device)
    return torch.nn.functional.cross_entropy(chosen.float(), targets, reduction="sum")


def _attention_mask(layout: Layout, device: torch.device) -> torch.Tensor:
    segments = torch.tensor(layout.segments, device=device)
    if not layout.packed:
        return (segments >= 0).long()
    row = segments[0]
    visible = (row[:, None] == row[None, :]) | (row[None, :] == 0)
    return torch.tril(visible)[None, None]


def _keeps_logits(model: Any) -> bool:
    inner = getattr(model, "module", model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return "logits_to_keep" in inspect.signature(type(inner).forward).parameters
