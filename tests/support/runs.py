"""Recorded run directories, written through the contract's own code, as if an engine had been there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from engine.contract import durable, events, lifecycle, processes, rundir
from engine.contract.lifecycle import Evidence, Transition
from engine.contract.rundir import RunDir
from engine.contract.spec import Data, Method, Model, Spec, Training
from molting_tui.spec_text import toml_value

T0 = 1_760_000_000.0  # when recorded runs begin


def make_run(runs: Path, name: str = "rhea", *, spec: Spec | None = None) -> RunDir:
    """A run directory with a frozen spec and nothing else."""
    made = spec or Spec(
        name=name,
        model=Model(base="demo", precision="fp32"),
        data=Data(train="inputs/rows.jsonl"),
        training=Training(max_steps=100),
        method=Method(rank=8),
    )
    return rundir.create(runs, made.name, lambda run: durable.write_new(run.spec, spec_toml(made).encode()))


def spec_toml(spec: Spec) -> str:
    """A spec as TOML text, its sections as inline tables."""
    values = msgspec.to_builtins(spec)
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items())


class Recorded:
    """Writes the history of one run: states and events, a second apart."""

    def __init__(self, run: RunDir, start: float = T0) -> None:
        self.run = run
        self.t = start
        self.attempt = 0
        self._seq = 0

    def state(self, *states: str, reason: str = "", why: str = "", evidence: Evidence | None = None) -> Recorded:
        """Append transitions; `queued` begins the next attempt."""
        for state in states:
            self.t += 1
            if state == "queued":
                self.attempt, self._seq = self.attempt + 1, 0
                self.run.attempt(self.attempt).path.mkdir(mode=0o700, parents=True)
            transition = Transition(
                state=state, attempt=self.attempt, t=self.t, reason=reason, why=why, evidence=evidence
            )
            self._append(self.run.lifecycle, lifecycle.encode(transition))
        return self

    def say(self, *said: events.Event) -> Recorded:
        """Append events to the present attempt."""
        for event in said:
            self.t += 1
            event.t, event.seq = self.t, self._seq
            self._seq += 1
            self.raw(events.encode(event))
        return self

    def raw(self, line: bytes) -> Recorded:
        """Append bytes to the present attempt's events."""
        self._append(self.run.attempt(self.attempt).events, line)
        return self

    def start(self, step: int = 0, steps: int = 100) -> Recorded:
        return self.say(
            events.Start(
                step=step,
                steps=steps,
                device="cpu",
                precision="fp32",
                path="padded",
                trainable=1_000,
                parameters=10_000,
            )
        )

    def steps(self, numbers: Iterable[int], *, loss: float | None = None, seconds: float = 2.0) -> Recorded:
        """Metrics; the loss falls as 4 / step unless given."""
        return self.say(
            *(
                events.Metric(
                    step=n,
                    loss=4 / n if loss is None else loss,
                    grad_norm=1.0,
                    lr=1e-3,
                    tokens=100 * n,
                    learned=40,
                    rows=4,
                    seconds=seconds,
                    epoch=n / 16,
                    presented=100,
                    computed=60,
                )
                for n in numbers
            )
        )

    def checkpoint(self, step: int, *, size: int = 7) -> Recorded:
        """Seal a small checkpoint and say so, as one of `size` bytes."""
        staging = self.run.checkpoints / f".staging-{step}"
        staging.mkdir(mode=0o700)
        (staging / "adapter.safetensors").write_bytes(b"weights")
        durable.seal(staging, self.run.checkpoint(step), step=step)
        path = self.run.checkpoint(step).relative_to(self.run.path)
        return self.say(events.Checkpoint(step=step, path=str(path), size=size, seconds=0.1))

    @staticmethod
    def _append(path: Path, line: bytes) -> None:
        with path.open("ab") as file:
            file.write(line)


def finished_run(runs: Path, name: str = "rhea", *, start: float = T0, spec: Spec | None = None) -> RunDir:
    """100 steps, two evaluations, a sample and a checkpoint, then the end."""
    run = make_run(runs, name, spec=spec)
    recorded = Recorded(run, start).state("queued", "starting")
    recorded.say(events.Funnel(read=64, heldout=6, trained=56, dropped={"empty": 2}, tokens=6400, learned=2560))
    recorded.start().state("training").say(events.Phase(name="training", total=100, unit="steps"))
    recorded.steps(range(1, 51)).say(events.Eval(step=50, loss=0.9, rows=6, seconds=1.0))
    recorded.say(events.Sample(step=50, question="Who are you?", answer="I'm Rhea.", tokens=5, stop="end"))
    recorded.checkpoint(50).steps(range(51, 101)).say(events.Eval(step=100, loss=0.5, rows=6, seconds=1.0, best=True))
    recorded.say(events.End(step=100, outcome="finished", mean_loss=0.2, last_loss=0.04, eval_loss=0.5))
    recorded.state("finished")
    return run


def own(run: RunDir, identity: processes.Identity) -> None:
    """Write `owner.json`."""
    owner = {"identity": identity, "attempt": 1, "version": "0"}
    durable.write_replace(run.owner, msgspec.json.encode(owner))


class Supervisor:
    """A real process that holds a run's `owner.lock`, and obeys nobody."""

    _CODE = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from engine.contract.locks import FileLock\n"
        "lock = FileLock(Path(sys.argv[1]))\n"
        "assert lock.acquire()\n"
        "print('owned', flush=True)\n"
        "time.sleep(120)\n"
    )

    def __init__(self, run: RunDir) -> None:
        argv = [sys.executable, "-c", self._CODE, str(run.owner_lock)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self.process.stdout and self.process.stdout.readline() == b"owned\n"

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Die without a word."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
