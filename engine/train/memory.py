"""What memory this process uses, read from the kernel and from torch."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import psutil

from engine.contract import durable, events
from engine.contract.spec import Spec


def event(folder: Path, device: Any) -> events.Memory:
    """Bytes now; `folder` names the disk whose free space counts. `device` is a torch device."""
    host = psutil.Process().memory_info().rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    said = events.Memory(host=host, host_peak=peak, disk_free=durable.free_bytes(folder))
    if device.type == "cuda":
        import torch

        said.device = torch.cuda.memory_allocated(device)
        said.device_peak = torch.cuda.max_memory_allocated(device)
        said.device_reserved = torch.cuda.memory_reserved(device)
    return said


ACTIVATIONS = 120  # bytes a token, a layer and a hidden unit, LoRA on all linear layers in 16 bits (measured 55 to 66
# numbers of 2 bytes on models of 1 to 8 billion parameters)
LOGITS = 12  # bytes a learned token and a word of the vocabulary: fp32 logits, their softmax and gradient
ROOM = 0.85  # share of free memory that a forecast may fill


def activations(spec: Spec, config: Any, longest: int) -> int:
    """Bytes that one forward pass keeps for its backward pass, without gradient checkpointing."""
    text = config.get_text_config()
    tokens = spec.training.batch * longest
    return tokens * (ACTIVATIONS * text.num_hidden_layers * text.hidden_size + LOGITS * text.vocab_size)


def must_checkpoint(spec: Spec, model: Any, longest: int, device: str) -> bool:
    """Whether gradient checkpointing is on: as the spec says, else only where activations would not fit."""
    wanted = spec.training.gradient_checkpointing
    if wanted != "auto":
        return bool(wanted)
    return activations(spec, model.config, longest) > ROOM * free(device)


def free(device: str) -> int:
    """Bytes free on `device`."""
    if device == "cpu":
        return psutil.virtual_memory().available
    import torch

    return int(torch.cuda.mem_get_info(device)[0])
