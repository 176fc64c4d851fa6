"""The device a run will use, told by NVML without torch, so that checks and supervisors stay light."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.contract.errors import MoltingError

CPU = "cpu"


@dataclass(frozen=True)
class Gpu:
    """`free` is in bytes; `capability` is CUDA's major version, from 8 on with fast bf16."""

    uuid: str
    free: int
    capability: int
    name: str = ""


def first_gpu() -> Gpu | None:
    """The first GPU that this process may see; None where there is none, or no driver, or no library."""
    return next(iter(visible_gpus()), None)


def visible_gpus() -> list[Gpu]:
    """The GPUs that this process may see, in their order.

    NVML ignores CUDA_VISIBLE_DEVICES, so it is applied here: by index, or by (a prefix of) a UUID. As for CUDA, the
    first entry that is no GPU ends the list.
    """
    gpus, visible = _gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus
    found: list[Gpu] = []
    for entry in visible.split(","):
        gpu = _named(entry.strip(), gpus)
        if gpu is None or gpu in found:
            break
        found.append(gpu)
    return found


def _named(entry: str, gpus: Sequence[Gpu]) -> Gpu | None:
    if entry.isdecimal():
        return gpus[int(entry)] if int(entry) < len(gpus) else None
    return next((gpu for gpu in gpus if entry and gpu.uuid.startswith(entry)), None)


@dataclass(frozen=True)
class Team:
    """What a run trains on: the `names` it waits for (UUIDs of GPUs, or "cpu") and how many `processes` it takes."""

    names: tuple[str, ...]
    processes: int = 1

    @property
    def gpus(self) -> bool:
        return self.names != (CPU,)


def team(wanted: int | str | Sequence[str] = "auto") -> Team:
    """The devices behind `devices` of a spec. MoltingError (code 2) for those that are not there."""
    gpus = visible_gpus()
    if isinstance(wanted, (list, tuple)):
        names = tuple(_one(uuid, gpus) for uuid in wanted)
        if len(set(names)) < len(names):
            raise MoltingError("devices names a GPU twice.", remedy="Name each GPU once.", code=2)
        return Team(names, len(names))
    count = wanted if isinstance(wanted, int) else 1
    if not gpus:
        return Team((CPU,), count)
    if count > len(gpus):
        raise MoltingError(
            f"devices = {count}, and this machine has {_counted(len(gpus))}.",
            remedy=f"Set devices = {len(gpus)}; the same rows a step give the same result.",
            code=2,
        )
    return Team(tuple(gpu.uuid for gpu in gpus[:count]), count)


def _one(uuid: str, gpus: Sequence[Gpu]) -> str:
    found = [gpu.uuid for gpu in gpus if gpu.uuid.startswith(uuid)] if uuid else []
    if len(found) == 1:
        return found[0]
    here = ", ".join(gpu.uuid for gpu in gpus) or "none"
    raise MoltingError(
        f"There is no GPU {uuid!r} here.",
        remedy=f'GPUs of this machine: {here}. devices = "auto" takes what there is.',
        code=2,
    )


def _counted(gpus: int) -> str:
    return "one GPU" if gpus == 1 else f"{gpus} GPUs"


def claim_name() -> str:
    """What a run waits for: the UUID of its GPU, or "cpu"."""
    gpu = first_gpu()
    return gpu.uuid if gpu else CPU


def _gpus() -> list[Gpu]:
    with contextlib.suppress(Exception):  # whatever NVML says here means that no GPU can be used
        import pynvml

        pynvml.nvmlInit()
        try:
            return [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
        finally:
            pynvml.nvmlShutdown()
    return []


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, _ = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    free = int(nvml.nvmlDeviceGetMemoryInfo(handle).free)
    return Gpu(str(nvml.nvmlDeviceGetUUID(handle)), free, major, str(nvml.nvmlDeviceGetName(handle)))
