"""Which device, and in which precision."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from engine.contract.errors import MoltingError

Precision = Literal["bf16", "fp16", "fp32"]
_CPUINFO = Path("/proc/cpuinfo")


def choose_device(wanted: str = "auto") -> str:
    """The name torch uses: cpu or cuda:N. auto is the first GPU that torch sees, else the CPU.

    Raises MoltingError for a device that is not there.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda:0" if count else "cpu"
    if wanted == "cpu":
        return wanted
    name, _, index = wanted.partition(":")
    if name == "cuda" and (index or "0").isdigit() and int(index or 0) < count:
        return f"cuda:{int(index or 0)}"
    seen = f"cpu, cuda:0 to cuda:{count - 1}" if count > 1 else "cpu, cuda:0" if count else "cpu"
    raise MoltingError(f"There is no device {wanted!r} here.", remedy=f"Choose one of: auto, {seen}.", code=2)


def choose_precision(device: str, wanted: str = "auto") -> Precision:
    """bf16 where the device is fast in it, else fp16 on a GPU and fp32 on a CPU.

    A GPU is fast in bf16 from compute capability 8; a CPU with avx512_bf16 or AMX (measured 4.5 times fp32).
    """
    if wanted in ("bf16", "fp16", "fp32"):
        return wanted  # type: ignore[return-value]
    if not device.startswith("cuda"):
        return "bf16" if cpu_has_bf16() else "fp32"
    import torch

    return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"


def cpu_has_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the CPU multiplies bf16 in hardware, as its flags in /proc/cpuinfo say."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
