from __future__ import annotations

from pathlib import Path

from engine.contract import processes
from tests.support.command import Scripted, run_molting
from tests.support.nvml import GIB, NvmlStub, gpu, needs_compiler
from tests.support.runs import Supervisor, make_run, own


@needs_compiler
def test_scripts_get_gpus_and_host_as_one_object(tmp_path: Path) -> None:
    stub = NvmlStub(tmp_path)
    stub.answer(gpu(pid=1, pid_used=2 * GIB), gpu(lost=True))
    said = run_molting("vram", "--json", home=tmp_path, **stub.environment)
    assert said.code == 0 and said.err == ""
    first, second = said.json["gpus"]
    assert (first["used"], first["total"], first["util"], first["temperature"]) == (12 * GIB, 24 * GIB, 0.97, 71)
    assert [(each["pid"], each["used"]) for each in first["processes"]] == [(1, 2 * GIB)]
    assert second["used"] is None and "lost" in second["problem"]
    assert said.json["host"]["ram_total"] > 0


@needs_compiler
def test_people_get_a_bar_for_each_gpu_and_the_host(tmp_path: Path) -> None:
    stub = NvmlStub(tmp_path)
    stub.answer(gpu(), gpu(lost=True))
    said = run_molting("vram", "--once", home=tmp_path, **stub.environment)
    lines = said.out.splitlines()
    assert said.code == 0 and said.err == ""
    assert lines[0].startswith("GPU0") and lines[0].endswith("12.0 / 24.0 GiB")
    assert set(lines[1]) <= set("▒░│") and lines[1].count("▒") > 40
    assert "util 97 %  71 °C  287/350 W  1,695 MHz" in said.out
    assert "The GPU is lost" in said.out
    assert "host RAM" in said.out
    assert "\x1b" not in said.out


@needs_compiler
def test_what_holds_the_memory_is_named_after_its_run(tmp_path: Path) -> None:
    stub = NvmlStub(tmp_path)
    run = make_run(tmp_path / "runs")
    with Supervisor(run) as supervisor:
        pid = supervisor.process.pid
        identity = processes.of(pid)
        assert identity is not None
        own(run, identity)
        stub.answer(gpu(pid=pid, pid_used=2 * GIB))
        there = stub.environment | {"MOLTING_RUNS": str(tmp_path / "runs")}
        people = run_molting("vram", "--once", home=tmp_path, **there)
        scripts = run_molting("vram", "--json", home=tmp_path, **there)
    on_gpu, on_host = [line for line in people.out.splitlines() if f"run {run.id} ({pid}" in line]
    assert on_gpu.startswith("  2.0 GiB") and on_host.startswith("  0.0 GiB")
    assert [each["run"] for each in scripts.json["gpus"][0]["processes"]] == [run.id]
    assert [each["run"] for each in scripts.json["host"]["processes"]] == [run.id]


def test_in_a_locale_without_unicode_the_bar_is_ascii(tmp_path: Path) -> None:
    said = run_molting("vram", "--once", home=tmp_path, LANG="C", LC_ALL="C", LD_LIBRARY_PATH=str(tmp_path))
    bar = said.out.splitlines()[1]
    assert set(bar) <= set("=.|") and "=" in bar


def test_a_machine_without_a_gpu_shows_its_host_and_says_why(molting: Scripted) -> None:
    said = molting("vram", "--json")
    assert said.code == 0
    assert said.json["host"]["ram_total"] > 0
    assert said.json["gpus"] or said.json["note"]
