"""The device a run will use, told by NVML without torch, so that checks and supervisors stay light."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

CPU = "cpu"


@dataclass(frozen=True)
class Gpu:
    """`free` is in bytes; `capability` is CUDA's major version, from 8 on with fast bf16."""

    uuid: str
    free: int
    capability: int
    name: str = ""


def first_gpu() -> Gpu | None:
    """The first GPU that this process may see; None where there is none, or no driver, or no library.

    NVML ignores CUDA_VISIBLE_DEVICES, so it is applied here: by index, or by (a prefix of) a UUID.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.replace("-1", "").strip():
        return None
    first = (visible or "0").split(",")[0].strip()
    gpus = _gpus()
    if first.isdecimal():
        return gpus[int(first)] if int(first) < len(gpus) else None
    return next((gpu for gpu in gpus if gpu.uuid.startswith(first)), None)


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
