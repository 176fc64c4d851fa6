"""The machine: each fault planted, each clean case silent."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.checks import environment
from engine.checks.environment import Machine, OtherProcess, four_bits_work
from engine.contract.spec import Data, Method, Model, Spec
from tests.support.nvml import GIB, NvmlStub, gpu, needs_compiler

SPEC = Spec(model=Model(base="x"), data=Data(train="x"))
GPU = {"gpu": "NVIDIA A100", "capability": 8, "driver_cuda": (12, 8), "torch_cuda": "12.8"}


def in_precision(precision: str) -> Spec:
    return Spec(model=Model(base="x", precision=precision), data=Data(train="x"))  # type: ignore[arg-type]


def ids(machine: Machine, spec: Spec = SPEC) -> list[tuple[str, str]]:
    found = [finding for check in environment.CHECKS for finding in check(spec, machine)]
    return [(finding.id, finding.severity) for finding in found]


@pytest.mark.parametrize(
    "machine",
    [
        Machine(),
        Machine(**GPU),  # type: ignore[arg-type]
        Machine(**GPU | {"torch_cuda": "12.4"}),  # type: ignore[arg-type]
        Machine(**GPU | {"torch_cuda": "12.9"}),  # type: ignore[arg-type]
        Machine(installed={"torch": "2.13.0+cu128"}, wanted={"torch": "2.10"}),
        Machine(threads=1, cores=1),
        Machine(shm_free=None),
    ],
)
def test_a_sound_machine_is_passed_in_silence(machine: Machine) -> None:
    assert ids(machine) == []


@pytest.mark.parametrize(
    "machine,said",
    [
        (Machine(installed={"torch": "2.9.1"}, wanted={"torch": "2.10"}), ("old-version", "error")),
        (Machine(installed={"jinja2": "3.1.5"}, wanted={"jinja2": "3.1.0"}), ("old-version", "error")),
        (Machine(installed={"trl": "1.9"}, wanted={"trl": "1.10"}), ("old-version", "warning")),
        (Machine(installed={"peft": None}, wanted={"peft": "0.19"}), ("old-version", "error")),
        (Machine(**GPU | {"torch_cuda": "13.0"}), ("driver-too-old", "error")),  # type: ignore[arg-type]
        (Machine(**GPU | {"torch_cuda": None}), ("torch-without-cuda", "warning")),  # type: ignore[arg-type]
        (Machine(**GPU, others=[OtherProcess(7, "python", 2 * GIB)]), ("gpu-shared", "note")),  # type: ignore[arg-type]
        (Machine(threads=1, cores=16), ("few-threads", "note")),
        (Machine(tmp_free=1 << 20), ("tmp-full", "warning")),
        (Machine(shm_free=1 << 20), ("shm-full", "warning")),
        (
            Machine(survives=False, survives_why="It ends. `loginctl enable-linger` helps."),
            ("ends-at-logout", "warning"),
        ),
    ],
)
def test_every_fault_of_a_machine_is_named(machine: Machine, said: tuple[str, str]) -> None:
    assert ids(machine) == [said]


def test_a_precision_that_the_device_lacks_is_named() -> None:
    turing = Machine(**GPU | {"capability": 7})  # type: ignore[arg-type]
    assert ids(turing, in_precision("bf16")) == [("slow-precision", "warning")]
    assert ids(turing, in_precision("fp16")) == []
    assert ids(Machine(), in_precision("fp16")) == [("slow-precision", "warning")]
    assert ids(Machine(bf16=False), in_precision("bf16")) == [("slow-precision", "note")]


def test_versions_are_compared_as_numbers() -> None:
    assert environment.older("2.9.1", "2.10") and not environment.older("2.10", "2.9.1")
    assert not environment.older("2.13.0+cpu", "2.13") and not environment.older("3.1.6.post1", "3.1.6")


def test_our_floors_are_those_of_the_package_and_hold_here() -> None:
    wanted = environment.floors()
    assert {"torch", "transformers", "peft", "trl", "bitsandbytes"} <= set(wanted)
    assert [finding.id for finding in environment.versions(SPEC, environment.look())] == []


@pytest.mark.parametrize(
    "said", [{"error": "RuntimeError: no kernel image"}, {"relative": 1.4}, {"relative": None}, {}]
)
def test_four_bits_that_fail_or_are_wrong_are_an_error(said: dict[str, object]) -> None:
    (finding,) = four_bits_work(said)
    assert finding.id == "four-bits-fail" and finding.severity == "error"


def test_four_bits_are_tried_for_real_on_this_device() -> None:
    said = environment.probe_four_bits("cpu")
    assert list(four_bits_work(said)) == [], said


def test_a_probe_whose_process_dies_or_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_PROBE", "import os; os.abort()")
    assert "ended with -6" in environment.probe_four_bits("cpu")["error"]
    monkeypatch.setattr(environment, "_PROBE", "import time; time.sleep(60)")
    assert "no answer" in environment.probe_four_bits("cpu", seconds=0.3)["error"]


def test_four_bits_are_tried_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(environment, "probe_four_bits", lambda device: tried.append(device) or {"relative": 0.1})
    list(environment.check(SPEC))
    assert tried == []
    list(environment.check(Spec(model=Model(base="x"), data=Data(train="x"), method=Method(kind="qlora"))))
    assert tried == ["cpu"]


@needs_compiler
def test_who_else_is_on_the_gpu_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = subprocess.Popen(["sleep", "30"])
    try:
        stub = NvmlStub(tmp_path)
        stub.answer(gpu(12 * GIB, 24 * GIB, pid=other.pid, pid_used=3 * GIB))
        stub.load(monkeypatch)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        machine = environment.look()
        assert machine.gpu
        (finding,) = environment.gpu_is_ours(SPEC, machine)
        assert "sleep" in finding.evidence and "3.2 GB" in finding.evidence
    finally:
        other.kill()
        other.wait()
