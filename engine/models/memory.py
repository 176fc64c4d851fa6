"""What loading costs: peak and final memory, and a way to keep the peak near the final."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

import msgspec

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_DYNAMIC = 32 << 20


class Spent(msgspec.Struct):
    """Bytes a block of code took: at its highest, at its end, and (CUDA only) reserved from the driver.

    On a GPU these are torch's allocated bytes on that device; on a CPU, growth of the resident set, in which
    weights that are mapped from their file count once they are touched.
    """

    peak: int = 0
    final: int = 0
    reserved: int = 0


@contextlib.contextmanager
def measured(device: str) -> Iterator[Spent]:
    """Measure the memory of the body on `device` ("cpu", "cuda:0"); the answer is filled in when it ends."""
    spent = Spent()
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield spent
        spent.final = torch.cuda.memory_allocated(device) - before
        spent.peak = torch.cuda.max_memory_allocated(device) - before
        spent.reserved = torch.cuda.memory_reserved(device)
        return
    gc.collect()
    _reset_peak()
    before = resident("VmRSS")
    yield spent
    spent.peak = resident("VmHWM") - before
    gc.collect()
    spent.final = resident("VmRSS") - before


def resident(key: str = "VmRSS") -> int:
    """Bytes of one line of /proc/self/status: VmRSS, VmHWM (its peak), RssAnon, RssFile. 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return 0


def _reset_peak() -> None:
    # 5 resets VmHWM to what is resident now (man 5 proc); not allowed in some containers, then the peak is since start.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextlib.contextmanager
def returning_memory() -> Iterator[None]:
    """Let the C library give every freed tensor back at once while the body runs (glibc; elsewhere nothing).

    glibc keeps freed blocks of up to 32 MiB for itself, in one arena per thread. Quantising frees a full-precision
    tensor per layer, so a 4-bit load of 0.47B parameters peaked at 1.1 to 2.2 GB instead of 0.39. Afterwards the
    threshold is the highest that glibc chooses by itself, since training must not pay for a system call per tensor.
    """
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, 256 << 10)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_DYNAMIC)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_DYNAMIC)
        libc.malloc_trim(0)


def host_free(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of host memory that can still be had: what the machine has, or less where a control group allows less.

    Version 2 of control groups (and the one limit of version 1): a container's or a batch job's share of a machine.
    Pages of files that nobody uses are given back under pressure, so they count as free.
    """
    import psutil

    allowed = [psutil.virtual_memory().available]
    for folder in _groups(proc, groups):
        limit, used = _limit(folder), _number(folder, "memory.current")
        if used is None:  # version 1
            used = _number(folder, "memory.usage_in_bytes")
        if limit is not None and used is not None:
            allowed.append(limit - used + _inactive_file(folder))
    return max(0, min(allowed))


def host_total(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of host memory that there would be with nobody beside us, within the same limits."""
    import psutil

    limits = (_limit(folder) for folder in _groups(proc, groups))
    return min([int(psutil.virtual_memory().total), *(limit for limit in limits if limit is not None)])


def _limit(folder: Path) -> int | None:
    limit = _number(folder, "memory.max")
    return _number(folder, "memory.limit_in_bytes") if limit is None else limit


def _groups(proc: Path, groups: Path) -> Iterator[Path]:
    """The folders of our control group and of all groups around it."""
    with contextlib.suppress(OSError):
        for line in (proc / "self/cgroup").read_text().splitlines():
            number, kinds, name = line.split(":", 2)
            root = groups if number == "0" else groups / "memory" if "memory" in kinds.split(",") else None
            folder = root / name.lstrip("/") if root else None
            while root and folder:
                yield folder
                folder = folder.parent if folder != root else None


def _number(folder: Path, name: str) -> int | None:
    try:
        return int((folder / name).read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None


def _inactive_file(folder: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    return 0
