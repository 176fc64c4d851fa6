"""Real processes, real signals: what a run survives, and that it ends as if nothing had happened."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from engine.contract import calls, durable, events
from engine.contract.rundir import RunDir
from tests.support.world import (
    World,
    kill,
    metrics,
    read_events,
    state,
    supervisor_pid,
    told,
    trainer_pid,
    wait_for,
    wait_for_step,
    wait_gone,
)

pytestmark = pytest.mark.slow
STEPS = 24
PLAN = {"max_steps": STEPS, "save_every": 4}


@pytest.fixture(scope="module")
def spec(world: World) -> Path:
    return world.persona(training=PLAN, method={"dropout": 0.1})


@pytest.fixture(scope="module")
def undisturbed(world: World, spec: Path) -> RunDir:
    return world.finished(spec)


def assert_as_undisturbed(run: RunDir, undisturbed: RunDir) -> None:
    """Same losses and same weights, to the bit."""
    assert not durable.check_seal(run.adapter)
    want, got = metrics(undisturbed), metrics(run)
    assert sorted(got) == list(range(1, STEPS + 1))
    assert [got[step].loss for step in got] == [want[step].loss for step in got]
    assert got[STEPS].tokens == want[STEPS].tokens
    ours, theirs = (load_file(each.adapter / "adapter_model.safetensors") for each in (run, undisturbed))
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)


def test_an_undisturbed_run_finishes_and_tells_its_story(undisturbed: RunDir) -> None:
    said = read_events(undisturbed, 1)
    kinds = {type(event) for event in said}
    assert {events.Start, events.Funnel, events.Metric, events.Eval, events.Sample, events.Checkpoint} <= kinds
    assert [event.seq for event in said] == list(range(len(said)))
    end = said[-1]
    assert isinstance(end, events.End)
    assert end.outcome == "finished"
    losses = [event.loss for event in said if isinstance(event, events.Metric)]
    assert end.last_loss == losses[-1]
    assert end.mean_loss == pytest.approx(sum(losses) / len(losses))
    assert losses[-1] < losses[0]
    assert (undisturbed.path.stat().st_mode & 0o777) == 0o700


def test_trainer_killed(world: World, spec: Path, undisturbed: RunDir) -> None:
    run = world.train(spec)
    wait_for_step(run, 9)
    kill(trainer_pid(run))
    said = wait_for(run, "failed")
    assert (said.reason, said.resumable) == ("killed", True)
    assert "SIGKILL" in said.why
    world.resume(run)
    wait_for(run, "finished")
    assert_as_undisturbed(run, undisturbed)
    assert read_events(run, 2)[0].seq == 0


def test_supervisor_killed_alone_the_trainer_seals_and_leaves(world: World, spec: Path, undisturbed: RunDir) -> None:
    run = world.train(spec)
    wait_for_step(run, 5)
    trainer = trainer_pid(run)
    kill(supervisor_pid(run))
    wait_gone(trainer)
    assert state(run) == "lost"
    last = max(metrics(run))
    assert run.checkpoint_steps()[0] == last or durable.check_seal(run.adapter) == []
    world.resume(run)
    wait_for(run, "finished")
    assert_as_undisturbed(run, undisturbed)


def test_both_killed_at_once(world: World, spec: Path, undisturbed: RunDir) -> None:
    run = world.train(spec)
    wait_for_step(run, 7)
    trainer, supervisor = trainer_pid(run), supervisor_pid(run)
    kill(supervisor, signal.SIGSTOP)
    kill(trainer)
    kill(supervisor)
    wait_gone(supervisor)
    assert state(run) == "lost"
    world.resume(run)
    wait_for(run, "finished")
    assert_as_undisturbed(run, undisturbed)


@pytest.mark.parametrize("whom", ["supervisor", "trainer"])
def test_sigterm_saves_first(world: World, spec: Path, undisturbed: RunDir, whom: str) -> None:
    run = world.train(spec)
    wait_for_step(run, 5)
    kill(supervisor_pid(run) if whom == "supervisor" else trainer_pid(run), signal.SIGTERM)
    said = wait_for(run, "interrupted")
    assert said.resumable
    assert run.checkpoint_steps()[0] == max(metrics(run)), "not a step is lost"
    world.resume(run)
    wait_for(run, "finished")
    assert_as_undisturbed(run, undisturbed)


def test_stop_save_now_and_stop_now_by_file(world: World, spec: Path, undisturbed: RunDir) -> None:
    run = world.train(spec)
    wait_for_step(run, 1)
    (run.control / "save-now").touch()
    while not any(isinstance(e, events.Control) and e.command == "save-now" for e in read_events(run, 1)):
        assert state(run) in {"training", "starting"}, told(run)
        time.sleep(0.01)
    (run.control / "stop").touch()
    wait_for(run, "interrupted")
    assert not list(run.control.iterdir()), "an obeyed order must not stop the next attempt"
    world.resume(run)
    wait_for_step(run, max(metrics(run)) + 1)
    (run.control / "stop-now").touch()
    wait_for(run, "interrupted")
    world.resume(run)
    wait_for(run, "finished")
    assert_as_undisturbed(run, undisturbed)


def test_killed_at_random_ten_times(world: World, spec: Path, undisturbed: RunDir) -> None:
    run = world.train(spec)
    chance = random.Random(7)
    for _ in range(10):
        wait_for(run, "training", "finished")
        time.sleep(chance.uniform(0, 0.4))
        if state(run) == "finished":
            break
        victims = chance.choice([[trainer_pid], [supervisor_pid], [supervisor_pid, trainer_pid]])
        pids = [victim(run) for victim in victims]
        for pid in pids:
            kill(pid)
        said = wait_for(run, "failed", "lost", "finished")
        if said.state == "finished":
            break
        world.resume(run)
    wait_for(run, "finished")
    assert_as_undisturbed(run, undisturbed)


def test_a_finished_run_is_not_resumed(world: World, undisturbed: RunDir) -> None:
    said = world.resume(undisturbed)
    assert isinstance(said, calls.Failure)
    assert said.code == 2
    assert "finished" in said.message


def test_one_at_a_time_and_the_next_waits(world: World) -> None:
    spec = world.persona("long", training=PLAN | {"max_steps": 500})  # none of them may end by itself
    first = world.train(spec)
    second = world.train(spec)
    wait_for(first, "training")
    assert state(second) == "queued"
    (second.control / "stop").touch()
    wait_for(second, "interrupted")
    third = world.train(spec)
    (first.control / "stop").touch()
    wait_for(first, "interrupted")
    wait_for(third, "training")
    (third.control / "stop-now").touch()
    wait_for(third, "interrupted")
