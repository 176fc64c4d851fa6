"""Whether this machine is in order: versions, driver, 4-bit kernels, other users of the GPU. Fast checks first."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from engine.contract import processes
from engine.contract.calls import Finding
from engine.contract.spec import Spec

FEW_THREADS = 2
LEAST_TMP = 256 << 20  # bytes: several libraries write there while they start
PROBE_SECONDS = 120
# Below these a known hole is open, whatever else may work: CVE-2025-32434 and CVE-2026-24747, CVE-2026-1839 and
# CVE-2026-4372, the jinja2 sandbox.
SAFE = {"torch": "2.10", "transformers": "5.3", "jinja2": "3.1.6"}


@dataclass(frozen=True)
class OtherProcess:
    """Someone else's use of the GPU; `used` in bytes, None where the driver does not say."""

    pid: int
    name: str
    used: int | None


@dataclass(frozen=True)
class Machine:
    """What the checks look at. Versions are texts; None is not installed, or not known."""

    installed: Mapping[str, str | None] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)  # floors of our own
    gpu: str = ""  # its name, "" where there is none
    capability: int = 0
    driver_cuda: tuple[int, int] | None = None  # the newest CUDA that the driver runs
    torch_cuda: str | None = None  # the CUDA that torch was built for; None for a build without
    others: Sequence[OtherProcess] = ()
    threads: int = 8
    cores: int = 8
    bf16: bool = True
    tmp_free: int = 1 << 40
    shm_free: int | None = 1 << 40
    survives: bool = True
    survives_why: str = ""


Check = Callable[[Spec, Machine], Iterator[Finding]]


def versions(spec: Spec, machine: Machine) -> Iterator[Finding]:
    for name, floor in machine.wanted.items():
        have = machine.installed.get(name)
        hole = name in SAFE and have is not None and older(have, SAFE[name])
        if have is None or older(have, floor) or hole:
            yield Finding(
                id="old-version",
                severity="error" if have is None or hole else "warning",
                message=f"{name} {have} is installed, and Molting needs {floor} or newer."
                if have
                else f"{name} is not installed.",
                why="This version has a known security hole." if hole else "It was never tried with anything older.",
                remedy=f"pip install '{name}>={floor}'",
            )


def cuda_fits_driver(spec: Spec, machine: Machine) -> Iterator[Finding]:
    if not machine.gpu:
        return
    if machine.torch_cuda is None:
        yield Finding(
            id="torch-without-cuda",
            severity="warning",
            message=f"There is a GPU ({machine.gpu}), but this torch was built without CUDA, so the CPU would train.",
            remedy="Install a torch with CUDA: https://pytorch.org/get-started/locally",
        )
        return
    built = _numbers(machine.torch_cuda)[:2]
    if machine.driver_cuda and built and built[0] > machine.driver_cuda[0]:
        runs = ".".join(map(str, machine.driver_cuda))
        yield Finding(
            id="driver-too-old",
            severity="error",
            message=f"torch was built for CUDA {machine.torch_cuda}, and this driver runs CUDA up to {runs}.",
            why="torch then sees no GPU, or fails at its first use.",
            remedy=f"Update the NVIDIA driver, or install a torch built for CUDA {machine.driver_cuda[0]}.",
        )


def gpu_is_ours(spec: Spec, machine: Machine) -> Iterator[Finding]:
    if machine.others:
        named = [
            f"{other.name} (pid {other.pid}{f', {other.used / 1e9:.1f} GB' if other.used else ''})"
            for other in machine.others
        ]
        yield Finding(
            id="gpu-shared",
            severity="note",
            message=f"{len(named)} other process{'es use' if len(named) > 1 else ' uses'} {machine.gpu or 'the GPU'}.",
            evidence=", ".join(named[:6]),
            why="Memory that they take later is missing in the forecast, and both become slower.",
            remedy="End what is not needed.",
        )


