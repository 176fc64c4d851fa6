"""Runs sent to Slurm: the script, its submission, and what is said to a job that waits or runs.

The script starts the very supervisor that a run has elsewhere, in the foreground of the node that Slurm chose; all the
rest goes through the run directory, which must lie where every node sees it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.contract import calls, durable, environment, launcher, lifecycle, locks, slurm, summary
from engine.contract.errors import MoltingError
from engine.contract.journal import JournalWriter
from engine.contract.lifecycle import State, Transition
from engine.contract.rundir import RunDir
from engine.contract.spec import Launcher

from .control import Control

SUBMIT_PATIENCE = 30.0  # seconds; a busy controller takes jobs slowly
_UNFIT = re.compile(r'[\x00-\x1f\x7f"\\]')  # cannot stand in a quoted #SBATCH value


def script(runs: Sequence[RunDir], said: Launcher, models: Path) -> str:
    """The script that Slurm starts: one run, or a task for each of `runs`. MoltingError (code 2) for unusable words."""
    first = runs[0]
    for _, wrong in launcher.mistakes(said):  # a run that came from elsewhere was never checked here
        raise MoltingError(wrong, code=2)
    for path in (*(run.path for run in runs), models):
        if _UNFIT.search(str(path)):
            raise MoltingError(f"Slurm cannot be given the path {str(path)!r}.", remedy="Move it elsewhere.", code=2)
    options = [
        f"--job-name=molting-{first.id}",
        f'--output="{str(first.path / "slurm.log").replace("%", "%%")}"',
        "--open-mode=append",
        f"--nodes={said.nodes}",
        f"--ntasks={said.nodes}",
        "--ntasks-per-node=1",
        f"--signal=B:USR1@{said.save_before}",
        "--requeue" if said.requeue else "--no-requeue",
        *(f"--{key}={value}" for key in ("partition", "time", "gres") if (value := getattr(said, key))),
        *map(launcher.directive, said.extra),
    ]
    start = f'exec {shlex.quote(sys.executable)} -I -m engine supervise "$run" {shlex.quote(str(models))}'
    lines = [
        "#!/bin/bash",
        "# Written by Molting. It starts the supervisor of a run on the node that Slurm chose; exec, so that Slurm's",
        "# signals reach it.",
        *(f"#SBATCH {option}" for option in options),
        "umask 077",
        *("runs=(", *(f"  {shlex.quote(str(run.path))}" for run in runs), ")"),
        'run="${runs[${SLURM_ARRAY_TASK_ID:-0}]}"',
        'cd "$run" || exit 1',
        f"{start} >> supervisor.log 2>&1",
    ]
    return "\n".join(lines) + "\n"


def require_taken(said: Launcher, models: Path) -> None:
    """MoltingError with Slurm's own words where it would not take or could not start a run; nothing is submitted."""
    text = script([RunDir(models / "run")], said, models)
    slurm.command(["sbatch", "--test-only"], env=_environment(), given=text)


def send(runs: Sequence[RunDir], said: Launcher, models: Path, more: Mapping[str, str] | None = None) -> list[str]:
    """Submit `runs` as one job, an array where there are several; what each of them is for Slurm.

    `more` is added to the environment of the job.
    MoltingError when Slurm does not take it: the runs are then failed, and can be resumed.
    """
    first = runs[0]
    durable.write_replace(first.slurm_script, script(runs, said, models).encode())
    for run in runs:
        _pass_to(run, "queued", why="Sent to Slurm.")
    argv = ["sbatch", "--parsable"]
    if len(runs) > 1:
        argv.append(f"--array=0-{len(runs) - 1}")
    try:
        answer = slurm.command(
            [*argv, str(first.slurm_script)], patience=SUBMIT_PATIENCE, env=_environment() | dict(more or {})
        )
        job = answer.strip().partition(";")[0]
        if not job.isdecimal():
            raise MoltingError(f"sbatch gave no job number but {answer.strip()[:100]!r}.")
    except MoltingError as error:
        for run in runs:
            _pass_to(run, "failed", why=error.message, remedy=error.remedy)
        raise MoltingError(
            f"Slurm did not take {first.id}: {error.message}",
            remedy=f"{error.remedy} `molting resume {first.id}` sends it again.".strip(),
        ) from None
    names = [job] if len(runs) == 1 else [f"{job}_{task}" for task in range(len(runs))]
    for run, name in zip(runs, names, strict=True):
        slurm.record(run, name)
    return names


