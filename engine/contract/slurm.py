"""What Slurm says of the jobs that our runs were sent to it as. The one place that runs its commands.

Asking takes a controller that answers, so nobody who shows runs waits for it: `refresh` keeps the last answer in a
file of this user on this machine, at most every `EVERY` seconds, and `of` reads that. Only commands and columns that
every Slurm of the last ten years has are used; `sacct` where there is one, for jobs that the controller has forgotten.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Union

import msgspec

from . import durable
from .environment import local_dir
from .errors import MoltingError
from .plainfile import read_plain
from .rundir import RunDir
from .safe import safe

EVERY = 5.0  # seconds between two questions to the controller, whoever asks
PATIENCE = 5.0  # seconds that an answer may take
_SETTLED = 3.0  # seconds after which a job that was just taken must be in the queue
_KEPT = 5_000  # jobs remembered after the controller forgot them
_LIMIT = 16 << 20  # bytes of the file of answers
_JOB = re.compile(r"\d+(_\d+)?")
_PREFIX = re.compile(r"^(error: |fatal: |allocation failure: |Batch job submission failed: )+")

GONE = "GONE"  # ours, not Slurm's: the controller no longer knows the job
# Every state and flag of Slurm's "Job State Codes", and what it means of "Slurm job 42 on n1 …".
_WAITS = {
    "PENDING": "is pending",
    "CONFIGURING": "is about to start: its nodes are made ready",
    "POWER_UP_NODE": "is about to start: its nodes are switched on",
    "REQUEUED": "goes back into the queue",
    "EXPEDITING": "goes back to the head of the queue",
    "REQUEUE_FED": "goes back into the queue of its federation",
    "REQUEUE_HOLD": "went back into the queue and is held there until `scontrol release`",
    "SPECIAL_EXIT": "went back into the queue and is held there, as the site does after some exits",
    "RESV_DEL_HOLD": "is held, because its reservation was deleted",
    "LAUNCH_FAILED": "could not be launched on its nodes, and went back into the queue",
    "RECONFIG_FAIL": "could not be launched, because its nodes could not be made ready",
}
_GOES_ON = {  # a process of it may live
    "RUNNING": "is running",
    "SUSPENDED": "is suspended: its cores are free for others, and it goes on later",
    "STOPPED": "is stopped: it keeps its cores, and goes on when it is continued",
    "COMPLETING": "is ending: some of its processes are still there",
    "RESIZING": "is running, and about to change its size",
    "SIGNALING": "is running, and being sent a signal",
    "STAGE_OUT": "has ended, and its files are brought out",
    "REVOKED": "was started on another cluster of the federation, which alone knows it now",
}
ENDS = {
    "COMPLETED": "has ended",
    "CANCELLED": "was cancelled",
    "TIMEOUT": "timed out: it reached its time limit",
    "PREEMPTED": "was preempted: another took its place",
    "NODE_FAIL": "ended because a node of it failed",
    "BOOT_FAIL": "ended because its nodes could not be started",
    "OUT_OF_MEMORY": "ended because it used more memory than it had asked for",
    "DEADLINE": "ended because of its deadline",
    "FAILED": "failed",
    GONE: "is not known to Slurm any more",
}
WAITING, RUNNING = frozenset(_WAITS), frozenset(_GOES_ON)


class Sent(msgspec.Struct, kw_only=True):
    """`slurm.json`: the job that a run was last sent as; "42", or "42_3" for a task of an array."""

    job: str
    t: float


class Job(msgspec.Struct, kw_only=True):
    """A job as Slurm sees it. `state` and `reason` are Slurm's words, `start` Unix seconds (expected, or begun)."""

    id: str
    state: str
    reason: str = ""
    start: Union[float, None] = None
    nodes: str = ""

    @property
    def waiting(self) -> bool:
        return self.state in WAITING

    @property
    def running(self) -> bool:
        return self.state in RUNNING

    @property
    def ended(self) -> bool:
        return not self.waiting and not self.running

    @property
    def word(self) -> str:
        """In two or three words, for a table."""
        if self.waiting:
            return ": ".join(filter(None, [self.state.lower().replace("_", " "), self.reason]))
        if self.state == "RUNNING":
            return f"on {self.nodes}"
        return self.state.lower().replace("_", " ") + (f" on {self.nodes}" if self.running and self.nodes else "")

    @property
    def sentence(self) -> str:
        """What Slurm says of it."""
        who = f"Slurm job {self.id}{f' on {self.nodes}' if self.nodes else ''}"
        if self.waiting:
            reason = f": {self.reason}" if self.reason else ""
            when = f"; expected to start {_clock(self.start)}" if self.start else ""
            return f"{who} {_WAITS[self.state]}{reason}{when}."
        return f"{who} {_GOES_ON.get(self.state) or ENDS.get(self.state, 'ended as ' + self.state)}."


