"""Runs as jobs of a real Slurm on this machine: its queue, its signals, its limits, and its daemons falling away."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.contract import calls, events, lifecycle, slurm, summary
from engine.contract.rundir import RunDir
from engine.contract.summary import Summary
from tests.support import slurm as support
from tests.support.command import run_molting
from tests.support.world import World, metrics, read_events, supervisor_pid, told, world

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(support.missing()), reason=f"needs a Slurm: {support.missing()}"),
]
PATIENCE = 120.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.OneMachine]:
    made = support.OneMachine(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            made.up()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"Slurm is installed and does not come up here: {error}")
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def here(cluster: support.OneMachine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose engine, and this process, see the cluster."""
    with pytest.MonkeyPatch.context() as patch, world(tmp_path_factory.mktemp("world")) as made:
        made.env |= cluster.env | {"HF_TOKEN": "hf_" + "x" * 30}
        for name in ("MOLTING_RUNTIME_DIR", "PATH", "SLURM_CONF"):
            patch.setenv(name, made.env[name])
        yield made


@pytest.fixture(scope="module", autouse=True)
def long(here: World, cluster: support.OneMachine) -> RunDir:
    """Trains while the other tests pass, until its time is nearly up."""
    endless = {"max_steps": 100_000, "save_every": 5}
    return here.train(here.persona("long", training=endless, launcher=launcher(time="2", save_before=45)))


def launcher(**more: Any) -> dict[str, Any]:
    return {"kind": "slurm", "time": "10", "extra": ["--cpus-per-task=1"]} | more


