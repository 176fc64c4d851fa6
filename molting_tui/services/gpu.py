"""Looks at the machine: GPUs through NVML, the host through psutil. Knows no widgets and no runs.

pynvml is imported when the first sample is taken: most of its 80 ms would otherwise be paid at start.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.contract.safe import safe

from ..state.gpu import GpuProcess, GpuSample, HostSample, Machine
from .cgroup import memory_limit
from .owner import Owners

T = TypeVar("T")

_AGAIN = 5.0  # seconds between attempts to reach a driver that is missing or a GPU that was lost
_LONGEST_NAME = 60


class MachineSampler:
    """Takes samples of GPUs and host; nothing it meets raises. For one thread; close it or use it as a context."""

    def __init__(self, runs: Path) -> None:
        """`runs`: whose processes are named; free space is that of the nearest folder above it that exists."""
        self._gpus = GpuSampler()
        self._host = HostSampler(runs)
        self._owners = Owners(runs)

    def __enter__(self) -> MachineSampler:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def sample(self) -> Machine:
        """Everything now. The first share of CPU is measured over 0.1 s, later ones since the last sample."""
        gpus, note = self._gpus.sample()
        owners = self._owners.living()
        host = msgspec.structs.replace(self._host.sample(), processes=tuple(_on_host(owners)))
        return Machine(t=time.time(), gpus=tuple(_named(gpu, owners) for gpu in gpus), host=host, note=note)

    def close(self) -> None:
        self._gpus.close()


def _named(gpu: GpuSample, owners: Mapping[int, str]) -> GpuSample:
    """With the runs that its processes belong to: a trainer is a child of its run's supervisor."""

    def named(process: GpuProcess) -> GpuProcess:
        runs = (owners[pid] for pid in (process.pid, *process.ancestors) if pid in owners)
        return msgspec.structs.replace(process, run=next(runs, ""))

    return msgspec.structs.replace(gpu, processes=tuple(map(named, gpu.processes)))


def _on_host(owners: Mapping[int, str]) -> Iterator[GpuProcess]:
    """The supervisors with the resident memory of all they started."""
    import psutil

    for pid, run in owners.items():
        with contextlib.suppress(psutil.Error, OSError):
            supervisor = psutil.Process(pid)
            used = sum(_resident(each) for each in (supervisor, *supervisor.children(recursive=True)))
            yield msgspec.structs.replace(_process(pid, used), run=run)


def _resident(process: Any) -> int:
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended meanwhile
        return 0


