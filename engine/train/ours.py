"""Memory that comes back before a queued run has its turn: what Molting's own processes hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil

VERBS = ("trainer", "host")  # a run waits for the first, and the second is asked to free its memory


def held(gpu: str = "") -> int:
    """Bytes that trainers and inference hosts of this user hold: of host memory, or of the GPU of that UUID."""
    pids = dict(_processes())
    if not gpu:
        return sum(pids.values())
    return sum(size for pid, size in _on_gpu(gpu) if pid in pids)


def _processes() -> Iterator[tuple[int, int]]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            if any(("-m", "engine", verb) in zip(words, words[1:], words[2:], strict=False) for verb in VERBS):
                yield process.pid, process.memory_info().rss


def _on_gpu(uuid: str) -> list[tuple[int, int]]:
    with contextlib.suppress(Exception):  # whatever NVML says here means that nothing is known to come back
        import pynvml

        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            return [(each.pid, each.usedGpuMemory or 0) for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
        finally:
            pynvml.nvmlShutdown()
    return []
