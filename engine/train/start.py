"""How a run begins and goes on: the verbs `create` and `resume`, and the supervisor's process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.checks import preflight
from engine.contract import calls, lifecycle, locks, processes, rundir, summary, sweeps
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir

from . import freeze, slurm
from .allocation import AllocatedSupervisor, job_of
from .control import Control
from .supervisor import Supervisor

TAKES_OVER = 20.0  # seconds that a new supervisor may need to say that it owns the run
LETS_GO = 15.0  # seconds that a trainer without supervisor may need to seal its checkpoint


def create(request: calls.CreateRequest, tell: Callable[[calls.Line], None]) -> calls.Started:
    """Check a spec, freeze it into a new run, start its supervisor. MoltingError (code 1) for a spec with errors."""
    opened = freeze.open_spec(Path(request.spec))
    if swept := sweeps.points(opened.spec.sweep):
        raise MoltingError(
            f"This spec has a [sweep]: it is {len(swept)} runs, not one.",
            remedy="`molting sweep SPEC` starts them; without the [sweep] it is a run.",
            code=2,
        )
    checked = preflight.check(opened, Path(request.models))
    errors = [finding for finding in checked.findings if finding.severity == "error"]
    if errors:
        raise MoltingError(
            " ".join(finding.message for finding in errors), remedy=errors[0].remedy, reason="bad_data", code=1
        )
    for finding in checked.findings:
        if finding.severity == "warning" or finding.id == "model-not-here":  # the doctor tells the other notes
            tell(said(finding))
    if opened.spec.launcher.kind == "local":
        warn_of_logout(tell)
    run = rundir.create(Path(request.runs), opened.spec.name, lambda new: freeze.write(new, checked.resolved))
    if not request.start:
        return calls.Started(run=run.id, path=str(run.path), state="queued")
    return launch(run, Path(request.models))


def said(finding: calls.Finding) -> calls.Note:
    """A finding that does not hinder, as one sentence."""
    return calls.Note(text=f"{finding.severity}: {finding.message} {finding.remedy}".strip())


def warn_of_logout(tell: Callable[[calls.Line], None]) -> None:
    """Say so where this machine ends what a user leaves behind."""
    survives, sentence = processes.survives_logout()
    if not survives:
        tell(calls.Note(text=f"warning: {sentence}"))


def resume(request: calls.RunRequest, tell: object) -> calls.Started:
    """Start the next attempt of a run that ended, was lost, or waits without an owner."""
    run = RunDir(Path(request.run))
    slurm.require_idle(run)
    said = summary.summarise(run)
    if said.imported:
        raise MoltingError(f"{run.id} was imported: nothing was trained here that could go on.", code=2)
    if said.state == "finished":
        raise MoltingError(
            f"{run.id} is finished, so there is nothing to resume.",
            remedy=f"`molting train {run.spec}` starts a new run like it.",
            code=2,
        )
    if _is_owned(run, said.state):
        raise MoltingError(f"{run.id} is {said.state}: it needs no resuming.", code=2)
    if said.state in lifecycle.LIVE and said.owned is None and said.attempt:
        raise MoltingError(
            f"{run.id} is looked after on another host, so it cannot be resumed here.", remedy="Resume it there."
        )
    _wait_for_trainer(run)
    Control(run).clear()
    return launch(run, Path(request.models), request.devices)


def _is_owned(run: RunDir, state: str) -> bool:
    """Whether a supervisor holds the run; one that has just said how it ended is given a moment to let go."""
    deadline = time.monotonic() + (LETS_GO if state in lifecycle.ENDED else 0.0)
    while locks.is_locked(run.owner_lock):
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.02)
    return False


def _wait_for_trainer(run: RunDir) -> None:
    """A trainer whose supervisor died still seals its checkpoint; two at once would spoil the run."""
    deadline = time.monotonic() + LETS_GO
    while any(locks.is_locked(attempt.lock) for attempt in run.attempts() if attempt.lock.exists()):
        if time.monotonic() > deadline:
            raise MoltingError(
                f"A trainer of {run.id} is still at work without its supervisor; it is sealing its checkpoint.",
                remedy="Try again in a minute.",
            )
        time.sleep(0.2)


def launch(run: RunDir, models: Path, devices: int = 0) -> calls.Started:
    """Start the supervisor of a run and wait until it says that it owns it."""
    launcher = summary.load_spec(run).launcher
    if launcher.kind == "slurm":
        slurm.send([run], launcher, models, _on(devices))
        return calls.Started(run=run.id, path=str(run.path), state="queued")
    attempts = len(_history(run))
    argv = [sys.executable, "-I", "-m", "engine", "supervise", str(run.path), str(models)]
    processes.spawn_detached(argv, stdout=run.supervisor_log, env=os.environ | _on(devices), cwd=run.path)
    deadline = time.monotonic() + TAKES_OVER
    while len(_history(run)) == attempts:
        if time.monotonic() > deadline:
            raise MoltingError(
                f"The supervisor of {run.id} did not start.", remedy=f"See {run.supervisor_log}, then resume the run."
            )
        time.sleep(0.02)
    return calls.Started(run=run.id, path=str(run.path), state=_history(run)[-1].state)


def launch_all(runs: Sequence[RunDir], models: Path, tell: Callable[[calls.Line], None]) -> None:
    """Let runs of one launcher queue: as one array where Slurm starts them, else one after another."""
    launcher = summary.load_spec(runs[0]).launcher
    if launcher.kind == "slurm":
        slurm.send(runs, launcher, models)
        return
    for number, run in enumerate(runs, start=1):
        try:
            launch(run, models)
        except MoltingError as error:  # the others need not wait for this one
            tell(calls.Note(text=f"warning: {error}"))
        tell(calls.Progress(phase="queueing", done=number, total=len(runs), unit="runs"))


def _on(devices: int) -> dict[str, str]:
    return {"MOLTING_DEVICES": str(devices)} if devices else {}


def _history(run: RunDir) -> list[lifecycle.Transition]:
    return summary.transitions(run)[0]


def supervise(path: str, models: str) -> int:
    """The supervisor's process: own the run for as long as it lives."""
    run = RunDir(Path(path))
    lock = locks.FileLock(run.owner_lock)
    if not lock.acquire():
        print(f"{run.id} has a supervisor already.", file=sys.stderr)
        return 3
    try:
        spec = summary.load_spec(run)
        kind = AllocatedSupervisor if spec.launcher.kind == "slurm" and job_of(os.environ) else Supervisor
        supervisor = kind(run, spec, Path(models), int(os.environ.get("MOLTING_DEVICES", "0")))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for asks in (signal.SIGTERM, signal.SIGINT):
            signal.signal(asks, lambda *_: setattr(supervisor.control, "signalled", True))
        return supervisor.supervise()
    except MoltingError as error:
        print(f"{time.strftime('%F %T')} {error}", file=sys.stderr)
        return error.code