class GpuSampler:
    """Keeps NVML open; opens it anew when the driver or a GPU went away."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._note = ""
        self._retry_at = 0.0
        self._known: dict[int, tuple[str, str]] = {}  # index -> name and UUID, for when it does not answer

    def sample(self) -> tuple[tuple[GpuSample, ...], str]:
        """(all GPUs, why there is none)."""
        if self._nvml is None and not self._open():
            return (), self._note
        nvml = self._nvml
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            self._lose(error)
            return (), self._note
        gpus = tuple(each for index in range(count) for each in self._gpu(index))
        if any(gpu.problem for gpu in gpus) and time.monotonic() >= self._retry_at:
            # A GPU that was reset answers only those who open the driver after it.
            self._reopen()
        return gpus, "" if gpus else "The NVIDIA driver sees no GPU."

    def close(self) -> None:
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml = None

    def _open(self) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            import pynvml
        except ImportError:
            self._note = "The package nvidia-ml-py is not installed, so GPUs cannot be seen."
            self._retry_at = float("inf")
            return False
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._note = _explain(pynvml, error)
            self._retry_at = time.monotonic() + _AGAIN
            return False
        self._nvml, self._note = pynvml, ""
        return True

    def _reopen(self) -> None:
        self._retry_at = time.monotonic() + _AGAIN
        nvml = self._nvml
        try:
            nvml.nvmlShutdown()
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._note = _explain(self._nvml, error)
        self.close()
        self._retry_at = time.monotonic() + _AGAIN

    def _gpu(self, index: int) -> Iterator[GpuSample]:
        """The GPU, or its instances where it is partitioned."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            # A lost GPU may still be found: asking for what every GPU has tells.
            name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
        except nvml.NVMLError as error:
            name, uuid = self._known.get(index, ("", ""))
            yield GpuSample(label=str(index), name=name, uuid=uuid, problem=_explain(nvml, error))
            return
        self._known[index] = name, uuid
        instances = list(self._instances(handle))
        if not instances:
            yield self._sample(str(index), handle, name, uuid)
        for number, instance in instances:
            part, part_uuid = self._try("nvmlDeviceGetName", instance), self._try("nvmlDeviceGetUUID", instance)
            shown = _text(part) if part else f"{name} MIG"
            yield self._sample(f"{index}:{number}", instance, shown, _text(part_uuid or ""))

    def _instances(self, handle: Any) -> Iterator[tuple[int, Any]]:
        mode = self._try("nvmlDeviceGetMigMode", handle)
        if not mode or mode[0] != 1:
            return
        for number in range(self._try("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
            instance = self._try("nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
            if instance is not None:
                yield number, instance

    def _sample(self, label: str, handle: Any, name: str, uuid: str) -> GpuSample:
        nvml = self._nvml
        used = total = None
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            used, total = int(memory.used), int(memory.total)
        except nvml.NVMLError as error:
            # Where GPU and host share their memory there is no such number: the host's bar tells.
            if error.value not in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
                return GpuSample(label=label, name=name, uuid=uuid, problem=_explain(nvml, error))
        busy = self._try("nvmlDeviceGetUtilizationRates", handle)
        power = self._try("nvmlDeviceGetPowerUsage", handle)
        limit = self._try("nvmlDeviceGetEnforcedPowerLimit", handle)
        return GpuSample(
            label=label,
            name=name,
            uuid=uuid,
            used=used,
            total=total,
            util=None if busy is None else busy.gpu / 100,
            temperature=self._try("nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
            power=None if power is None else power / 1000,
            power_limit=None if limit is None else limit / 1000,
            clock=self._try("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
            processes=tuple(self._on(handle)),
        )

    def _on(self, handle: Any) -> Iterator[GpuProcess]:
        """The processes on a GPU, each once: one that computes and draws is in both lists."""
        found: dict[int, int | None] = {}
        for question in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            for each in self._try(question, handle) or ():
                used = None if each.usedGpuMemory is None else int(each.usedGpuMemory)
                before = found.get(each.pid)
                found[each.pid] = used if before is None else before if used is None else max(before, used)
        for pid, used in found.items():
            yield _process(pid, used)

    def _try(self, question: str, *given: Any) -> Any:
        """What NVML answers; None where it cannot: every field is optional."""
        nvml = self._nvml
        try:
            return getattr(nvml, question)(*given)
        except (nvml.NVMLError, nvml.NVMLLibraryMismatchError):  # the latter from a driver that is too old
            return None


def _explain(nvml: Any, error: Any) -> str:
    """One sentence on what NVML said."""
    sentences = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "No NVIDIA driver is installed here.",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "The NVIDIA driver is installed but not loaded.",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "The NVIDIA driver was updated; it works again after a reboot.",
        nvml.NVML_ERROR_NO_PERMISSION: "The NVIDIA driver does not let this user look.",
        nvml.NVML_ERROR_GPU_IS_LOST: "The GPU is lost: it fell off the bus or was reset.",
    }
    return sentences.get(getattr(error, "value", None)) or f"The NVIDIA driver answers: {_text(str(error))}."


def _text(raw: str | bytes) -> str:
    said = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return safe(said[:_LONGEST_NAME], keep_newlines=False)


def _process(pid: int, used: int | None) -> GpuProcess:
    """The process with its owner and name, as far as the system tells; those of others may be hidden."""
    import psutil

    owner, name, ancestors = "", "", ()
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        name = _text(process.name())
        ancestors = tuple(each.pid for each in process.parents())
        owner = _text(process.username())
    return GpuProcess(pid=pid, used=used, owner=owner, name=name, ancestors=ancestors)


class HostSampler:
    """RAM, swap, disk and CPU."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._measured = False

    def sample(self) -> HostSample:
        """All of it now; what the system does not tell is None."""
        import psutil

        ram, swap = _known(psutil.virtual_memory), _known(psutil.swap_memory)
        total, used = (ram.total, ram.total - ram.available) if ram else (None, None)
        if ram and (limited := memory_limit()) and limited[0] < ram.total:
            total, used = limited  # of a container, or a job of a cluster
        space = _known(lambda: psutil.disk_usage(str(_nearest(self._disk))))
        # Without a measurement before it, psutil has no share of CPU to tell.
        cpu = _known(lambda: psutil.cpu_percent(None if self._measured else 0.1))
        self._measured = True
        return HostSample(
            ram_used=used,
            ram_total=total,
            swap_used=swap and swap.used,
            swap_total=swap and swap.total,
            disk_free=space and space.free,
            disk_total=space and space.total,
            cpu=None if cpu is None else cpu / 100,
            cores=psutil.cpu_count() or 0,
        )


def _nearest(path: Path) -> Path:
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


def _known(ask: Callable[[], T]) -> T | None:
    import psutil

    try:
        return ask()
    except (psutil.Error, OSError, RuntimeError, ValueError):
        return None