class Answer(msgspec.Struct, kw_only=True):
    """The last answer: what was true at `t`. `tried` is the last question, `error` why it had no answer."""

    t: float = 0.0
    tried: float = 0.0
    error: str = ""
    jobs: dict[str, Job] = {}


def sent(run: RunDir) -> Sent | None:
    """The job that `run` was last sent as; None for a run that never went to Slurm."""
    try:
        found = msgspec.json.decode(read_plain(run.slurm, 1 << 16), type=Sent)
    except FileNotFoundError:
        return None
    except (OSError, MoltingError, ValueError, RecursionError):
        return None
    return found if _JOB.fullmatch(found.job) else None


def record(run: RunDir, job: str) -> None:
    """Remember which job a run was sent as, durably."""
    durable.write_replace(run.slurm, msgspec.json.encode(Sent(job=job, t=time.time())))


def of(run: RunDir) -> Job | None:
    """What is known of the job of `run`, without asking; None where it has none or nothing is known yet."""
    mine = sent(run)
    if mine is None:
        return None
    answer = known()
    if (job := answer.jobs.get(mine.job)) and answer.t > mine.t:
        return job
    return Job(id=mine.job, state=GONE) if answer.t > mine.t + _SETTLED else None


def is_news(run: RunDir) -> bool:
    """Whether the last answer is younger than what the run's supervisor last said."""
    try:
        return known().t > run.lifecycle.stat().st_mtime
    except OSError:
        return True


def runs(run: RunDir) -> bool | None:
    """Whether the job of `run` runs, so that a supervisor lives; None while it waits or nothing new is known."""
    job = of(run)
    if job is None or not is_news(run) or job.waiting:
        return None
    return job.running


def known() -> Answer:
    """The last answer that anyone of this user got on this machine; an empty one where there is none."""
    try:
        path = _file()
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except (OSError, MoltingError):
        return Answer()


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: int, size: int) -> Answer:
    try:
        return msgspec.json.decode(read_plain(path, _LIMIT), type=Answer)
    except (OSError, MoltingError, ValueError, RecursionError):
        return Answer()


def _file() -> Path:
    return local_dir() / "slurm.json"


def refresh(*, every: float = EVERY, patience: float = PATIENCE) -> Answer:
    """Ask the controller, unless someone did so in the last `every` seconds. Never raises: `error` tells."""
    before = known()
    now = time.time()
    if 0 <= now - before.tried < every:
        return before
    _store(Answer(t=before.t, tried=now, error=before.error, jobs=before.jobs))  # others need not ask meanwhile
    try:
        answer = Answer(t=now, tried=now, jobs=_merged(before.jobs, _queue(patience), patience))
    except MoltingError as error:
        answer = Answer(t=before.t, tried=now, error=error.message, jobs=before.jobs)
    _store(answer)
    return answer


_asking = threading.Lock()


def refresh_soon(*, wait: float = 0.0) -> None:
    """`refresh` behind our back, at most one at a time; `wait` seconds are waited for it at most."""

    def ask() -> None:
        if _asking.acquire(blocking=False):
            try:
                refresh()
            finally:
                _asking.release()

    if 0 <= time.time() - known().tried < EVERY:
        return
    thread = threading.Thread(target=ask, name="ask-slurm", daemon=True)
    thread.start()
    thread.join(wait)


def refresh_for(every: Iterable[RunDir], *, wait: float = 1.5) -> str:
    """Before `every` run is shown: ask if one of them was sent to Slurm. Why there is no answer, or nothing."""
    if not any(run.slurm.exists() for run in every):
        return ""
    refresh_soon(wait=wait)
    return known().error


def _store(answer: Answer) -> None:
    """Derived, so not synced; a reader sees it whole or not at all."""
    try:
        path = _file()
        staging = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        staging.write_bytes(msgspec.json.encode(answer))
        staging.replace(path)
    except (OSError, MoltingError):
        pass  # without it every reader asks for itself


