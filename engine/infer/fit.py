"""Whether a model fits into memory, said before it is loaded."""

from __future__ import annotations

from pathlib import Path

from engine.contract import host_client
from engine.contract.errors import MoltingError
from engine.models.build import LoadOptions
from engine.models.device import choose_device, choose_precision
from engine.models.memory import host_free
from engine.train.device import claim_name

_ROOM = 1.1  # of the weights: buffers of loading, and the keys and values of answers


def needed(folder: Path, options: LoadOptions) -> int:
    """Bytes that a model takes once it is loaded, from the headers of its files."""
    from engine.train.memory import sizes_of

    model = sizes_of(folder)
    if model.stored:
        return model.stored
    each = 4 if choose_precision(choose_device(options.device), options.precision) == "fp32" else 2
    if options.quantization == "none":
        return each * model.numbers
    if options.quantization == "int8":
        return model.linear + each * model.other
    # A byte holds two weights; every 64 have a constant, and with double quantisation every 256 of those another.
    constants = (1 + 4 / 256) / 64 if options.double_quant else 4 / 64
    return round(model.linear * (0.5 + constants)) + each * model.other


def free(device: str) -> int:
    """Bytes free on `device`; on a CPU no more than this process's control group allows."""
    if device == "cpu":
        return host_free()
    import torch

    # What torch has reserved and does not use can be used again.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def make_room(folder: Path, options: LoadOptions, why: str, copies: int = 1) -> None:
    """As `require_room`, for work outside the inference host, which is asked for its memory before anything is refused.

    `why` completes "Memory was given back: ".
    """
    try:
        require_room(folder, options, copies)
    except MoltingError:
        freed = host_client.ask_to_free(claim_name(), why)
        if freed is None or freed.busy:
            raise
        require_room(folder, options, copies)


def require_room(folder: Path, options: LoadOptions, copies: int = 1) -> None:
    """Raise MoltingError (oom_host, oom_cuda) where `copies` of a model will not fit into what is free now."""
    device = choose_device(options.device)
    wanted, there = round(_ROOM * copies * needed(folder, options)), free(device)
    if wanted <= there:
        return
    where = "this machine's memory" if device == "cpu" else device
    raise MoltingError(
        f"{folder.name} needs about {wanted / 1e9:.1f} GB and {there / 1e9:.1f} GB of {where} are free, so it was not "
        "loaded.",
        remedy="End what else uses that memory (`molting vram` shows it), or take a smaller or a 4-bit model.",
        reason="oom_host" if device == "cpu" else "oom_cuda",
    )
