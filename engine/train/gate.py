"""Waiting for memory that another program holds: a queued run starts when it fits, instead of dying of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from engine.contract.spec import Spec
from engine.models.memory import host_free, host_total

from . import memory, plan
from .ranks import Ranks
from .recorder import Recorder

POLL = 2.0  # seconds

Sleep = Callable[[float], None]


def wait(
    need: int, total: int, free: Callable[[], int], recorder: Recorder, sleep: Sleep = time.sleep, devices: int = 1
) -> None:
    """Wait until `need` bytes are free of `total`, shown as a phase; a stop comes as the trainer's own signal.

    What no waiting can free is not waited for: where the whole device is too small the loader has the better word.
    Of several `devices`, `total` and `free` tell of the one that has least: so all wait alike.
    """
    here = free()
    if here >= need or need > total:
        return
    where = f"and {here / 1e9:.2f} GB are free"
    if devices > 1:
        where = f"on each of {devices} GPUs and {here / 1e9:.2f} GB are free on one of them"
    recorder.warn(
        "waits-for-memory",
        f"This run needs {need / 1e9:.2f} GB {where}: it waits until they are.",
        "End what holds the memory (`molting vram` names it), or stop the run.",
    )
    recorder.phase("waiting for memory", total=need, unit="bytes", done=here)
    while here < need:
        sleep(POLL)
        here = free()
        recorder.progress(here)


def least(folder: Path, spec: Spec, worst: memory.Worst, device: str, rows: int, free: int, world: int = 1) -> int:
    """Bytes that the run cannot do without: what it forecasts with every saving that its spec leaves open.

    Of `world` processes each needs so much on its own device.

    Activations are counted, which takes a moment, only where an estimate says more than the `free` bytes.
    """
    name = memory.device_name(device)
    forecaster = memory.Forecaster(
        folder, worst, device="cpu" if device == "cpu" else "cuda", name=name, counting=False, world=world
    )
    precision = spec.model.precision if spec.model.precision != "auto" else "bf16"
    resolved = plan.resolve(spec, rows=rows, parameters=forecaster.sizes.numbers, precision=precision)
    _, made = forecaster.settled(resolved, 0)
    if made.peak > free:
        forecaster.counting = True
        _, made = forecaster.settled(resolved, 0)
    return made.peak


def room(device: str, ranks: Ranks) -> tuple[int, Callable[[], int]]:
    """Bytes that `device` has in all, and how many are free now; of the devices of all `ranks` the least."""
    total, free = _own(device)
    # Told through the host's memory: a full device has no room for a library that exchanges.
    return ranks.least(total), lambda: ranks.least(free())


def _own(device: str) -> tuple[int, Callable[[], int]]:
    if device == "cpu":
        return host_total(), host_free
    import torch

    return int(torch.cuda.mem_get_info(device)[1]), lambda: int(torch.cuda.mem_get_info(device)[0])
