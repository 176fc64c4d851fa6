"""A model too large for one device, its frozen weights split over the processes (torch's FSDP2, `fully_shard`).

Only what is not trained is split: each process holds its part of every layer, and a layer is put together while it
computes. The adapter, its optimizer and the checkpoints are those of an unsplit run, so a run may go on unsplit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from engine.contract.errors import MoltingError
from engine.contract.spec import Spec


def require_adapter(spec: Spec) -> None:
    """MoltingError (code 2) for what cannot be split: weights that are all trained."""
    if spec.method.kind == "full":
        raise MoltingError(
            'training.shard splits frozen weights, and method.kind = "full" trains all of them.',
            remedy='Set method.kind = "lora", or training.shard = false.',
            code=2,
        )


def split(model: Any, world: int, device: torch.device) -> None:
    """Split the frozen weights of a PeftModel over `world` processes; each moves its part to `device`."""
    mesh = init_device_mesh(device.type, (world,))
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for parameter in trained:
        parameter.data = parameter.data.to(device)
    base = model.get_base_model()
    whole = set(getattr(base, "_no_split_modules", None) or ())
    for module in model.modules():
        _keep_constants(module, device)
    for layer in [module for module in base.modules() if type(module).__name__ in whole]:
        fully_shard(layer, mesh=mesh, ignored_params=trained)
    fully_shard(base, mesh=mesh, ignored_params=trained)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, frozen)
    model.hf_device_map = {"": device}


def _keep_constants(module: Any, device: torch.device) -> None:
    """4-bit weights lose their constants when they are split; bitsandbytes takes those of the layer then."""
    constants = getattr(getattr(module, "weight", None), "quant_state", None)
    if constants is not None:
        constants.to(device)
        module.quant_state = constants


@contextlib.contextmanager
def outer_layers(model: Any) -> Iterator[None]:
    """While the body runs, embeddings and head lie whole in every process, so that parts of a model can be called."""
    base = model.get_base_model()
    base.unshard()
    try:
        yield
    finally:
        base.reshard()