def until(run: RunDir, done: Callable[[Summary], bool]) -> Summary:
    """Ask Slurm and look at the run until `done`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        slurm.refresh(every=0.3)
        if done(seen := summary.summarise(run)):
            return seen
        time.sleep(0.1)
    raise AssertionError(f"{seen}\n{told(run)}")


def go_on(cluster: support.OneMachine, run: RunDir) -> None:
    """Spare a requeued job the two minutes that Slurm lets it wait, and its short limit."""
    job = until(run, lambda seen: bool(seen.job and seen.job.waiting)).slurm
    cluster.say("scontrol", "update", f"jobid={job}", "starttime=now", "timelimit=10")


def is_now(*states: str) -> Callable[[Summary], bool]:
    return lambda seen: seen.state in states


def stop(here: World, run: RunDir, *, now: bool = False) -> Summary:
    """As a person does it."""
    options = ["--now"] if now else []
    env = {name: here.env[name] for name in ("MOLTING_RUNTIME_DIR", "SLURM_CONF", "PATH", "MOLTING_RUNS")}
    said = run_molting("stop", run.id, *options, home=here.root, **env)
    assert said.code == 0, said.err
    return summary.summarise(run)


def test_a_run_waits_its_turn_and_runs_to_its_end(here: World, cluster: support.OneMachine) -> None:
    cluster.say("sbatch", "--cpus-per-task=3", "--job-name=hog", "--output=/dev/null", "--wrap", "sleep 600")
    run = here.train(here.persona("waits", launcher=launcher()))
    seen = until(run, lambda seen: bool(seen.job and seen.job.reason == "Resources"))
    assert (seen.state, seen.owned) == ("queued", None)
    assert "is pending: Resources" in seen.why
    table = run_molting("runs", home=here.root, **{k: here.env[k] for k in ("MOLTING_RUNTIME_DIR", "MOLTING_RUNS")})
    assert "queued (pending: Resources)" in table.out
    script = run.slurm_script
    assert script.stat().st_mode & 0o777 == 0o600 and "#SBATCH --cpus-per-task=1\n" in script.read_text()
    assert "hf_xxx" not in cluster.say("scontrol", "write", "batch_script", seen.slurm, "-")

    cancelled = here.train(here.persona("gives-up", launcher=launcher()))
    until(cancelled, lambda seen: bool(seen.job and seen.job.waiting))
    gone = stop(here, cancelled)
    assert gone.state == "interrupted" and "Taken out of Slurm's queue" in gone.why
    assert slurm.refresh(every=0.0).jobs[gone.slurm].state == "CANCELLED"

    cluster.say("scancel", "--name=hog")
    at_work = until(run, is_now("training", "finished"))
    assert at_work.job and at_work.job.word in {"on molt1", "completing on molt1"}
    done = until(run, is_now("finished"))
    assert done.step == 10 and not done.problem
    began = [t.why for t in summary.transitions(run)[0] if t.state == "queued"]
    assert began == ["Sent to Slurm.", f"Slurm job {done.slurm} began on molt1."]


@pytest.mark.parametrize("extra", ["--output=/etc/x", "--time=5", "--wrap=x"])
def test_what_molting_says_itself_is_refused(here: World, extra: str) -> None:
    spec = here.persona("bold", launcher=launcher(extra=[extra]))
    refused = here.call("create", calls.CreateRequest(spec=str(spec), runs=str(here.runs), models=str(here.models)))
    assert isinstance(refused, calls.Failure) and refused.code == 2 and "which Molting says itself" in refused.message


def test_without_munge_there_is_a_sentence_and_nothing_is_spoilt(here: World, cluster: support.OneMachine) -> None:
    cluster.stop("munged")
    spec = here.persona("unlucky", launcher=launcher())
    refused = here.call("create", calls.CreateRequest(spec=str(spec), runs=str(here.runs), models=str(here.models)))
    cluster.start_munge()
    assert isinstance(refused, calls.Failure)
    assert "Slurm did not take" in refused.message and "munge" in refused.message.lower()
    assert "munged" in refused.remedy and "molting resume" in refused.remedy
    run = next(RunDir(path) for path in here.runs.glob("unlucky-*"))
    assert summary.summarise(run).state == "failed"
    cluster.say("scontrol", "update", "partitionname=main", "state=down")
    assert isinstance(here.resume(run), dict)
    assert until(run, lambda seen: bool(seen.job and seen.job.waiting)).state == "queued"
    assert stop(here, run, now=True).state in lifecycle.ENDED
    cluster.say("scontrol", "update", "partitionname=main", "state=up")


def test_an_array_for_a_sweep(here: World, cluster: support.OneMachine) -> None:
    steps = [2, 3, 4, 100_000]
    spec = here.persona("swept", launcher=launcher(), sweep={"grid": {"training.max_steps": steps}})
    request = calls.SweepRequest(spec=str(spec), runs=str(here.runs), models=str(here.models))
    made = here.call("sweep", request)
    assert isinstance(made, dict), made
    runs = [RunDir(here.runs / each["run"]) for each in made["runs"]]
    jobs = [summary.summarise(run).slurm for run in runs]
    assert len({job.partition("_")[0] for job in jobs}) == 1 and [job[-2:] for job in jobs] == ["_0", "_1", "_2", "_3"]
    assert [until(run, is_now("finished")).step for run in runs[:3]] == steps[:3]

    # The supervisor of the fourth dies without a word: Slurm has the last one.
    until(runs[3], lambda seen: seen.checkpoint is not None)
    os.kill(supervisor_pid(runs[3]), signal.SIGKILL)
    lost = until(runs[3], is_now("lost"))
    assert lost.resumable and f"Slurm job {jobs[3]} on molt1 failed" in lost.why


def test_time_limit_stop_resume_preemption_and_a_controller_that_restarts(
    here: World, cluster: support.OneMachine, long: RunDir
) -> None:
    cluster.stop("slurmctld")
    away, seen = slurm.refresh(every=0.0), summary.summarise(long)
    cluster.start_controller()
    assert "squeue" in away.error
    assert seen.state in lifecycle.LIVE, "who is away judges nobody"

    # Slurm's signal before the time limit: saved, and back in the queue.
    again = until(long, lambda seen: seen.state == "queued" and seen.attempt == 1 and bool(seen.checkpoint))
    said = [t.why for t in summary.transitions(long)[0]]
    assert any("time limit of job" in why and "came near" in why for why in said), said
    go_on(cluster, long)
    until(long, lambda seen: seen.state == "training" and seen.attempt == 2)
    start = next(event for event in read_events(long, 2) if isinstance(event, events.Start))
    assert start.step == again.checkpoint, "it goes on where it was saved"

    # A stop saves; a resumed run is another job.
    stopped = stop(here, long)
    assert stopped.state == "interrupted" and stopped.checkpoint == max(metrics(long)), "nothing is lost"
    assert isinstance(here.resume(long), dict)
    refused = here.resume(long)
    assert isinstance(refused, calls.Failure) and "needs no resuming" in refused.message
    until(long, lambda seen: seen.state == "training" and seen.attempt == 3)
    assert summary.summarise(long).slurm != stopped.slurm

    # A job of a higher partition takes the node: saved, queued again by Slurm, and taken out of the queue by us.
    cluster.say("sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 1")
    preempted = until(long, lambda seen: seen.state == "queued" and seen.attempt == 3)
    assert any(t.why.startswith("Slurm preempted job") for t in summary.transitions(long)[0])
    until(long, lambda seen: bool(seen.job and seen.job.waiting))
    assert preempted.checkpoint == max(metrics(long))
    assert stop(here, long).state == "interrupted"


def test_what_others_do_to_a_job_is_told_by_its_run(here: World, cluster: support.OneMachine) -> None:
    run = here.train(here.persona("theirs", training={"max_steps": 100_000}, launcher=launcher()))
    seen = until(run, is_now("training"))
    cluster.say("scontrol", "suspend", seen.slurm)
    suspended = until(run, lambda seen: bool(seen.job and seen.job.state == "SUSPENDED"))
    assert suspended.state == "training" and suspended.job and suspended.job.word == "suspended on molt1"
    cluster.say("scontrol", "resume", seen.slurm)
    until(run, lambda seen: seen.checkpoint is not None)
    cluster.say("scancel", seen.slurm)
    ended = until(run, is_now("interrupted"))
    assert f"Slurm job {seen.slurm} on molt1 was cancelled" in ended.why and ended.checkpoint == max(metrics(run))


@pytest.mark.parametrize(
    ("said", "finding", "words"),
    [
        ({"partition": "nope"}, "slurm-refuses", "invalid partition specified: nope"),
        ({"extra": ["--acount=lab"]}, "slurm-refuses", "unrecognized option '--acount=lab'"),
        ({"gres": "gpu:1"}, "slurm-refuses", "Invalid generic resource"),
        ({"extra": ["--cpus-per-task=99"]}, "slurm-waits", "node configuration is not available"),
        ({"extra": ["--cpus-per-task=1", "--comment=two words"]}, "", ""),
    ],
)
def test_the_doctor_asks_slurm_itself_and_nothing_is_submitted(
    here: World, said: dict[str, Any], finding: str, words: str
) -> None:
    spec = here.persona("asked", launcher=launcher(**said))
    before = set(slurm.refresh(every=0.0).jobs)
    told = here.call("preflight", calls.PreflightRequest(spec=str(spec), models=str(here.models)))
    found = [each for each in told["findings"] if each["id"].startswith("slurm")]
    assert [each["id"] for each in found] == ([finding] if finding else []) and words in "".join(
        each["message"] for each in found
    )
    if finding == "slurm-refuses":
        request = calls.CreateRequest(spec=str(spec), runs=str(here.runs), models=str(here.models))
        refused = here.call("create", request)
        assert isinstance(refused, calls.Failure) and words in refused.message and refused.code == 1
    assert set(slurm.refresh(every=0.0).jobs) == before and not list(here.runs.glob("asked-*"))
