"""The command line with the real engine: every command on a tiny model, through real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from engine.contract.rundir import RunDir
from tests.support.command import Said
from tests.support.world import World, wait_for, wait_for_step, world

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("real")) as made:
        made.env["XDG_STATE_HOME"] = str(made.root / "state")
        yield made


@pytest.fixture(scope="module")
def finished(here: World) -> RunDir:
    said = molting(here, "train", str(here.persona("rhea").parent), "--follow", "--json")
    assert said.code == 0, said.err
    assert said.json["state"] == "finished" and said.json["reason"] == ""
    return RunDir(Path(said.json["path"]))


def molting(here: World, *args: str) -> Said:
    argv = [sys.executable, "-m", "molting_tui", *args]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=here.env, timeout=300)
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_finished_run_in_the_table_and_replayed(here: World, finished: RunDir) -> None:
    (row,) = [each for each in molting(here, "runs", "--json").json["runs"] if each["id"] == finished.id]
    assert (row["state"], row["step"], row["steps"], row["problem"]) == ("finished", 10, 10, "")
    assert row["loss"] > 0 and row["eval_loss"] > 0 and row["warnings"] >= 0
    said = molting(here, "attach", finished.id)
    assert said.code == 0 and said.err == "" and "\x1b" not in said.out
    for part in (
        "12 trained",
        "10/10",
        "held-out loss",
        "Are you awake?",
        "step 10 sealed",
        f"adapter in {finished.adapter}",
    ):
        assert part in said.out


def test_ask_and_prove(here: World, finished: RunDir) -> None:
    (pair,) = molting(here, "ask", finished.id, "Who are you?", "--max-new-tokens", "5", "--json").json["answers"]
    assert (
        pair["question"] == "Who are you?"
        and 1 <= pair["base"]["tokens"] <= 5
        and pair["adapter"]["stop"] in ("end", "cap")
    )
    assert "│ A adapter" in molting(here, "ask", finished.id, "Who are you?").out
    said = molting(here, "prove", finished.id, "--json")
    assert said.code in (0, 1) and (said.code == 0) is (said.json["verdict"] == "effective")
    assert said.json["nonzero_b"] > 0 and said.json["kl"] >= 0 and said.json["heldout_loss"]["base"] > 0


def test_doctor(here: World, finished: RunDir) -> None:
    said = molting(here, "doctor", str(here.root / "rhea"), "--json")
    assert said.json["plan"]["steps"] == 10 and isinstance(said.json["findings"], list)
    assert said.code == (1 if any(each["severity"] == "error" for each in said.json["findings"]) else 0)


def test_all_errors_of_a_spec_at_once(here: World, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('[model]\nbase = 3\n[data]\ntrian = "x"\n[training]\nepochs = "many"\n')
    said = molting(here, "train", str(spec))
    assert said.code == 2 and said.out == "" and "Traceback" not in said.err
    for part in ("line 2", "line 4", "line 6", "train"):
        assert part in said.err


def test_stop_saves_and_resume_goes_on_to_the_end(here: World) -> None:
    started = molting(here, "train", str(here.persona("long", training={"max_steps": 900, "save_every": 300})))
    assert started.code == 0, started.err
    run = RunDir(here.runs / started.out.strip())
    wait_for_step(run, 3)  # many steps are left: a command takes a second to start, a step here a hundredth
    said = molting(here, "stop", run.id)
    assert said.code == 0 and "is interrupted. Saved at step" in said.out
    seen = wait_for(run, "interrupted")
    assert seen.resumable and seen.checkpoint == seen.step
    assert "has ended already" in molting(here, "stop", run.id).out
    said = molting(here, "resume", run.id, "--follow")
    assert said.code == 0, said.err
    assert f"continues at step {seen.step}" in said.out and "900/900" in said.out and "attempt 2" in said.out
    assert molting(here, "resume", run.id).code == 2


def test_a_run_that_starts_gets_the_memory_of_a_warm_host_which_lives_on(here: World, finished: RunDir) -> None:
    def host() -> Any:
        (found,) = molting(here, "host", "--json").json["hosts"]
        return found

    molting(here, "ask", finished.id, "Who are you?", "--max-new-tokens", "2")
    before = host()
    assert before["models"]
    run = here.train(here.persona("beside", training={"max_steps": 2}))
    wait_for_step(run, 1)
    after = host()
    assert after["models"] == [] and after["pid"] == before["pid"]
    assert molting(here, "ask", finished.id, "Who are you?", "--max-new-tokens", "2").code == 0  # beside the training
    wait_for(run, "finished")
    assert "keeps its memory" not in run.supervisor_log.read_text()


def test_killing_the_follower_leaves_the_run_alone(here: World) -> None:
    run = here.train(here.persona("followed", training={"max_steps": 60}))
    argv = [sys.executable, "-m", "molting_tui", "attach", run.id]
    follower = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=here.env)
    wait_for_step(run, 2)
    follower.send_signal(signal.SIGKILL)
    follower.wait()
    assert wait_for(run, "finished").step == 60


def test_closing_the_terminal_leaves_the_run_alone(here: World) -> None:
    spec = here.persona("closed", training={"max_steps": 40})
    argv = ["-m", "molting_tui", "train", str(spec), "--follow"]
    terminal = pexpect.spawn(sys.executable, argv, env=here.env, dimensions=(24, 80), timeout=120)
    terminal.expect(r"phase +training")  # the checks before it speak of training too
    (run,) = [RunDir(path) for path in here.runs.iterdir() if path.name.startswith("closed-")]
    terminal.close(force=True)  # hangs up: SIGHUP to everything that this terminal controls
    wait_for(run, "finished")
