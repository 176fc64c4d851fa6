from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.contract import events
from engine.contract.lifecycle import Transition
from molting_tui.state import memory_lines
from molting_tui.state.gpu import (
    GpuProcess,
    GpuSample,
    HostSample,
    Machine,
    MemoryHistory,
    RunUse,
    gpu_of,
    split_gpu,
    split_host,
    use_of,
)
from molting_tui.state.live import LiveRun
from tests.support.live_runs import T0, metric, trained

GIB = 1 << 30
TRAINER = GpuProcess(pid=11, used=3 * GIB, owner="ana", name="python", ancestors=(10, 1))
STRANGER = GpuProcess(pid=77, used=2 * GIB, owner="ben", name="blender", ancestors=(1,))
GPU = GpuSample(label="0", name="RTX", used=6 * GIB, total=24 * GIB, processes=(TRAINER, STRANGER))
HOST = HostSample(ram_used=10 * GIB, ram_total=16 * GIB, cpu=0.5, cores=2, disk_free=80 * GIB)


def memory(step: int, host: int = 2 * GIB, device: int | None = None) -> events.Memory:
    reserved = None if device is None else device
    return events.Memory(
        host=host, host_peak=host, disk_free=80 * GIB, device=device, device_reserved=reserved, t=T0 + 2.0 * step
    )


def test_the_processes_below_the_supervisor_are_this_run() -> None:
    shared = split_gpu(GPU, RunUse(owner=10, device=1 * GIB, device_peak=4 * GIB), only=True)
    assert shared and (shared.run, shared.others, shared.free) == (3 * GIB, 3 * GIB, 18 * GIB)
    assert shared.peak == 3 * GIB + 4 * GIB  # what the others hold, and the run at its most
    assert shared.limit == int(0.95 * 24 * GIB)


def test_where_processes_are_hidden_the_run_tells_itself_if_there_is_one_gpu() -> None:
    hidden = GpuSample(label="0", used=6 * GIB, total=24 * GIB)
    use = RunUse(owner=10, device=2 * GIB)
    alone, among_several = split_gpu(hidden, use, only=True), split_gpu(hidden, use, only=False)
    assert alone and alone.run == 2 * GIB
    assert among_several and (among_several.run, among_several.others) == (0, 6 * GIB)


def test_a_run_of_another_machine_has_no_share_of_this_one() -> None:
    shared = split_gpu(GPU, RunUse(), only=True)
    assert shared and shared.run == 0 and shared.peak is None
    host = split_host(HOST, RunUse())
    assert host and (host.run, host.others, host.free, host.peak) == (0, 10 * GIB, 6 * GIB, None)


@given(st.integers(0, 2**40), st.integers(1, 2**40), st.integers(0, 2**41), st.integers(0, 2**41))
def test_the_parts_always_add_up(used: int, total: int, mine: int, peak: int) -> None:
    gpu = GpuSample(label="0", used=min(used, total), total=total)
    shared = split_gpu(gpu, RunUse(owner=1, device=mine, device_peak=peak), only=True)
    assert shared and shared.run + shared.others + shared.free == total
    assert shared.run >= 0 and shared.others >= 0
    assert shared.peak is not None and shared.run + shared.others <= shared.peak <= total


def test_of_several_gpus_the_one_with_the_run_is_found() -> None:
    idle = GpuSample(label="0", used=0, total=24 * GIB)
    busy = GpuSample(label="1", used=6 * GIB, total=24 * GIB, processes=(TRAINER,))
    assert gpu_of(Machine(gpus=(idle, busy)), RunUse(owner=10)) is busy
    assert gpu_of(Machine(gpus=(idle, idle)), RunUse(owner=10)) is None


def test_all_gpus_of_a_run_are_its_own() -> None:
    other_rank = GpuProcess(pid=12, used=2 * GIB, ancestors=(10, 1))
    two = [
        GpuSample(label=str(n), uuid=f"GPU-{n}", used=6 * GIB, total=24 * GIB, processes=(process,))
        for n, process in enumerate((TRAINER, other_rank))
    ]
    shares = [split_gpu(gpu, RunUse(owner=10), only=False) for gpu in two]
    assert [share.run for share in shares if share] == [3 * GIB, 2 * GIB]


def test_where_processes_are_hidden_the_gpus_that_a_run_waited_for_are_its_own() -> None:
    run = trained()
    run.apply(1, Transition(state="training", attempt=1, t=T0))
    run.owned = True
    assert run.start
    run.start.plan = {"gpus": "GPU-0,GPU-2"}
    run.apply(1, memory(1, device=2 * GIB))
    gpus = [GpuSample(label=str(n), uuid=f"GPU-{n}", used=6 * GIB, total=24 * GIB) for n in range(3)]
    shares = [split_gpu(gpu, use_of(run, 10), only=False) for gpu in gpus]
    assert [share.run for share in shares if share] == [2 * GIB, 0, 2 * GIB]
    assert use_of(trained()).gpus == frozenset()


