"""The real pynvml over a library of our own, compiled here, that answers what a test writes down."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("nvml_stub.c")
GIB = 1 << 30


class NvmlStub:
    """GPUs that are set by `answer`. `environment` is for processes that shall see them too."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "libnvidia-ml.so.1"
        self.script = folder / "gpus.txt"
        subprocess.run(
            # Without a soname, so that a process which has loaded it does not take it for the real one later.
            ["gcc", "-shared", "-fPIC", "-o", str(self.library), str(_SOURCE)],
            check=True,
            timeout=60,
        )
        self.answer()

    @property
    def environment(self) -> dict[str, str]:
        return {"NVML_STUB": str(self.script), "LD_LIBRARY_PATH": str(self.library.parent)}

    def answer(self, *gpus: str, init: int = 0) -> None:
        """Let the driver answer with these GPUs, each made by `gpu`."""
        partial = self.script.with_suffix(".new")
        partial.write_text("\n".join([f"{init} {len(gpus)}", *gpus]) + "\n")
        partial.replace(self.script)

    def load(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process's pynvml use it."""
        import pynvml

        monkeypatch.setenv("NVML_STUB", str(self.script))
        monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(self.library)))
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


def gpu(
    used: int = 12 * GIB,
    total: int = 24 * GIB,
    *,
    lost: bool = False,
    util: int = 97,
    temperature: int = 71,
    power: int = 287_000,
    limit: int = 350_000,
    clock: int = 1695,
    mig: int = -1,
    pid: int = 0,
    pid_used: int = 0,
) -> str:
    """One GPU; -1 is what it does not support. Watts are in thousandths, `mig` counts instances."""
    fields = (int(lost), used, total, util, temperature, power, limit, clock, mig, pid, pid_used)
    return " ".join(map(str, fields))


def silent_gpu() -> str:
    """One that supports nothing but its name, as on machines whose memory is shared."""
    return gpu(-1, -1, util=-1, temperature=-1, power=-1, limit=-1, clock=-1, pid=-1, pid_used=-1)


needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed: no library of our own")
