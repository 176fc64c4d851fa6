"""What the machine's memory holds: GPUs, host, which part is this run's, and how it went. Pure."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple, Union

import msgspec

from .alerts import DEVICE_NEAR
from .live import AXES, LiveRun
from .series import Table

GIB = float(1 << 30)
RECENT = 600  # seconds of samples that the small curve shows


class GpuProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process that holds memory. `owner` and `name` are empty where the system does not tell."""

    pid: int
    used: Union[int, None] = None  # bytes
    owner: str = ""
    name: str = ""
    run: str = ""  # id of the run it belongs to
    ancestors: tuple[int, ...] = ()  # pids, the parent first


class GpuSample(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU, or one instance of a partitioned one, at one moment. What the driver does not tell is None."""

    label: str  # "0", and "0:1" for instance 1 of GPU 0
    name: str = ""
    uuid: str = ""
    used: Union[int, None] = None  # bytes, by all processes
    total: Union[int, None] = None  # bytes
    util: Union[float, None] = None  # share of the last second in which it worked
    temperature: Union[int, None] = None  # °C
    power: Union[float, None] = None  # watts
    power_limit: Union[float, None] = None  # watts
    clock: Union[int, None] = None  # MHz
    processes: tuple[GpuProcess, ...] = ()
    problem: str = ""  # why there are no numbers


class HostSample(msgspec.Struct, frozen=True, kw_only=True):
    """The machine around the GPUs; bytes and shares. What cannot be known is None."""

    ram_used: Union[int, None] = None
    ram_total: Union[int, None] = None
    swap_used: Union[int, None] = None
    swap_total: Union[int, None] = None
    disk_free: Union[int, None] = None  # where the runs are
    disk_total: Union[int, None] = None
    cpu: Union[float, None] = None  # share of all cores
    cores: int = 0
    processes: tuple[GpuProcess, ...] = ()  # the supervisors of runs, each with all it started


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One sample of everything. `note` says why there is no GPU."""

    t: float = 0.0  # Unix seconds
    gpus: tuple[GpuSample, ...] = ()
    host: HostSample = HostSample()
    note: str = ""


class Split(NamedTuple):
    """How a memory is shared out, in bytes; `peak` and `limit` are marks on it, None where unknown."""

    run: int
    others: int
    free: int
    peak: int | None
    limit: int


class RunUse(NamedTuple):
    """What is known of one run's use of the machine."""

    owner: int = 0  # pid of its supervisor on this host; 0: it runs elsewhere or not at all
    device: int | None = None  # bytes of its GPU, as the trainer says
    device_peak: int | None = None  # the most so far, or what was forecast
    host: int | None = None
    host_peak: int | None = None
    gpus: frozenset[str] = frozenset()  # UUIDs of those it waited for


def use_of(run: LiveRun, owner: int = 0) -> RunUse:
    """What `run` uses now, by its own words: NVML often hides or renumbers processes. Nothing when it has ended."""
    said = run.last_memory
    if not run.live or said is None:
        return RunUse(owner if run.live else 0)
    forecast = run.start.plan.get("device_forecast") if run.start else None
    peaks = [said.device_reserved, said.device_peak, forecast if isinstance(forecast, int) else None]
    known = [each for each in peaks if each is not None]
    taken = str(run.start.plan.get("gpus", "")) if run.start else ""
    peak = max(known, default=None)
    return RunUse(owner, said.device_reserved, peak, said.host, said.host_peak, frozenset(taken.split(",")) - {""})


def split_gpu(gpu: GpuSample, run: RunUse, only: bool) -> Split | None:
    """The GPU's memory shared out; None where its size is unknown. `only`: there is no other GPU."""
    if gpu.total is None or gpu.used is None:
        return None
    here = _here(gpu, run, only)
    used = min(gpu.used, gpu.total)
    mine = max(0, min(here or 0, used))
    others = used - mine
    peak = None
    if here is not None and run.device_peak is not None:
        peak = min(gpu.total, others + max(run.device_peak, mine))
    return Split(mine, others, gpu.total - used, peak, int(DEVICE_NEAR * gpu.total))


def _here(gpu: GpuSample, run: RunUse, only: bool) -> int | None:
    """Bytes of the run on this GPU; None where it has none."""
    own = [each for each in gpu.processes if run.owner and run.owner in (each.pid, *each.ancestors)]
    told = [each.used for each in own if each.used is not None]
    if told:
        return sum(told)
    return run.device if own or only or gpu.uuid in run.gpus else None


def split_host(host: HostSample, run: RunUse) -> Split | None:
    """The host's memory shared out."""
    if host.ram_total is None or host.ram_used is None:
        return None
    used = min(host.ram_used, host.ram_total)
    mine = max(0, min(run.host or 0, used))
    others = used - mine
    peak = min(host.ram_total, others + max(run.host_peak, mine)) if run.host_peak else None
    return Split(mine, others, host.ram_total - used, peak, int(DEVICE_NEAR * host.ram_total))


def gpu_of(machine: Machine, run: RunUse) -> GpuSample | None:
    """The GPU that the run is on: where its processes are, else the only one."""
    only = len(machine.gpus) == 1
    return next((gpu for gpu in machine.gpus if _here(gpu, run, only) is not None), None)


def gib(count: float | None) -> str:
    """Bytes in GiB, three digits at most, without the unit."""
    if count is None:
        return "–"
    value = count / GIB
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}"


class MemoryHistory:
    """Memory over the axes of the loss, in GiB: of the run by its own events, of all by our samples.

    On the device where the run has one, else on the host.
    """

    def __init__(self) -> None:
        self.run = Table(AXES, ("memory",))
        self.all = Table(AXES, ("memory",))
        self._taken = 0  # rows of the run's own table

    def follow(self, live: LiveRun) -> None:
        """Take in what the run has said since."""
        table = live.memory
        times = table.axes["time"]
        device, host = table.columns["device_reserved"].values, table.columns["host"].values
        for row in range(self._taken, len(table)):
            used = device[row] if device[row] == device[row] else host[row]
            self.run.append((*_place(live, times[row]), times[row]), (used / GIB,))
        self._taken = len(table)

    def saw(self, live: LiveRun, machine: Machine) -> None:
        """Take in a sample; nothing while the run does not go on."""
        if not live.live or live.began is None:
            return
        said = live.last_memory
        on_device = said is not None and said.device_reserved is not None
        gpu = gpu_of(machine, use_of(live)) if on_device else None
        used = gpu.used if gpu else machine.host.ram_used if not on_device else None
        if used is not None:
            self.all.append((live.step, live.tokens, machine.t - live.began), (used / GIB,))


def _place(live: LiveRun, time: float) -> tuple[int, float]:
    """(step, tokens) at that time."""
    at = bisect_right(live.steps.axes["time"], time) - 1
    if at < 0:
        return 0, 0.0
    return int(live.steps.axes["step"][at]), live.steps.axes["tokens"][at]