def test_the_use_of_a_run_is_its_own_words_while_it_lives() -> None:
    run = trained()
    run.apply(1, Transition(state="training", attempt=1, t=T0))
    run.owned = True
    run.apply(1, memory(60, device=3 * GIB))
    assert use_of(run, 10) == RunUse(10, 3 * GIB, 3 * GIB, 2 * GIB, 2 * GIB)
    run.apply(1, Transition(state="finished", attempt=1, t=T0 + 200))
    assert use_of(run, 10) == RunUse(0)


def test_the_history_lies_on_the_axes_of_the_loss() -> None:
    run = trained(60)
    for step in (10, 20, 60):
        run.apply(1, memory(step, host=step * GIB))
    history = MemoryHistory()
    history.follow(run)
    assert list(history.run.axes["step"]) == [10, 20, 60]
    assert list(history.run.axes["tokens"]) == [1000, 2000, 6000]
    assert list(history.run.axes["time"]) == [20, 40, 120]
    assert list(history.run.columns["memory"].values) == [10, 20, 60]


def test_memory_that_is_told_before_the_first_step_stands_at_the_beginning() -> None:
    run = LiveRun()
    run.apply(1, Transition(state="queued", attempt=1, t=T0))
    run.apply(1, memory(1))
    history = MemoryHistory()
    history.follow(run)
    assert [axis[0] for axis in history.run.axes.values()] == [0, 0, 0]


def test_the_history_goes_on_after_a_rewind() -> None:
    run = trained(60)
    run.apply(1, memory(60))
    history = MemoryHistory()
    history.follow(run)
    run.apply(
        2,
        events.Start(
            step=20, steps=100, device="cpu", precision="fp32", path="padded", trainable=1, parameters=1, t=T0 + 200
        ),
    )
    again = metric(21)
    again.t = T0 + 210
    run.apply(2, again)
    late = memory(0)
    late.t = T0 + 211
    run.apply(2, late)
    history.follow(run)
    assert len(history.run) == 2 and history.run.axes["time"][-1] == 211


def test_samples_are_kept_only_while_the_run_goes_on() -> None:
    run = trained(60)
    history = MemoryHistory()
    machine = Machine(t=T0 + 130, host=HOST)
    history.saw(run, machine)
    assert len(history.all) == 1 and history.all.columns["memory"].values[0] == 10
    run.apply(1, Transition(state="finished", attempt=1, t=T0 + 131))
    history.saw(run, machine)
    assert len(history.all) == 1


machines = st.builds(
    Machine,
    gpus=st.lists(
        st.builds(
            GpuSample,
            label=st.sampled_from(["0", "1:3"]),
            name=st.text(max_size=20),
            used=st.none() | st.integers(0, 2**40),
            total=st.none() | st.integers(1, 2**40),
            util=st.none() | st.floats(0, 1),
            temperature=st.none() | st.integers(-10, 120),
            power=st.none() | st.floats(0, 1000),
            problem=st.sampled_from(["", "The GPU is lost: it fell off the bus or was reset."]),
            processes=st.just((TRAINER, STRANGER)),
        ),
        max_size=3,
    ).map(tuple),
    host=st.sampled_from([HOST, HostSample()]),
    note=st.sampled_from(["", "No NVIDIA driver is installed here."]),
)
uses = st.builds(RunUse, st.sampled_from([0, 10]), st.none() | st.integers(0, 2**40), st.none() | st.integers(0, 2**40))


@given(machines, uses, st.integers(10, 120))
def test_lines_never_exceed_their_width_whatever_is_missing(machine: Machine, use: RunUse, width: int) -> None:
    for line in [*memory_lines.lines(machine, use, width), memory_lines.short(machine, use, width)]:
        assert sum(cell_len(said) for said, _ in line) <= width


def said(line: list[tuple[str, str]]) -> str:
    return "".join(part for part, _ in line)


def test_a_gpu_in_words() -> None:
    machine = Machine(gpus=(GPU,), host=HOST)
    lines = [said(line) for line in memory_lines.lines(machine, RunUse(owner=10, device=GIB, device_peak=4 * GIB), 60)]
    assert lines[0].startswith("GPU0 RTX") and lines[0].endswith("6.0 / 24.0 GiB")
    assert abs(lines[1].count("█") - lines[1].count("▒")) <= 1 and lines[1].count("╎") == 1
    assert "run 3.0" in lines[2] and "others 3.0" in lines[2] and "free 18.0" in lines[2] and "peak 7.0" in lines[2]
    assert "2.0 GiB  blender (77, ben)" in lines[3]
    assert not any("python" in line for line in lines)  # this run is no stranger