def precision_fits(spec: Spec, machine: Machine) -> Iterator[Finding]:
    wanted = spec.model.precision
    if machine.gpu and wanted == "bf16" and machine.capability < 8:
        yield Finding(
            id="slow-precision",
            severity="warning",
            message=f"{machine.gpu} does not compute in bf16; it would be emulated.",
            remedy='Set model.precision = "fp16", or leave it at "auto".',
        )
    if not machine.gpu and wanted == "fp16":
        yield Finding(
            id="slow-precision",
            severity="warning",
            message="A CPU trains in fp16 slowly, where at all, and small gradients are lost.",
            remedy='Leave model.precision at "auto".',
        )
    if not machine.gpu and wanted == "bf16" and not machine.bf16:
        yield Finding(
            id="slow-precision",
            severity="note",
            message="This CPU has no bf16 instructions, so bf16 saves memory but is slower than fp32.",
            remedy='Leave model.precision at "auto" where memory allows.',
        )


def enough_threads(spec: Spec, machine: Machine) -> Iterator[Finding]:
    if not machine.gpu and machine.threads < min(FEW_THREADS, machine.cores):
        yield Finding(
            id="few-threads",
            severity="note",
            message=f"Training would use {machine.threads} of {machine.cores} cores.",
            evidence="OMP_NUM_THREADS and the affinity of this process say so",
            remedy="Unset OMP_NUM_THREADS, or set it to the number of cores.",
        )


def room_for_temporary_files(spec: Spec, machine: Machine) -> Iterator[Finding]:
    if machine.tmp_free < LEAST_TMP:
        yield Finding(
            id="tmp-full",
            severity="warning",
            message=f"The folder for temporary files has {machine.tmp_free / 1e6:.0f} MB free.",
            remedy="Free some space there, or point TMPDIR elsewhere.",
        )
    if machine.shm_free is not None and machine.shm_free < LEAST_TMP // 4:
        yield Finding(
            id="shm-full",
            severity="warning",
            message=f"/dev/shm has {machine.shm_free / 1e6:.0f} MB free.",
            why="Processes that share tensors fail there with a bus error.",
            remedy="Remove what is left in /dev/shm, or give the container more (--shm-size).",
        )


def survives_logout(spec: Spec, machine: Machine) -> Iterator[Finding]:
    if not machine.survives:
        sentence, _, remedy = machine.survives_why.partition(". ")
        yield Finding(id="ends-at-logout", severity="warning", message=sentence.rstrip(".") + ".", remedy=remedy)


CHECKS: tuple[Check, ...] = (
    versions,
    precision_fits,
    enough_threads,
    room_for_temporary_files,
    gpu_is_ours,
    survives_logout,
    cuda_fits_driver,
)


def check(spec: Spec) -> Iterator[Finding]:
    """What is wrong with this machine for this run: from files and the driver first, then what takes seconds."""
    machine = look()
    for each in CHECKS:
        yield from each(spec, machine)
    if spec.method.kind == "qlora":
        yield from four_bits_work(probe_four_bits("cuda" if machine.gpu and machine.torch_cuda else "cpu"))


def four_bits_work(said: Mapping[str, Any]) -> Iterator[Finding]:
    """`said`: {"error": its words, "relative": error of the product} of `probe_four_bits`."""
    error = str(said.get("error", ""))
    relative = said.get("relative")
    wrong = not error and not (isinstance(relative, int | float) and 0 < relative < 0.3)
    if error or wrong:
        yield Finding(
            id="four-bits-fail",
            severity="error",
            message="bitsandbytes cannot quantise and multiply in 4 bits on this device."
            if error
            else "bitsandbytes multiplies wrongly in 4 bits on this device.",
            evidence=error[:300] if error else f"relative error of a product {relative}",
            remedy='Set method.kind = "lora", or install a bitsandbytes that fits this device.',
        )


_PROBE = """
import json, sys
try:
    import torch, bitsandbytes.functional as F
    device = sys.argv[1]
    torch.manual_seed(0)
    w, x = torch.randn(64, 64, device=device), torch.randn(8, 64, device=device)
    packed, state = F.quantize_4bit(w, quant_type="nf4", compress_statistics=True)
    y = x @ F.dequantize_4bit(packed, state).T
    print(json.dumps({"relative": float((y - x @ w.T).norm() / (x @ w.T).norm())}))
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
"""


