"""The machine's memory in lines of text, for the pane and for the command. Pure.

Roles: run, others, free, mark, dim, bold, warn, and "" for what is plain.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from .. import text
from .gpu import GpuProcess, GpuSample, HostSample, Machine, RunUse, Split, gib, gpu_of, split_gpu, split_host
from .lines import Line, clipped, merged

UNICODE = "█▒░│╎"  # run, others, free, limit, peak
ASCII = "#=.|:"
_PROCESSES = 3  # of others, the largest


def lines(machine: Machine, use: RunUse, width: int, signs: str = UNICODE, *, titled: bool = False) -> list[Line]:
    """All GPUs, then the host; or the host and why there is no GPU. `titled`: `title` stands above them."""
    found: list[Line] = []
    only = len(machine.gpus) == 1
    for gpu in machine.gpus:
        found += [*gpu_lines(gpu, use, width, signs, only=only, head=not (titled and only)), []]
    on_device = bool(machine.gpus) and use.device is not None
    found += host_lines(machine.host, use, width, signs, brief=on_device, head=not titled or bool(machine.gpus))
    if not machine.gpus and machine.note:
        found += [[(row, "dim")] for row in text.wrap(machine.note, width)]
    return [clipped(line, width) for line in found]


def gpu_lines(gpu: GpuSample, use: RunUse, width: int, signs: str, *, only: bool, head: bool) -> list[Line]:
    """Name and sum, the bar, what the parts are, who the others are, how it fares."""
    shared = split_gpu(gpu, use, only)
    found = [_head(f"GPU{gpu.label}", gpu.name, _total(gpu), width)] if head else []
    if gpu.problem:
        return found + [[(row, "warn")] for row in text.wrap(gpu.problem, width)]
    if shared:
        found += [bar(shared, gpu.total or 0, width, signs), _legend(shared, width, signs)]
    others = [each for each in gpu.processes if not use.owner or use.owner not in (each.pid, *each.ancestors)]
    return [*found, *_whose(others), *_facts(gpu_facts(gpu), width)]


def _whose(processes: Sequence[GpuProcess]) -> list[Line]:
    """The largest of them, a line each."""
    ordered = sorted(processes, key=lambda each: -(each.used or 0))
    found: list[Line] = [[(f"  {_who(each)}", "dim")] for each in ordered[:_PROCESSES]]
    if len(ordered) > _PROCESSES:
        found.append([(f"  and {len(ordered) - _PROCESSES} more", "dim")])
    return found


def gpu_facts(gpu: GpuSample) -> list[str]:
    """Utilisation, temperature, power, clock: those that are known."""
    power = "" if gpu.power is None else f"{gpu.power:.0f} W"
    if gpu.power is not None and gpu.power_limit:
        power = f"{gpu.power:.0f}/{gpu.power_limit:.0f} W"
    known = [
        "" if gpu.util is None else f"util {text.percent(gpu.util)}",
        "" if gpu.temperature is None else f"{gpu.temperature} °C",
        power,
        "" if gpu.clock is None else f"{gpu.clock:,} MHz",
    ]
    return [each for each in known if each]


def host_lines(host: HostSample, use: RunUse, width: int, signs: str, *, brief: bool, head: bool) -> list[Line]:
    """The same for the host. `brief`: the run is on a GPU, and its RAM is a side matter."""
    shared = split_host(host, use)
    total = f"{gib(host.ram_used)} / {gib(host.ram_total)} GiB" if shared else ""
    found = [_head("host", "RAM", total, width)] if head else []
    if shared:
        found.append(bar(shared, host.ram_total or 0, width, signs))
    if shared and not brief:
        found.append(_legend(shared, width, signs))
    others = [] if brief else [each for each in host.processes if each.pid != use.owner]
    return [*found, *_whose(others), *_facts(host_facts(host), width)]


def host_facts(host: HostSample) -> list[str]:
    """CPU, swap, disk: those that are known."""
    swap = f"swap {gib(host.swap_used)}/{gib(host.swap_total)} GiB" if host.swap_total else ""
    known = [
        "" if host.cpu is None else f"CPU {text.percent(host.cpu)}",
        "" if host.disk_free is None else f"disk {gib(host.disk_free)} GiB free",
        swap,
    ]
    return [each for each in known if each]


def short(machine: Machine, use: RunUse, width: int, signs: str = UNICODE) -> Line:
    """One line: the run's GPU, or the first, or the host."""
    gpu = gpu_of(machine, use) or (machine.gpus[0] if machine.gpus else None)
    if gpu is None or (use.host and use.device is None):
        shared, total, name = split_host(machine.host, use), machine.host.ram_total or 0, "host"
        facts = host_facts(machine.host)
    else:
        shared, total, name = split_gpu(gpu, use, len(machine.gpus) == 1), gpu.total or 0, f"GPU{gpu.label}"
        facts = [gpu.problem] if gpu.problem else gpu_facts(gpu)
    line: Line = [(name, "bold"), (" ", "")]
    if shared:
        used = f" {gib(shared.run + shared.others)}/{gib(total)} GiB"
        line += [*bar(shared, total, max(8, width // 5), signs), (used, "")]
        line += [(f"  run {gib(shared.run)}", "run")] if shared.run else []
    room = width - sum(cell_len(said) for said, _ in line) - 2
    return clipped([*line, *([("  ", ""), (fitting, "dim")] if (fitting := _fitting(facts, room)) else [])], width)


def title(machine: Machine) -> str:
    """The pane's title: what the first lines are about, with the number that matters."""
    if len(machine.gpus) == 1:
        gpu = machine.gpus[0]
        return f"GPU{gpu.label} {_total(gpu)}  {gpu.name}"
    if machine.gpus:
        return f"memory of {len(machine.gpus)} GPUs"
    host = machine.host
    return f"RAM {gib(host.ram_used)} / {gib(host.ram_total)} GiB" if host.ram_total else "memory"


def bar(shared: Split, total: int, width: int, signs: str = UNICODE) -> Line:
    """`width` cells: run, others, free, with the limit and the peak as marks."""
    run, others = _cells([shared.run, shared.others], total, width)
    cells = [*["run"] * run, *["others"] * others, *["free"] * (width - run - others)][:width]
    sign = {"run": signs[0], "others": signs[1], "free": signs[2]}
    shown = [(sign[role], role) for role in cells]
    for mark, where in ((signs[3], shared.limit), (signs[4], shared.peak)):
        if where is not None and total:
            shown[min(width - 1, where * width // total)] = (mark, "mark")
    return merged(shown)


def _cells(parts: Sequence[int], total: int, width: int) -> list[int]:
    """Cells of each part; what is not nothing has at least one."""
    return [max(1, round(part * width / total)) if part and total else 0 for part in parts]


def _legend(shared: Split, width: int, signs: str) -> Line:
    """The parts that have room, the least important last."""
    parts = [(signs[0], "run", f" run {gib(shared.run)}")] if shared.run else []
    parts.append((signs[1], "others", f" {'others' if parts else 'used'} {gib(shared.others)}"))
    parts.append((signs[2], "free", f" free {gib(shared.free)}"))
    if shared.peak is not None:
        parts.append((signs[4], "mark", f" peak {gib(shared.peak)}"))
    line: Line = []
    for sign, role, said in parts:
        gap = "  " if line else ""
        width -= len(gap) + len(sign) + len(said)
        if width < 0:
            break
        line += [(gap + sign if gap else sign, role), (said, "")]
    return line


def _facts(facts: Sequence[str], width: int) -> list[Line]:
    line = _fitting(facts, width)
    return [[(line, "")]] if line else []


def _fitting(facts: Sequence[str], width: int) -> str:
    """Those that have room on one line."""
    line = ""
    for fact in facts:
        longer = f"{line}  {fact}" if line else fact
        if cell_len(longer) > width:
            break
        line = longer
    return line


def _total(gpu: GpuSample) -> str:
    if gpu.problem:
        return ""
    return "shared with the host" if gpu.total is None else f"{gib(gpu.used)} / {gib(gpu.total)} GiB"


def _who(process: GpuProcess) -> str:
    used = f"{gib(process.used)} GiB" if process.used is not None else "?"
    owner = f", {process.owner}" if process.owner else ""
    name = f"run {process.run}" if process.run else process.name or "a hidden process"
    return f"{used}  {name} ({process.pid}{owner})"


def _head(what: str, name: str, right: str, width: int) -> Line:
    room = max(0, width - cell_len(what) - cell_len(right) - 2)
    return [(what, "bold"), (" " + text.fit(name, room), "dim"), (" " + right, "")]
