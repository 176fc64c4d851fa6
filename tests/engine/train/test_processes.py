"""One run trained by several processes: the same as by one, whoever dies, stops or is missing when it goes on."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from engine.contract import durable, events, summary
from engine.contract.errors import MoltingError
from engine.contract.lifecycle import Evidence
from engine.contract.rundir import RunDir
from engine.contract.spec import Training
from engine.train import batch, death, torchrun
from engine.train.status import FAILED, FINISHED, INTERRUPTED
from engine.train.torchrun import Ended
from tests.support.world import (
    PATIENCE,
    World,
    kill,
    metrics,
    read_events,
    told,
    trainer_pid,
    wait_for,
    wait_for_step,
)

STEPS = 12
PLAN = {"max_steps": STEPS, "batch": 4, "save_every": 3}
KILLED = 7  # the step after which a process is killed

ROWS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), max_size=12)


def row(ids: list[int]) -> SimpleNamespace:
    return SimpleNamespace(input_ids=ids, labels=ids)


@given(ROWS, st.integers(1, 5), st.booleans())
def test_each_row_of_a_step_is_computed_by_one_process(ids: list[list[int]], world: int, packing: bool) -> None:
    rows, training = [row(each) for each in ids], Training(packing=packing)
    shares = [batch.share(rows, rank, world, training) for rank in range(world)]
    assert sorted(id(each) for share in shares for each in share) == sorted(map(id, rows))
    assert shares == [batch.share(rows, rank, world, training) for rank in range(world)]


def test_processes_get_about_as_many_tokens() -> None:
    rows = [row([1] * length) for length in range(1, 101)]
    tokens = [sum(len(each.input_ids) for each in batch.share(rows, rank, 4, Training())) for rank in range(4)]
    assert max(tokens) < 1.1 * min(tokens)


def word(message: str, reason: str = "exception") -> death.Death:
    return death.Death(reason=reason, evidence=Evidence(message=message))  # type: ignore[arg-type]


LOST = death.of_exception(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1"))
OOM = word("The GPU has no memory left.", "oom_cuda")


def test_the_process_that_failed_first_is_named_not_those_that_lost_it() -> None:
    ended = [Ended(0, 1, 100.0), Ended(1, -9, 100.0)]
    status, said = torchrun.conclude(ended, {0: (100.0, LOST)}, stopped=False)
    assert status == FAILED and said and said.reason == "killed"
    assert said.evidence.message == "Process 1: The trainer was killed by SIGKILL."
    ended = [Ended(0, 1, 100.0), Ended(2, 1, 100.0)]
    status, said = torchrun.conclude(ended, {0: (99.0, LOST), 2: (99.5, OOM)}, stopped=False)
    assert said and said.evidence.message.startswith("Process 2:") and said.reason == "oom_cuda"


def test_one_that_the_agent_ended_later_is_not_taken_for_the_cause() -> None:
    ended = [Ended(1, 1, 100.0), Ended(0, -9, 160.0)]
    status, said = torchrun.conclude(ended, {}, stopped=False)
    assert status == FAILED and said and "exit status 1" in said.evidence.message


def test_what_all_say_is_nobodys_own() -> None:
    word_of = {rank: (100.0, word("The loss of step 3 is not a finite number.", "nan_loss")) for rank in (0, 1)}
    _, said = torchrun.conclude([Ended(0, 1, 100.0), Ended(1, 1, 100.0)], word_of, stopped=False)
    assert said and said.evidence.message.startswith("The loss of step 3")


def test_ends_without_a_failure() -> None:
    assert torchrun.conclude([], {}, stopped=False) == (FINISHED, None)
    both = [Ended(0, INTERRUPTED, 100.0), Ended(1, INTERRUPTED, 100.0)]
    assert torchrun.conclude(both, {}, stopped=False) == (INTERRUPTED, None)
    one = [Ended(1, INTERRUPTED, 100.0), Ended(0, 1, 100.0)]
    assert torchrun.conclude(one, {0: (100.0, LOST)}, stopped=True) == (INTERRUPTED, None)
    unready = [Ended(1, -15, 100.0), Ended(0, 1, 100.0)]  # told to stop before it could listen
    assert torchrun.conclude(unready, {0: (100.0, LOST)}, stopped=True) == (INTERRUPTED, None)


def test_one_that_ended_without_a_word_is_named_before_those_that_lost_it() -> None:
    status, said = torchrun.conclude([Ended(0, 1, 100.0), Ended(1, 1, 100.0)], {0: (99.0, LOST)}, stopped=False)
    assert status == FAILED and said
    assert said.evidence.message == "Process 1: The trainer ended with exit status 1 and left no word."


def test_silence_is_told_from_a_closed_connection() -> None:
    silent = death.of_exception(RuntimeError("[gloo] Timed out waiting 12000ms for recv operation to complete"))
    assert silent.reason == "hang" and death.lost_another(silent) and death.lost_another(LOST)
    assert not death.lost_another(OOM)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"MOLTING_NODES": "two"}, "MOLTING_NODES is 'two'"),
        ({"MOLTING_NODES": "0"}, "MOLTING_NODES is '0'"),
        ({"MOLTING_NODES": "-1", "MOLTING_MEET": "a:1"}, "MOLTING_NODES is '-1'"),
        ({"MOLTING_NODES": "2"}, "MOLTING_MEET does not say where"),
    ],
)
def test_machines_that_cannot_meet_are_told_before_they_wait(env: dict[str, str], said: str) -> None:
    with pytest.raises(MoltingError, match=said) as raised:
        torchrun.node_of(env)
    assert raised.value.remedy
    assert torchrun.node_of({"MOLTING_NODES": "2", "MOLTING_MEET": "a:1"}).count == 2
    assert torchrun.node_of({}).count == 1


# The rest are real runs, one after another through the same story.


def spec_of(world: World, devices: int) -> Path:
    spec = world.persona(f"rhea{devices}", training=PLAN)
    spec.write_text(f"devices = {devices}\n{spec.read_text()}")
    return spec


@pytest.fixture(scope="module")
def alone(world: World) -> RunDir:
    return world.finished(spec_of(world, 1))


@pytest.fixture(scope="module")
def together(world: World) -> RunDir:
    return world.finished(spec_of(world, 2))


def assert_as_alone(run: RunDir, alone: RunDir) -> None:
    """Losses, gradients and weights to fp32 rounding."""
    want, got = metrics(alone), metrics(run)
    assert sorted(got) == sorted(want) == list(range(1, STEPS + 1))
    for step, said in want.items():
        assert got[step].loss == pytest.approx(said.loss, rel=1e-5)
        assert got[step].grad_norm == pytest.approx(said.grad_norm, rel=1e-4)
        assert (got[step].rows, got[step].learned, got[step].tokens) == (said.rows, said.learned, said.tokens)
    assert not durable.check_seal(run.adapter)
    ours, theirs = (load_file(each.adapter / "adapter_model.safetensors") for each in (run, alone))
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[name] - theirs[name]).abs().max() < 1e-4) for name in theirs)


def ranks_of(run: RunDir) -> dict[int, psutil.Process]:
    """The processes that train, by their ranks."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = psutil.Process(trainer_pid(run)).children()
        ranks = {int(each.environ()["RANK"]): each for each in found}
        if len(ranks) == 2:
            return ranks
        time.sleep(0.05)
    raise AssertionError(told(run))


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(together: RunDir, alone: RunDir) -> None:
    assert_as_alone(together, alone)
    evals = [[event for event in read_events(run, 1) if isinstance(event, events.Eval)] for run in (together, alone)]
    assert [each.loss for each in evals[0]] == pytest.approx([each.loss for each in evals[1]], rel=1e-5)
    start = next(event for event in read_events(together, 1) if isinstance(event, events.Start))
    assert start.plan["processes"] == 2
    assert [event.seq for event in read_events(together, 1)] == list(range(len(read_events(together, 1))))


