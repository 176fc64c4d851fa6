"""`train`, `attach`, `stop`, `resume`: what they ask for, print and exit with."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.rundir import RunDir
from molting_tui import terminal
from molting_tui.commands import attach, stop
from tests.support.command import Scripted
from tests.support.runs import Recorded, Supervisor, finished_run, make_run


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "POLL", 0.02)
    monkeypatch.setattr(attach, "_OWNER_EVERY", 0.05)
    monkeypatch.setattr(attach, "_CLAIM", 0.3)


def started(run: RunDir) -> dict[str, str]:
    return {"run": run.id, "path": str(run.path), "state": "queued"}


def training(runs: Path, name: str = "rhea") -> tuple[RunDir, Recorded]:
    run = make_run(runs, name)
    return run, Recorded(run).state("queued", "starting").start().state("training").steps(range(1, 11))


def meanwhile(act: Callable[[], object], after: float = 0.3) -> threading.Timer:
    timer = threading.Timer(after, act)
    timer.start()
    return timer


def test_train_prints_the_id_alone_on_stdout(molting: Scripted, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    spec = tmp_path / "spec.toml"
    spec.touch()
    molting.answers("create", started(run), {"k": "progress", "phase": "checking"})
    said = molting("train", str(spec))
    assert (said.code, said.out) == (0, f"{run.id}\n")
    assert "checking" in said.err and f"molting attach {run.id}" in said.err
    request = molting.requests[-1]["request"]
    assert request["spec"] == str(spec) and request["runs"] == str(tmp_path / "runs") and request["start"] is True
    said = molting("train", str(spec), "--json")
    assert said.json == {"run": run.id, "state": "queued", "path": str(run.path)} and said.err == ""


def test_train_follow_exits_by_the_outcome(molting: Scripted, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.touch()
    good, (bad, recorded) = finished_run(tmp_path / "runs"), training(tmp_path / "runs")
    recorded.state("failed", reason="oom_cuda", why="No memory.")
    molting.answers("create", started(good))
    said = molting("train", str(spec), "--follow")
    assert said.code == 0 and "✓ finished" in said.out
    molting.answers("create", started(bad))
    said = molting("train", str(spec), "--follow", "--json")
    assert said.code == 1
    assert said.json == {"run": bad.id, "state": "failed", "reason": "oom_cuda", "path": str(bad.path)}


def test_train_without_a_spec_file(molting: Scripted) -> None:
    said = molting("train", "nowhere.toml")
    assert said.code == 2 and "no spec file" in said.err and "molting init" in said.err and molting.requests == []


def test_the_engines_refusal_is_printed_as_it_is(molting: Scripted, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.touch()
    molting.fails("create", "spec.toml has 2 problems:\n  line 1: a\n  line 2: b", remedy="Mend them.", code=2)
    said = molting("train", str(spec))
    assert said.code == 2 and said.out == ""
    assert said.err.splitlines() == [
        "error: spec.toml has 2 problems:",
        "  line 1: a",
        "  line 2: b",
        "try: Mend them.",
    ]


def test_attach_replays_and_exits_by_state(molting: Scripted, tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", "good")
    _, recorded = training(tmp_path / "runs", "stopped")
    recorded.state("stopping", "interrupted")
    _, recorded = training(tmp_path / "runs", "bad")
    recorded.state("failed", reason="killed", why="Someone killed it.")
    assert [molting("attach", name).code for name in ("good", "stopped", "bad")] == [0, 0, 1]
    said = molting("attach", "bad")
    assert "✗ failed" in said.out and "(killed)  Someone killed it." in said.out
    assert molting("attach", "bad", "--json").json["reason"] == "killed"


def test_attach_follows_until_the_end(molting: Scripted, tmp_path: Path) -> None:
    run, recorded = training(tmp_path / "runs")
    with Supervisor(run):
        timer = meanwhile(lambda: recorded.steps([100]).state("finished"))
        said = molting("attach", "rhea")
        timer.join()
    assert said.code == 0 and "100/100" in said.out and said.out.splitlines()[-1].split()[1:3] == ["✓", "finished"]
    assert "\x1b" not in said.out + said.err


def test_attach_notices_that_the_supervisor_dies(molting: Scripted, tmp_path: Path) -> None:
    run, _ = training(tmp_path / "runs")
    with Supervisor(run) as supervisor:
        timer = meanwhile(supervisor.kill)
        said = molting("attach", "rhea")
        timer.join()
    assert said.code == 1 and "? lost" in said.out and f"molting resume {run.id}" in said.out


def test_attach_to_a_queued_run_that_nobody_looks_after(molting: Scripted, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    Recorded(run).state("queued")
    said = molting("attach", "rhea")
    assert "no supervisor looks after it" in said.out and said.code == 0
    assert molting("attach", "rhea", "--json").json["state"] == "queued"


def obeying(run: RunDir, recorded: Recorded, *states: str) -> threading.Thread:
    """Waits for an order to stop and passes through `states`, as a supervisor does."""

    def obey() -> None:
        deadline = time.monotonic() + 10
        while not any(run.control.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        recorded.state(*states)

    thread = threading.Thread(target=obey)
    thread.start()
    return thread


def test_stop_waits_until_the_run_has_ended(molting: Scripted, tmp_path: Path) -> None:
    run, recorded = training(tmp_path / "runs")
    recorded.checkpoint(10)
    with Supervisor(run):
        thread = obeying(run, recorded, "stopping", "interrupted")
        said = molting("stop", "rhea")
        thread.join()
    assert [path.name for path in run.control.iterdir()] == ["stop"]
    assert said.code == 0
    assert said.out == f"{run.id} is interrupted. Saved at step 10. `molting resume {run.id}` continues it.\n"


def test_stop_now_and_a_queued_run(molting: Scripted, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    recorded = Recorded(run).state("queued")
    with Supervisor(run):
        thread = obeying(run, recorded, "interrupted")
        said = molting("stop", "--now", "rhea", "--json")
        thread.join()
    assert [path.name for path in run.control.iterdir()] == ["stop-now"]
    assert said.json == {"run": run.id, "state": "interrupted", "path": str(run.path)}


def test_stop_that_is_not_obeyed(molting: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "PATIENCE", 0.3)
    run, _ = training(tmp_path / "runs")
    with Supervisor(run):
        said = molting("stop", "rhea", "--no-wait")
        assert said.code == 0 and "was asked to stop" in said.out
        said = molting("stop", "rhea")
    assert said.code == 3 and "still training" in said.err and "--now" in said.err


def test_a_second_stop_says_how_to_end_the_run_at_once(molting: Scripted, tmp_path: Path) -> None:
    run, recorded = training(tmp_path / "runs")
    recorded.checkpoint(8)
    with Supervisor(run):
        assert molting("stop", "rhea", "--no-wait").err == ""
        said = molting("stop", "rhea", "--no-wait")
    assert said.code == 0
    assert said.err == (
        f"{run.id} was asked to stop already and is saving. `molting stop --now {run.id}` ends it at once; "
        "2 steps would be lost.\n"
    )
    assert [path.name for path in run.control.iterdir()] == ["stop"]


@pytest.mark.parametrize(("answer", "asked"), [("y\n", ["stop", "stop-now"]), ("\n", ["stop"])])
def test_at_a_terminal_a_second_stop_offers_to_end_the_run_at_once(
    answer: str, asked: list[str], molting: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(terminal, "out", lambda: replace(terminal.err(), tty=True))
    monkeypatch.setattr("sys.stdin", Keyboard(answer))
    run, recorded = training(tmp_path / "runs")
    recorded.state("stopping")
    with Supervisor(run):
        (run.control / "stop").touch()
        said = molting("stop", "rhea", "--no-wait")
    assert said.code == 0 and "End it now instead? 10 steps since the last checkpoint would be lost" in said.err
    assert sorted(path.name for path in run.control.iterdir()) == asked


def test_stopping_what_has_ended_is_no_error_and_leaves_no_order(molting: Scripted, tmp_path: Path) -> None:
    done, (lost, _) = finished_run(tmp_path / "runs", "done"), training(tmp_path / "runs", "lost")
    waiting = make_run(tmp_path / "runs", "waiting")
    Recorded(waiting).state("queued")
    for run, word in ((done, "has ended already: finished"), (lost, "is lost"), (waiting, "nothing runs")):
        said = molting("stop", run.id)
        assert said.code == 0 and word in said.out and list(run.control.iterdir()) == []


def test_resume_hands_the_run_to_the_engine(molting: Scripted, tmp_path: Path) -> None:
    run, recorded = training(tmp_path / "runs")
    recorded.state("interrupted")
    molting.answers("resume", started(run))
    assert molting("resume", "rhea").out == f"{run.id}\n"
    assert molting.requests[-1]["request"]["run"] == str(run.path)
    assert molting("resume", "nobody").code == 2