def probe_four_bits(device: str, seconds: float = PROBE_SECONDS) -> dict[str, Any]:
    """Quantise a matrix and multiply, in a process of its own: a bad kernel may end its process."""
    try:
        argv = [sys.executable, "-I", "-c", _PROBE, device]
        done = subprocess.run(argv, capture_output=True, timeout=seconds, stdin=subprocess.DEVNULL)
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        if done.returncode or not lines:
            return {"error": f"its process ended with {done.returncode}"}
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {seconds:.0f} s"}
    except (OSError, ValueError) as error:
        return {"error": str(error)}


def look() -> Machine:
    """This machine, without torch: files, package metadata and NVML."""
    wanted = floors()
    survives, why = processes.survives_logout()
    return Machine(
        installed={name: _installed(name) for name in wanted},
        wanted=wanted,
        torch_cuda=_torch_cuda(),
        threads=_threads(),
        cores=os.cpu_count() or 1,
        bf16=_cpu_bf16(),
        tmp_free=_free(os.environ.get("TMPDIR") or "/tmp") or 0,
        shm_free=_free("/dev/shm"),
        survives=survives,
        survives_why=why,
        **_gpu(),
    )


def floors() -> dict[str, str]:
    """Our own requirements: package -> lowest version."""
    found: dict[str, str] = {}
    with contextlib.suppress(PackageNotFoundError):
        for line in requires("molting") or []:
            match = re.match(r"([A-Za-z0-9_.-]+)[^;]*?>=\s*([\d.]+)", line)
            if match and "extra ==" not in line and "python_version" not in line:
                found[match[1]] = match[2]
    return found


def older(have: str, floor: str) -> bool:
    """Whether a version is below another; what follows its numbers ("+cu128", "rc1") does not count."""
    one, other = _numbers(have), _numbers(floor)
    width = max(len(one), len(other))
    return one + (0,) * (width - len(one)) < other + (0,) * (width - len(other))


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, match[0].split("."))) if match else ()


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _torch_cuda() -> str | None:
    """The CUDA of the installed torch, from its version file; importing it would take seconds."""
    with contextlib.suppress(PackageNotFoundError, OSError, StopIteration):
        from importlib.metadata import distribution

        text = Path(str(distribution("torch").locate_file("torch/version.py"))).read_text()
        match = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
        return match[1] if match else None
    return None


def _threads() -> int:
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return min(here, int(chosen)) if chosen.isdigit() and int(chosen) else here


def _cpu_bf16() -> bool:
    from engine.models.device import cpu_has_bf16

    return cpu_has_bf16()


def _free(path: str) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def _gpu() -> dict[str, Any]:
    """The GPU that a run would use, and who else is on it; nothing where NVML does not answer."""
    with contextlib.suppress(Exception):
        import pynvml as nvml

        from engine.train import device

        ours = device.first_gpu()
        if ours is None:
            return {}
        nvml.nvmlInit()
        try:
            handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
            handle = next(each for each in handles if str(nvml.nvmlDeviceGetUUID(each)) == ours.uuid)
            found: dict[str, Any] = {"gpu": ours.name or "a GPU", "capability": ours.capability}
            with contextlib.suppress(nvml.NVMLError):
                driver = int(nvml.nvmlSystemGetCudaDriverVersion())
                found["driver_cuda"] = (driver // 1000, driver % 1000 // 10)
            with contextlib.suppress(nvml.NVMLError):
                running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
                found["others"] = [
                    OtherProcess(each.pid, _process_name(each.pid), each.usedGpuMemory) for each in running
                ]
            return found
        finally:
            nvml.nvmlShutdown()
    return {}


def _process_name(pid: int) -> str:
    import psutil

    try:
        return psutil.Process(pid).name()[:60]
    except psutil.Error:
        return "another user's process"