def _queue(patience: float) -> dict[str, Job]:
    """Every job of this user that the controller knows, the ended ones too, tasks of arrays one by one."""
    columns = ["--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r|%S|%N"]
    found = map(parse, command(["squeue", *columns], patience=patience).splitlines())
    return {job.id: job for job in found if job is not None}


def parse(line: str) -> Job | None:
    """One line of squeue in our columns; None for anything else."""
    cells = [safe(cell.strip(), keep_newlines=False) for cell in line.split("|")]
    if len(cells) != 5 or not _JOB.fullmatch(cells[0]) or not cells[1]:
        return None
    known_reason = cells[2] if cells[2] not in {"None", "(null)"} else ""
    nodes = cells[4] if cells[4] not in {"(null)", "None assigned"} else ""
    return Job(id=cells[0], state=cells[1], reason=known_reason, start=_moment(cells[3]), nodes=nodes)


def _moment(text: str) -> float | None:
    """Slurm's time: seconds, as we ask for, or its standard form, as a Slurm gives that does not know the former."""
    try:
        return float(text) if text.isdecimal() else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _merged(before: dict[str, Job], now: dict[str, Job], patience: float) -> dict[str, Job]:
    """`now`, and of jobs that the controller has forgotten what they were last seen as, or what sacct says."""
    lost = {name: job for name, job in before.items() if name not in now}
    ended = _accounted([name for name, job in lost.items() if not job.ended], patience)
    kept = {name: ended.get(name, Job(id=name, state=GONE)) if not job.ended else job for name, job in lost.items()}
    return dict(list((kept | now).items())[-_KEPT:])


def _accounted(jobs: list[str], patience: float) -> dict[str, Job]:
    """What the accounting knows of `jobs`; nothing where there is none."""
    if not jobs:
        return {}
    argv = ["sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,State,NodeList", "--jobs"]
    try:
        said = command([*argv, ",".join(jobs[:500])], patience=patience)
    except MoltingError:
        return {}
    rows = [line.split("|") for line in said.splitlines()]
    found = [Job(id=row[0], state=row[1].split()[0], nodes=row[2]) for row in rows if len(row) == 3 and row[1]]
    return {job.id: job for job in found if job.ended}


def command(argv: list[str], *, patience: float = PATIENCE, env: dict[str, str] | None = None, given: str = "") -> str:
    """What one of Slurm's commands printed; it reads `given`.

    MoltingError with its own first words when it failed or was silent.
    """
    environment = (dict(os.environ) if env is None else env) | {"SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            env=environment,
        )
    except FileNotFoundError:
        raise MoltingError(
            f"There is no {argv[0]} on this machine.", remedy="Do this where Slurm's commands are, on a login node."
        ) from None
    except subprocess.TimeoutExpired:
        raise MoltingError(
            f"Slurm did not answer {argv[0]} within {patience:.0f} s.", remedy="`scontrol ping` tells whether it is up."
        ) from None
    except OSError as error:
        raise MoltingError(f"{argv[0]} could not be started: {error.strerror}.") from None
    if done.returncode == 0:
        return done.stdout
    raise _refused(argv[0], done.stderr or done.stdout)


def _refused(name: str, said: str) -> MoltingError:
    plain = safe(said).splitlines()
    lines = [_PREFIX.sub("", line.removeprefix(f"{name}: ")).strip() for line in plain if "sbatch --help" not in line]
    words = "; ".join(dict.fromkeys(line for line in lines if line))[:400] or "it gave no reason"
    if "munge" in words.lower():
        remedy = "Slurm's munge does not answer on this machine: whoever looks after the cluster must start munged."
    elif "configuration source" in words.lower():
        remedy = "Slurm's commands find no cluster here (no slurm.conf): do this on a login node."
    elif "connect" in words.lower() or "contact" in words.lower():
        remedy = "The controller is away: `scontrol ping` tells when it is back. Jobs that run go on."
    else:
        remedy = ""
    return MoltingError(f"{name}: {words.rstrip('.')}.", remedy=remedy)


def _clock(moment: float) -> str:
    """ "at 18:05", with the day where it is not today."""
    when = datetime.fromtimestamp(moment)
    return f"at {when:%H:%M}" if when.date() == datetime.now().date() else f"{when:%F} at {when:%H:%M}"
