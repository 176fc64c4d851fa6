"""The one loss: summed over the learned tokens, with logits only where something is learned."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from .attention import as_tree, visible
from .batch import Layout


def summed_loss(model: Any, layout: Layout) -> torch.Tensor:
    """Sum of the nats over the targets of `layout`, a float32 scalar on the model's device.

    `model` is a causal language model, plain, wrapped by PEFT or by DDP; it is called through its own forward, so
    soft-capping and scaling of logits are those of the model. A packed layout is to be run, backward pass included,
    under `attention.tree_attention`.
    """
    device = next(model.parameters()).device
    sources, learned = zip(*sorted(zip(layout.sources, layout.targets, strict=True)), strict=True)
    lines, places = zip(*sources, strict=True)
    kept = sorted(set(places))
    where = {place: i for i, place in enumerate(kept)}
    inputs = {**model_inputs(layout, device), "use_cache": False}
    if _keeps_logits(model):
        inputs["logits_to_keep"] = torch.tensor(kept, device=device)
        columns = [where[place] for place in places]
    else:
        columns = list(places)
    logits = model(**inputs).logits
    if len(set(sources)) == len(sources) == logits.shape[0] * logits.shape[1]:
        chosen = logits.flatten(0, 1)  # each is used once, so that none is copied
    else:
        chosen = logits[torch.tensor(lines, device=device), torch.tensor(columns, device=device)]
    targets = torch.tensor(learned, device=device)
    return torch.nn.functional.cross_entropy(chosen.float(), targets, reduction="sum")


def model_inputs(layout: Layout, device: torch.device) -> dict[str, torch.Tensor]:
    """Ids, positions and what each token sees, as arguments of a model's forward."""
    inputs = {"input_ids": torch.tensor(layout.lines, device=device)}
    if not layout.segments:
        width = torch.arange(len(layout.lines[0]), device=device)
        lengths = torch.tensor(layout.lengths, device=device)
        return {**inputs, "attention_mask": (width < lengths[:, None]).long()}
    inputs["position_ids"] = torch.tensor(layout.positions, device=device)
    if device.type == "cuda":
        return {**inputs, "attention_mask": visible(layout.segments, device)}
    return {**inputs, **as_tree(layout.segments)}


def _keeps_logits(model: Any) -> bool:
    inner = getattr(model, "module", model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return "logits_to_keep" in inspect.signature(type(inner).forward).parameters
