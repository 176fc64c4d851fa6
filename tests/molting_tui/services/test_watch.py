from __future__ import annotations

import shutil
import time
from pathlib import Path

from molting_tui.services import watch
from molting_tui.services.watch import RunsWatch
from tests.support.runs import Recorded, Supervisor, finished_run, make_run


def everything(watcher: RunsWatch, rounds: int = 1) -> dict[str, list]:  # type: ignore[type-arg]
    seen = [each for _ in range(rounds) for each in watcher.poll()]
    return {
        "listed": [run_id for each in seen for run_id in each.listed],
        "changed": [run.id for each in seen for run in each.changed],
        "gone": [run_id for each in seen for run_id in each.gone],
    }


def test_runs_are_listed_at_once_and_then_read_the_newest_first(tmp_path: Path) -> None:
    runs = [finished_run(tmp_path, f"r{n}") for n in range(3)]
    import os

    for n, run in enumerate(runs):
        os.utime(run.path, (1000.0 + n, 1000.0 + n))
    watcher = RunsWatch(tmp_path)
    batches = list(watcher.poll())
    assert sorted(batches[0].listed) == sorted(run.id for run in runs) and not batches[0].changed
    assert [run.id for batch in batches for run in batch.changed] == [run.id for run in reversed(runs)]
    assert [batch.complete for batch in batches][-1] is True


def test_what_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    finished_run(tmp_path)
    watcher = RunsWatch(tmp_path)
    everything(watcher)
    assert everything(watcher, rounds=2 * watch._ROUNDS) == {"listed": [], "changed": [], "gone": []}


def test_steps_of_a_live_run_are_seen_at_the_next_poll(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    recorded = Recorded(run, time.time()).state("queued", "starting").start().state("training").steps([1])
    with Supervisor(run):
        watcher = RunsWatch(tmp_path)
        everything(watcher)
        recorded.steps([2])
        assert everything(watcher)["changed"] == [run.id]


def test_an_owner_that_dies_is_noticed_though_no_file_changes(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(watch, "_LOOK_AGAIN", 0.0)
    run = make_run(tmp_path)
    Recorded(run, time.time()).state("queued", "starting").start().state("training").steps([1])
    watcher = RunsWatch(tmp_path)
    with Supervisor(run):
        assert [each.state for seen in watcher.poll() for each in seen.changed] == ["training"]
    assert [each.state for seen in watcher.poll() for each in seen.changed] == ["lost"]


def test_an_ended_run_that_goes_on_is_seen_within_a_round(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    watcher = RunsWatch(tmp_path)
    everything(watcher)
    recorded = Recorded(run)
    recorded.attempt = 1
    recorded.state("queued")
    assert everything(watcher, rounds=watch._ROUNDS)["changed"] == [run.id]


def test_a_run_that_goes_away_is_gone(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    watcher = RunsWatch(tmp_path)
    everything(watcher)
    shutil.rmtree(run.path)
    assert everything(watcher, rounds=watch._ROUNDS)["gone"] == [run.id]


def test_a_folder_that_comes_later_is_found(tmp_path: Path) -> None:
    watcher = RunsWatch(tmp_path / "runs")
    assert everything(watcher)["listed"] == []
    run = finished_run(tmp_path / "runs")
    assert everything(watcher, rounds=watch._ROUNDS)["listed"] == [run.id]


def test_a_damaged_run_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.spec.write_bytes(b"\xff not toml [")
    run.lifecycle.write_bytes(b"garbage\n")
    [seen] = [each for batch in RunsWatch(tmp_path).poll() for each in batch.changed]
    assert seen.id == run.id and "damaged" in seen.problem


def test_of_many_ended_runs_only_some_are_looked_at_in_one_poll(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(watch, "_AT_ONCE", 2)
    runs = [finished_run(tmp_path, f"r{n}") for n in range(20)]
    watcher = RunsWatch(tmp_path)
    everything(watcher)
    looked: list[Path] = []
    signature = watch._signature
    monkeypatch.setattr(watch, "_signature", lambda run: (looked.append(run.path), signature(run))[1])
    everything(watcher)
    assert len(looked) == 2
    everything(watcher, rounds=9)
    assert sorted(looked) == sorted(run.path for run in runs)  # each once


def test_a_folder_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import os

    finished_run(tmp_path)
    os.utime(tmp_path, (1000.0, 1000.0))
    watcher = RunsWatch(tmp_path)
    everything(watcher)
    monkeypatch.setattr(watch.rundir, "listed", lambda runs: 1 / 0)
    everything(watcher, rounds=20)