@pytest.mark.slow
def test_stopped_then_robbed_of_a_process_then_continued_by_one(world: World, together: RunDir, alone: RunDir) -> None:
    run = world.train(spec_of(world, 2))
    wait_for_step(run, 2)
    (run.control / "stop").touch()
    assert wait_for(run, "interrupted").resumable
    stopped = max(metrics(run))
    assert stopped < STEPS and run.checkpoint(stopped).exists()

    world.resume(run)
    ranks = ranks_of(run)
    wait_for_step(run, max(KILLED, stopped + 1))
    kill(ranks[1].pid)
    said = wait_for(run, "failed")
    assert (said.reason, said.resumable) == ("killed", True)
    assert said.why == "Process 1: The trainer was killed by SIGKILL."
    psutil.wait_procs(ranks.values(), timeout=PATIENCE)
    assert not any(each.is_running() for each in ranks.values())
    want, got = metrics(together), metrics(run)
    assert [got[step].loss for step in got] == [want[step].loss for step in got], "resumed by two: to the bit"

    world.call("resume", {"run": str(run.path), "models": str(world.models), "devices": 1})
    wait_for(run, "finished")
    warned = [event for event in read_events(run, 3) if isinstance(event, events.Warn)]
    assert [event.id for event in warned] == ["other-processes"]
    assert "by 2 at once" in warned[0].message and "by 1 from" in warned[0].message
    assert_as_alone(run, alone)


@pytest.mark.slow
def test_the_failing_process_is_named_with_its_own_traceback_and_a_split_model_learns_the_same(
    world: World, alone: RunDir
) -> None:
    split = world.persona("split", training=PLAN | {"shard": True}, evaluation={"every": 1, "sample_every": 1})
    split.write_text(f"devices = 2\n{split.read_text()}")
    run = world.train(split)
    ranks = ranks_of(run)
    wait_for_step(run, 1)
    ranks[1].rlimit(psutil.RLIMIT_NOFILE, (0, 0))  # it can open no file any more, not even to leave a word
    said = wait_for(run, "failed")
    assert said.why.startswith("Process 1: ") and "exit status 1" in said.why
    evidence = summary.transitions(run)[0][-1].evidence
    assert evidence and "Too many open files" in evidence.traceback
    assert "Connection closed" not in evidence.traceback
    want = metrics(alone)
    for step, got in metrics(run).items():
        assert got.loss == pytest.approx(want[step].loss, rel=1e-5), "a model that is split learns the same"
    assert {events.Eval, events.Sample} <= {type(event) for event in read_events(run, 1)}
    log = run.attempt(1).log.read_text()
    assert any(line.startswith("[rank 1] ") and "Too many open files" in line for line in log.splitlines())
