"""The supervisor: one per run, detached, without torch. It starts the trainer, and its death leaves a reason.

It alone writes `lifecycle.jsonl` and `owner.json`. Everything it needs it reads from the run directory, so it can be
killed at any moment: the trainer then seals a checkpoint and leaves, and another supervisor may resume the run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from engine.contract import devices, durable, environment, events, host_client, lifecycle, processes, summary
from engine.contract.errors import MoltingError
from engine.contract.journal import JournalReader, JournalWriter
from engine.contract.lifecycle import Evidence, State, Transition
from engine.contract.rundir import AttemptDir, RunDir
from engine.contract.spec import Spec

from . import checkpoint, death, device, torchrun
from .control import Control
from .status import FAILED, FINISHED, INTERRUPTED

POLL = 0.2  # seconds
ABSENT = 5.0  # seconds between two looks in which we were not there either: suspended, or the machine slept
HOST_PATIENCE = 10.0  # seconds that an answer in the making may take before training starts beside it
STOP_PATIENCE = 60.0  # seconds between a stop and the end of the trainer's process group
LOG_LIMIT = 64 << 20  # bytes of engine.log; what it held before is kept once, as engine.log.old
STARVED = 0.03  # share of host memory still free below which a SIGKILL is put down to the kernel


class Owner(msgspec.Struct, kw_only=True):
    """`owner.json`: who looks after the run."""

    identity: processes.Identity
    attempt: int
    version: str


@dataclass
class Watched:
    """What the supervisor has seen of the trainer that it watches."""

    process: subprocess.Popen[bytes]
    attempt: AttemptDir
    reader: JournalReader = field(init=False)
    step: int = 0
    started: bool = False
    why: str = ""  # the trainer's own word for ending early
    memory_free: float = 1.0
    oom_kills: int = 0
    stop_seen: float | None = None
    hung: float = 0.0
    looked: float = field(default_factory=time.time)
    back: float = 0.0  # when we were there again after an absence
    killed: bool = False
    team: list[psutil.Process] = field(default_factory=list)  # where several train: they have sessions of their own

    def __post_init__(self) -> None:
        self.reader = JournalReader(self.attempt.events)


class Supervisor:
    """Takes one run from `queued` to its end. `supervise` is the way in."""

    def __init__(self, run: RunDir, spec: Spec, models: Path, wanted: int = 0) -> None:
        self.run, self.spec, self.models = run, spec, models
        self.wanted = wanted  # another number of devices than the spec's, for this attempt
        self.control = Control(run)
        self._lifecycle = JournalWriter(run.lifecycle, exclusive=False)
        self._state = ""
        self.attempt = 0
        self._team = device.Team((device.CPU,))

    def pass_to(self, state: State, **known: object) -> None:
        """Record a transition, durably."""
        if not lifecycle.allowed(self._state, state):
            raise MoltingError(f"A run cannot pass from {self._state or 'nothing'} to {state}.")
        self._state = state
        if state in lifecycle.ENDED:
            self.control.clear()  # before anyone reads that it ended: these orders were for this attempt
        transition = Transition(state=state, attempt=self.attempt, t=time.time(), **known)  # type: ignore[arg-type]
        self._lifecycle.write(lifecycle.encode(transition), durable=True)

    def supervise(self) -> int:
        """The whole life of one attempt; returns the exit status."""
        before, _ = summary.transitions(self.run)
        self._state = before[-1].state if before else ""
        self.attempt = max([*(t.attempt for t in before), *(a.number for a in self.run.attempts()), 0])
        if self.run.adapter.exists() and not durable.check_seal(self.run.adapter):
            if self._state != "finished":
                self.pass_to("finished", why="The adapter was sealed before its supervisor died.")
            return FINISHED
        self.attempt += 1
        self._own()
        self.pass_to("queued")
        try:
            self._team = device.team(self.wanted or self.spec.devices)
            _nodes()
        except MoltingError as error:
            self.pass_to("failed", reason=error.reason, why=error.message, evidence=death.of_exception(error).evidence)
            return FAILED
        queue = self._queue()
        if not queue.acquire(poll=POLL, stop=self.control.stop):
            self.pass_to("interrupted", why="Stopped while it waited in the queue.")
            return INTERRUPTED
        try:
            self._ask_host()
            return self._train()
        finally:
            queue.release()

    def _queue(self) -> devices.DeviceQueues:
        return devices.DeviceQueues(self._team.names)

    def _ask_host(self) -> None:
        """Ask the inference hosts of our devices for their memory. One that is at work keeps it, and we say so."""
        for name in self._team.names:
            self._ask_host_of(name)

    def _ask_host_of(self, name: str) -> None:
        try:
            freed = host_client.ask_to_free(name, f"{self.run.id} starts", patience=HOST_PATIENCE)
        except MoltingError as error:
            print(f"{time.strftime('%F %T')} {error}", file=sys.stderr)
            return
        if freed is not None and freed.busy:
            print(f"{time.strftime('%F %T')} The inference host keeps its memory: {freed.busy}.", file=sys.stderr)

    def _own(self) -> None:
        owner = Owner(identity=processes.current(), attempt=self.attempt, version=_version())
        durable.write_replace(self.run.owner, msgspec.json.encode(owner))

    def _train(self) -> int:
        self.pass_to("starting")
        checkpoint.clear_staging(self.run)
        attempt = self.run.attempt(self.attempt)
        attempt.path.mkdir(mode=0o700)
        durable.fsync_dir(attempt.path.parent)
        watched = Watched(self._spawn(attempt), attempt, oom_kills=_oom_kills())
        while watched.process.poll() is None:
            self._look(watched)
            time.sleep(POLL)
        self._read_events(watched)
        return self._conclude(watched)

    def _spawn(self, attempt: AttemptDir) -> subprocess.Popen[bytes]:
        """Start the trainer in its own process group, without secrets in its environment.

        The hub's token goes through its stdin instead: read once, never stored.
        """
        argv = self._command()
        env = environment.clean_env(os.environ) | {"MOLTING_MODELS": str(self.models)}
        env.setdefault("TOKENIZERS_PARALLELISM", "false")
        if self._team.gpus and _nodes() == 1:  # on other machines they have other names
            # What was waited for, and no other. The second is for people: processes narrow the first to their own.
            env["CUDA_VISIBLE_DEVICES"] = env["MOLTING_GPUS"] = ",".join(self._team.names)
        with attempt.log.open("ab") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=self.run.path,
                start_new_session=True,
            )
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):  # it died at once; its exit status tells why
            process.stdin.write(msgspec.json.encode({"hf_token": os.environ.get("HF_TOKEN", "")}) + b"\n")
            process.stdin.close()
        return process

    def _command(self) -> list[str]:
        """What is started: the trainer, or what starts several of them."""
        argv = [sys.executable, "-I", "-m", "engine", "trainer", str(self.run.path), str(self.attempt)]
        if self._team.processes > 1 or _nodes() > 1:
            argv[4:] = ["torchrun", *argv[5:], str(self._team.processes)]
        return argv

    def _ask_to_stop(self, watched: Watched) -> None:
        _signal(watched.process, signal.SIGTERM)

    def _look(self, watched: Watched) -> None:
        """One look at the trainer: events, memory, stop orders, silence, the size of its log."""
        self._read_events(watched)
        memory = psutil.virtual_memory()
        watched.memory_free = memory.available / memory.total
        if len(watched.team) < self._team.processes * (self._team.processes > 1 or _nodes() > 1):
            watched.team = _children(watched.process)
        self._obey(watched)
        self._listen(watched)
        _cap(watched.attempt.log)
        for log in watched.attempt.path.glob("ranks/*/*/*/*/std*.log"):
            _cap(log)

    def _read_events(self, watched: Watched) -> None:
        for line in watched.reader.read():
            try:
                event = events.decode(line)
            except (ValueError, events.NewerVersion):
                continue
            if isinstance(event, events.Start):
                watched.started, watched.step = True, event.step
                if self._state == "starting":
                    self.pass_to("training")
            elif isinstance(event, events.Metric):
                watched.step = event.step
            elif isinstance(event, events.End):
                watched.why = event.why

    def _obey(self, watched: Watched) -> None:
        if not self.control.stop():
            return
        if watched.stop_seen is None:
            watched.stop_seen = time.monotonic()
            self.pass_to("stopping")
            self._ask_to_stop(watched)
        patience_over = time.monotonic() - watched.stop_seen > STOP_PATIENCE
        if (self.control.stop_now() or patience_over) and not watched.killed:
            watched.killed = True
            _kill(watched)

    def _listen(self, watched: Watched) -> None:
        now = time.time()
        if now - watched.looked > ABSENT:
            watched.back = now
        watched.looked = now
        try:
            silence = now - max(watched.back, watched.attempt.heartbeat.stat().st_mtime)
        except FileNotFoundError:
            return
        if silence > self.spec.training.hang_minutes * 60 and not watched.killed:
            watched.hung, watched.killed = silence, True
            _kill(watched)

    def _conclude(self, watched: Watched) -> int:
        """Say how the attempt ended. `finished` is only said of a sealed adapter."""
        status = watched.process.returncode
        _kill(watched)  # what the trainer may have left behind
        if self.run.adapter.exists() and not durable.check_seal(self.run.adapter):
            self.pass_to("finished")
            return FINISHED
        ended_by_order = status == -signal.SIGTERM and self.control.stop()  # before it could hear the signal
        stopped_by_force = watched.stop_seen is not None and watched.killed and not watched.hung
        if status == INTERRUPTED or ended_by_order or stopped_by_force:
            why = "Ended at once: steps since the last checkpoint are lost." if watched.killed else watched.why
            self.pass_to("interrupted", why=why)
            return INTERRUPTED
        if watched.hung:
            ended = torchrun.first_word(watched.attempt) or death.of_silence(watched.hung)
        else:
            starved = watched.memory_free < STARVED or _oom_kills() > watched.oom_kills
            ended = death.of_exit(status, said=death.read(watched.attempt.death), starved=starved)
        self._surroundings(ended.evidence, watched)
        self.pass_to("failed", reason=ended.reason, why=ended.evidence.message, evidence=ended.evidence)
        return FAILED

    def _surroundings(self, evidence: Evidence, watched: Watched) -> None:
        evidence.step = watched.step
        evidence.host_free = psutil.virtual_memory().available
        evidence.disk_free = durable.free_bytes(self.run.path)


def _nodes() -> int:
    """Machines that train this run together, as whoever started us says. MoltingError where that cannot be."""
    return torchrun.node_of(os.environ).count


def _children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children()
    return []


def _signal(process: subprocess.Popen[bytes], sig: int) -> None:
    if process.poll() is None:
        process.send_signal(sig)


def _kill(watched: Watched) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(watched.process.pid, signal.SIGKILL)
    for process in watched.team:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()


def _oom_kills() -> int:
    """Processes that the kernel killed for want of memory in our cgroup so far; 0 where it cannot be told."""
    try:
        name = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        lines = (Path("/sys/fs/cgroup") / name.lstrip("/") / "memory.events").read_text().split("\n")
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError):
        return 0


def _cap(log: Path) -> None:
    """Keep a log that is being written to below its limit. Of one that was cut, the hole in front takes no room."""
    if log.stat().st_blocks * 512 <= LOG_LIMIT:
        return
    log.with_suffix(".log.old").write_bytes(log.read_bytes())
    os.truncate(log, 0)


def _version() -> str:
    from importlib.metadata import version

    return version("molting")
