"""NVML through the real pynvml, over a library that answers what the test says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.contract import processes
from molting_tui.services import gpu as gpu_service
from molting_tui.services.gpu import GpuSampler, HostSampler, MachineSampler
from tests.support.nvml import GIB, NvmlStub, gpu, needs_compiler, silent_gpu
from tests.support.runs import Supervisor, make_run, own

pytestmark = needs_compiler


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvmlStub:
    stub = NvmlStub(tmp_path)
    stub.load(monkeypatch)
    monkeypatch.setattr(gpu_service, "_AGAIN", 0.0)
    return stub


@pytest.fixture
def sampler(nvml: NvmlStub) -> Iterator[GpuSampler]:
    made = GpuSampler()
    yield made
    made.close()


def test_two_gpus_with_all_their_numbers(nvml: NvmlStub, sampler: GpuSampler) -> None:
    nvml.answer(gpu(pid=os.getpid(), pid_used=3 * GIB), gpu(5 * GIB, 8 * GIB, util=3))
    (first, second), note = sampler.sample()
    assert note == ""
    assert (first.label, first.used, first.total, first.util) == ("0", 12 * GIB, 24 * GIB, 0.97)
    assert (first.temperature, first.power, first.power_limit, first.clock) == (71, 287.0, 350.0, 1695)
    assert (second.label, second.used, second.util) == ("1", 5 * GIB, 0.03)
    assert first.uuid != second.uuid


def test_a_process_is_told_with_its_owner_name_and_ancestors(nvml: NvmlStub, sampler: GpuSampler) -> None:
    nvml.answer(gpu(pid=os.getpid(), pid_used=3 * GIB))
    (seen,), _ = sampler.sample()
    (process,) = seen.processes
    assert (process.pid, process.used) == (os.getpid(), 3 * GIB)
    assert process.owner and "py" in process.name
    assert process.ancestors[0] == os.getppid()


def test_a_hidden_process_is_still_counted(nvml: NvmlStub, sampler: GpuSampler) -> None:
    nvml.answer(gpu(pid=2**22 + 7, pid_used=-1))  # no such process here, and its memory is not told
    (seen,), _ = sampler.sample()
    assert [(each.pid, each.used, each.owner, each.name) for each in seen.processes] == [(2**22 + 7, None, "", "")]


def test_a_process_below_a_supervisor_is_named_after_its_run(nvml: NvmlStub, tmp_path: Path) -> None:
    mine, other = make_run(tmp_path / "runs"), make_run(tmp_path / "runs", "ended")
    with Supervisor(mine) as supervisor:
        identity = processes.of(supervisor.process.pid)
        assert identity is not None
        own(mine, identity)
        own(other, msgspec.structs.replace(identity, start_time=identity.start_time - 1))  # its number was given anew
        nvml.answer(gpu(pid=supervisor.process.pid, pid_used=3 * GIB), gpu(pid=os.getpid(), pid_used=GIB))
        with MachineSampler(tmp_path / "runs") as sampler:
            machine = sampler.sample()
    assert [each.run for seen in machine.gpus for each in seen.processes] == [mine.id, ""]
    (on_host,) = machine.host.processes
    assert (on_host.run, on_host.pid) == (mine.id, identity.pid) and (on_host.used or 0) > 1_000_000


def test_every_field_is_optional(nvml: NvmlStub, sampler: GpuSampler) -> None:
    nvml.answer(silent_gpu())
    (seen,), note = sampler.sample()
    assert note == "" and seen.problem == ""
    assert (seen.used, seen.total, seen.util, seen.temperature, seen.power, seen.clock) == (None,) * 6
    assert seen.processes == ()


def test_a_lost_gpu_says_so_beside_the_other_and_comes_back(nvml: NvmlStub, sampler: GpuSampler) -> None:
    nvml.answer(gpu(), gpu(5 * GIB))
    (before, _), _ = sampler.sample()
    nvml.answer(gpu(lost=True), gpu(5 * GIB))
    (lost, other), _ = sampler.sample()
    assert "GPU is lost" in lost.problem and lost.used is None
    assert (lost.name, lost.uuid) == (before.name, before.uuid)  # it is still known which one it was
    assert other.used == 5 * GIB and other.problem == ""
    nvml.answer(gpu(), gpu(5 * GIB))
    sampler.sample()  # it answers only those who opened the driver after it came back
    (again, _), _ = sampler.sample()
    assert again.problem == "" and again.used == 12 * GIB


def test_instances_of_a_partitioned_gpu_stand_for_it(nvml: NvmlStub, sampler: GpuSampler) -> None:
    nvml.answer(gpu(mig=2), gpu(mig=0))
    seen, _ = sampler.sample()
    assert [each.label for each in seen] == ["0:0", "0:1", "1"]
    assert "MIG 1g.5gb" in seen[0].name


def test_what_the_driver_says_is_harmless(nvml: NvmlStub, sampler: GpuSampler) -> None:
    nvml.answer(gpu())
    (seen,), _ = sampler.sample()
    assert "\x1b" not in seen.name and "\x07" not in seen.name
    nvml.answer(init=999)
    sampler.close()
    _, note = GpuSampler().sample()
    assert "\x1b" not in note and "The NVIDIA driver answers" in note


def test_a_driver_that_is_not_loaded_is_said_and_tried_again(nvml: NvmlStub, sampler: GpuSampler) -> None:
    nvml.answer(init=9)
    assert sampler.sample() == ((), "The NVIDIA driver is installed but not loaded.")
    nvml.answer(gpu())
    seen, note = sampler.sample()
    assert len(seen) == 1 and note == ""


def test_no_gpu_is_said(nvml: NvmlStub, sampler: GpuSampler) -> None:
    nvml.answer()
    assert sampler.sample() == ((), "The NVIDIA driver sees no GPU.")


def test_the_host_is_told_wherever_the_runs_will_be(tmp_path: Path) -> None:
    host = HostSampler(tmp_path / "not" / "yet" / "there").sample()
    assert host.ram_total and host.ram_used and 0 < host.ram_used <= host.ram_total
    assert host.disk_free and host.disk_total and host.disk_free <= host.disk_total
    assert host.cpu is not None and 0 <= host.cpu <= 1
    assert host.cores >= 1


def test_a_sample_has_gpus_and_host(nvml: NvmlStub, tmp_path: Path) -> None:
    nvml.answer(gpu())
    with MachineSampler(tmp_path) as sampler:
        machine = sampler.sample()
    assert len(machine.gpus) == 1 and machine.host.ram_total and machine.t > 0
