"""One run at a glance: what it says of sound runs, and that it survives every damage."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract import events, log_windows, processes, rundir, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from tests.support.runs import T0, Recorded, Supervisor, finished_run, make_run, own


def test_a_finished_run(tmp_path: Path) -> None:
    seen = summary.summarise(finished_run(tmp_path))
    assert (seen.name, seen.state, seen.step, seen.steps, seen.attempt) == ("rhea", "finished", 100, 100, 1)
    assert (seen.loss, seen.eval_loss, seen.base, seen.method) == (0.04, 0.5, "demo", "lora")
    eighths = [[4 / n for n in range(1, 101) if (n - 1) * 8 // 100 == part] for part in range(8)]
    assert seen.trend == pytest.approx([sum(each) / len(each) for each in eighths])
    assert seen.eta is None and not seen.resumable and not seen.problem
    assert seen.age(T0 + 61) == 60


def test_a_run_without_anything_but_a_spec(tmp_path: Path) -> None:
    seen = summary.summarise(make_run(tmp_path))
    assert (seen.state, seen.step, seen.steps, seen.loss, seen.problem) == ("queued", 0, 100, None, "")


def test_live_needs_a_living_owner(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    Recorded(run).state("queued", "starting").start().state("training").checkpoint(10).steps(range(1, 31), seconds=3.0)
    with Supervisor(run):
        seen = summary.summarise(run)
        assert (seen.state, seen.owned, seen.resumable) == ("training", True, False)
        assert seen.eta == pytest.approx(3.0 * 70)
    seen = summary.summarise(run)
    assert (seen.state, seen.owned, seen.resumable, seen.checkpoint, seen.eta) == ("lost", False, True, 10, None)


def test_an_owner_on_another_host_is_not_declared_dead(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    Recorded(run).state("queued", "starting").start().state("training")
    own(run, processes.Identity(host="elsewhere", boot_id="x", pid=1, start_time=1))
    assert summary.summarise(run).state == "training"
    assert summary.summarise(run).owned is None


def test_an_owner_of_this_host_without_the_lock_is_dead(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    Recorded(run).state("queued", "starting")
    own(run, processes.current())
    assert summary.summarise(run).state == "lost"


def test_a_failed_run_says_why_and_is_resumable_only_with_a_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps(range(1, 4))
    recorded.state("failed", reason="oom_cuda", why="The GPU has no memory left.")
    seen = summary.summarise(run)
    assert (seen.reason, seen.why, seen.resumable) == ("oom_cuda", "The GPU has no memory left.", False)
    run.checkpoint(3).mkdir()
    assert not summary.summarise(run).resumable  # no manifest: it was never sealed
    recorded.checkpoint(2)
    assert (summary.summarise(run).resumable, summary.summarise(run).checkpoint) == (True, 2)


def test_a_resumed_run_forgets_what_was_rewound(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps(range(1, 11))
    recorded.say(events.Eval(step=8, loss=1.5, rows=2, seconds=1)).steps(range(11, 31), seconds=9.0)
    recorded.say(events.Eval(step=30, loss=0.1, rows=2, seconds=1)).state("interrupted")
    recorded.state("queued", "starting").start(step=10).state("training")
    with Supervisor(run):
        seen = summary.summarise(run)
        assert (seen.attempt, seen.step, seen.loss, seen.eval_loss) == (2, 10, 0.4, 1.5)
        assert seen.eta is None  # this attempt has no rate of its own yet
        recorded.steps([11], seconds=1.0)
        seen = summary.summarise(run)
        assert (seen.step, seen.eval_loss, seen.eta) == (11, 1.5, 89.0)


def test_the_slow_first_step_is_no_pace(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps([1], seconds=90.0)
    with Supervisor(run):
        assert summary.summarise(run).eta == 90.0 * 99, "where there is no other"
        recorded.steps([2, 3], seconds=2.0)
        seen = summary.summarise(run)
        assert (seen.eta, seen.rows_rate) == (2.0 * 97, pytest.approx(2.0))


def test_a_loss_that_is_not_finite_is_kept_as_such(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps([1, 2])
    recorded.say(
        events.Metric(step=3, loss=None, grad_norm=None, lr=0, tokens=1, learned=1, rows=1, seconds=1, epoch=0)
    )
    seen = summary.summarise(run)
    assert seen.loss is None and seen.trend == [4.0, 2.0, None]


def test_the_last_evaluation_is_found_far_from_the_end(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start(steps=10_000).state("training")
    recorded.say(events.Warn(id="w", message="early"), events.Eval(step=1, loss=2.5, rows=2, seconds=1))
    recorded.steps(range(2, 2002))
    size = run.attempt(1).events.stat().st_size
    assert 2 * log_windows.WINDOW < size < 1 << 20
    seen = summary.summarise(run)
    assert (seen.step, seen.steps, seen.eval_loss, seen.warnings) == (2001, 10_000, 2.5, 1)


def test_a_log_longer_than_all_windows(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start(steps=10**6).state("training")
    recorded.say(events.Warn(id="w", message="early"))
    line = events.encode(events.Log(message="x" * 200))
    recorded.raw(line * 10_000).steps([7]).say(events.Warn(id="w", message="late"))
    assert run.attempt(1).events.stat().st_size > 2 << 20
    seen = summary.summarise(run)
    assert (seen.step, seen.steps, seen.warnings) == (7, 10**6, 2)


def test_a_torn_tail_waits_and_a_damaged_line_is_skipped(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps([1])
    recorded.raw(b'{"k":"metric","step":"many"}\n\x00\x00\n').steps([2]).raw(b'{"k":"metric","v":1,"st')
    assert summary.summarise(run).step == 2


def test_damage_in_the_lifecycle_is_told(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    with run.lifecycle.open("ab") as file:
        file.write(b"nonsense\n")
    seen = summary.summarise(run)
    assert seen.state == "finished" and "1 damaged line" in seen.problem


@pytest.mark.parametrize("name", ["spec.toml", "lifecycle.jsonl", "owner.json", "attempts/1/events.jsonl"])
@pytest.mark.parametrize("kind", ["fifo", "symlink", "folder", "unreadable", "huge", "garbage"])
def test_nothing_in_place_of_a_file_raises_or_hangs(tmp_path: Path, name: str, kind: str) -> None:
    run = make_run(tmp_path)
    Recorded(run).state("queued", "starting").start().state("training").steps([1])
    path = run.path / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "unreadable":
        path.touch(mode=0)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(200 << 20)
    else:
        path.write_bytes(os.urandom(4096) + b"\n")
    began = time.perf_counter()
    seen = summary.summarise(run)
    assert time.perf_counter() - began < 1
    if name == "spec.toml" and kind != "unreadable":
        assert "spec.toml" in seen.problem and seen.name == run.id


def test_load_spec_speaks_in_a_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert summary.load_spec(run).method.rank == 8
    run.spec.write_text("= nonsense")
    with pytest.raises(MoltingError, match="damaged"):
        summary.load_spec(run)
    assert summary.name_of(run) == run.id


def test_a_newer_log_is_told_not_misread(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    Recorded(run).state("queued", "starting").raw(b'{"k":"start","v":2}\n')
    assert "newer Molting" in summary.summarise(run).problem


def test_live_runs_come_first_then_the_newest(tmp_path: Path) -> None:
    old, new, live = (
        finished_run(tmp_path, "old"),
        finished_run(tmp_path, "new", start=T0 + 1e6),
        make_run(tmp_path, "l"),
    )
    Recorded(live).state("queued")
    order = summary.newest_first(map(summary.summarise, rundir.listed(tmp_path)))
    assert [each.id for each in order] == [live.id, new.id, old.id]


def test_two_hundred_runs_are_summarised_at_once(tmp_path: Path) -> None:
    first = finished_run(tmp_path)
    for n in range(199):
        copy = tmp_path / f"copy-{n}"
        copy.mkdir()
        for source in first.path.rglob("*"):
            target = copy / source.relative_to(first.path)
            target.mkdir(exist_ok=True) if source.is_dir() else os.link(source, target)
    began = time.perf_counter()
    found = [summary.summarise(run) for run in rundir.listed(tmp_path)]
    seconds = time.perf_counter() - began
    spec = first.spec.read_bytes()
    began = time.perf_counter()
    for _ in found:
        msgspec.toml.decode(spec)
    parsing = time.perf_counter() - began
    assert len(found) == 200 and all(each.state == "finished" for each in found)
    # Parsing the specs cannot be avoided; the rest must not cost much more than that.
    assert seconds < 10 * parsing


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_anywhere_are_survived(tmp_path: Path, data: st.DataObject) -> None:
    runs = tmp_path / str(len(list(tmp_path.iterdir())))
    run = make_run(runs)
    Recorded(run).state("queued", "starting").start().state("training").steps([1, 2, 3])
    path = data.draw(st.sampled_from([run.spec, run.lifecycle, run.attempt(1).events, run.owner]))
    raw = path.read_bytes() if path.exists() else b"{}"
    at = data.draw(st.integers(0, len(raw)))
    path.write_bytes(raw[:at] + data.draw(st.binary(max_size=40)) + raw[data.draw(st.integers(0, len(raw))) :])
    seen = summary.summarise(RunDir(run.path))
    assert seen.id == run.id
    msgspec.json.encode(seen)