def _environment() -> dict[str, str]:
    """Ours without secrets, which Slurm would store with the job, and without what is true of this machine alone."""
    env = environment.clean_env(os.environ)
    local = ("XDG_RUNTIME_DIR", "CUDA_VISIBLE_DEVICES", "TMUX", "TERM", "DISPLAY")
    # Sent from within another job, that one's allocation must not be taken for ours.
    inherited = [name for name in env if name.startswith(("SBATCH_", "SLURM_")) and name != "SLURM_CONF"]
    return {name: value for name, value in env.items() if name not in (*local, *inherited)}


def _pass_to(run: RunDir, state: State, *, why: str, remedy: str = "") -> bool:
    """Record a transition where no supervisor looks after the run; False where one does."""
    lock = locks.FileLock(run.owner_lock)
    if not lock.acquire():
        return False
    try:
        before, _ = summary.transitions(run)
        if not lifecycle.allowed(before[-1].state if before else "", state):
            return False
        attempt = before[-1].attempt if before else 0
        said = Transition(state=state, attempt=attempt, t=time.time(), why=why)
        if state == "failed":
            said.reason, said.evidence = "exception", lifecycle.Evidence(message=why, remedy=remedy)
        writer = JournalWriter(run.lifecycle, exclusive=False)
        writer.write(lifecycle.encode(said), durable=True)
        writer.close()
        return True
    finally:
        lock.release()


def require_idle(run: RunDir) -> None:
    """MoltingError while Slurm still has a job of `run`: asks Slurm, for a second job would wait for nothing."""
    mine = slurm.sent(run)
    if mine is None:
        return
    answer = slurm.refresh(every=0.0)
    if answer.error:
        raise MoltingError(f"Whether {run.id} still has a job is not known. {answer.error}", remedy="Try again later.")
    job = answer.jobs.get(mine.job)
    if job and job.state != "COMPLETING" and not job.ended:
        raise MoltingError(f"{run.id} needs no resuming: {job.sentence}", code=2)


def stop(request: calls.StopJobRequest, tell: object) -> calls.Started:
    """The verb `stop-job`: take a waiting run out of Slurm's queue; tell a running one, saving first unless `now`.

    The order also lies in `control/`, where the supervisor finds it; Slurm's signal only makes it look at once.
    """
    run = RunDir(Path(request.run))
    mine = slurm.sent(run)
    if mine is None:
        raise MoltingError(f"{run.id} was not sent to Slurm.", code=2)
    answer = slurm.refresh(every=0.0)
    if answer.error:
        raise MoltingError(
            f"Slurm could not be told to stop {run.id}. {answer.error}",
            remedy="A run that is training stops all the same: the order lies in its folder.",
        )
    job = answer.jobs.get(mine.job)
    if job is not None and job.waiting:
        slurm.command(["scancel", mine.job])
        _pass_to(run, "interrupted", why=f"Taken out of Slurm's queue, where it waited as job {mine.job}.")
        Control(run).clear()
    elif job is not None and job.running:
        # Only the batch shell, which is the supervisor: its trainer is its own to stop.
        with contextlib.suppress(MoltingError):  # it has ended meanwhile
            slurm.command(["scancel", *([] if request.now else ["--signal=TERM", "--batch"]), mine.job])
    slurm.refresh(every=0.0)
    return calls.Started(run=run.id, path=str(run.path), state=summary.summarise(run).state)
