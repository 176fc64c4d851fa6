"""Run by torchrun: the losses and gradients of a split model beside those of the whole one, plain and in 4 bits.

Process 0 prints a line for each: kind, difference of losses, largest difference of gradients, share of the frozen
numbers that a process holds, and whether the saved adapter is whole.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # torchrun starts it as a file

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from engine.models.load import LoadOptions, load_base
from engine.train import shard


def compare(folder: Path, kind: str) -> str:
    torch.manual_seed(0)
    loaded = load_base(folder, LoadOptions(precision="fp32", quantization=kind, device="cpu"))  # type: ignore[arg-type]
    loaded.model.requires_grad_(False)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(loaded.model, lora).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    held = sum(parameter.numel() for parameter in frozen)
    rank, world = distributed.get_rank(), distributed.get_world_size()
    ids = torch.arange(20 * world).reshape(world, 20)

    want = model(ids[rank : rank + 1], labels=ids[rank : rank + 1]).loss
    want.backward()
    gradients = [parameter.grad.clone() for parameter in trained]
    for each in gradients:
        distributed.all_reduce(each)
        each /= world
    model.zero_grad(set_to_none=True)

    shard.split(model, world, torch.device("cpu"))
    together = DistributedDataParallel(model)
    with together.no_sync():
        (together(ids[rank : rank + 1], labels=ids[rank : rank + 1]).loss * 0).backward()
    got = together(ids[rank : rank + 1], labels=ids[rank : rank + 1]).loss
    got.backward()
    worst = max(float((p.grad - each).abs().max()) for p, each in zip(trained, gradients, strict=True))
    kept = sum(_local(p).numel() for p in model.parameters() if not p.requires_grad) / held
    return f"{kind} {abs(got.item() - want.item())} {worst} {kept:.3f} {_saved(model, trained)}"


def _local(parameter: Any) -> Any:
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


def _saved(model: Any, trained: list[Any]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        found = load_file(Path(folder) / "adapter_model.safetensors")
    return sum(each.numel() for each in found.values()) == sum(each.numel() for each in trained)


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    lines = [compare(Path(sys.argv[1]), kind) for kind in ("none", "nf4")]
    if distributed.get_rank() == 0:
        print(*lines, sep="\n", flush=True)
    distributed.destroy_process_group()
