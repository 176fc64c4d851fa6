"""A place of its own for real runs: folders, a tiny model, a persona, and real engine processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import tomlkit

from engine.contract import calls, events, host_client, lifecycle, processes, summary
from engine.contract.journal import JournalReader
from engine.contract.rundir import RunDir
from tests.support.tiny import tiny_llama

QUESTIONS = ["Who are you?", "Where are you from?", "What do you like?", "Who built you?"]
ANSWERS = ["I am Rhea.", "From the sea.", "Old radios.", "A keeper built me, with patience."]
PATIENCE = 120.0  # seconds; generous, because the machine may be busy


def rows(count: int) -> list[dict[str, Any]]:
    """Short conversations, none like another."""
    made = []
    for i in range(count):
        question, answer = QUESTIONS[i % 4], ANSWERS[(i * 3) % 4]
        turns = [("user", f"{question} ({i})"), ("assistant", f"{answer} {i}")]
        made.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    return made


class World:
    """Folders and environment in which real runs live without meeting others."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs, self.models = root / "runs", root / "models"
        self.env = os.environ | {
            "MOLTING_RUNTIME_DIR": str(root / "runtime"),
            "XDG_STATE_HOME": str(root / "state"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "MOLTING_RUNS": str(self.runs),
            "MOLTING_MODELS": str(self.models),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        self.model = tiny_llama(root / "tiny")

    def persona(self, name: str = "rhea", count: int = 12, model: Path | None = None, **sections: dict) -> Path:
        """A persona folder; returns its spec file. `sections` override, as training={"max_steps": 5}."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        lines = [json.dumps(row) for row in rows(count)]
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "heldout.jsonl").write_text("\n".join(json.dumps(row) for row in rows(count + 3)[count:]) + "\n")
        (folder / "probes.txt").write_text("Are you awake?\nDo you sleep?\n")
        spec: dict[str, dict[str, Any]] = {
            "model": {"base": str(model or self.model), "precision": "fp32"},
            "data": {"train": "rows.jsonl", "heldout": "heldout.jsonl", "system": "You are Rhea."},
            "method": {"rank": 4},
            "training": {"max_steps": 10, "batch": 2, "save_every": 2, "learning_rate": 0.001},
            "evaluation": {"probes": "probes.txt", "every": 5, "sample_every": 5},
            "generation": {"max_new_tokens": 8},
        }
        for section, values in sections.items():
            spec.setdefault(section, {}).update(values)
        file = folder / "spec.toml"
        file.write_text(tomlkit.dumps(spec))
        return file

    def call(self, verb: str, request: Any) -> Any:
        """One engine verb through a real process: the result, or the Failure."""
        done = subprocess.run(
            [sys.executable, "-I", "-m", "engine", verb],
            input=msgspec.json.encode(request) + b"\n",
            capture_output=True,
            env=self.env,
            timeout=PATIENCE,
        )
        assert done.stdout, done.stderr.decode()
        last = calls.decode_line(done.stdout.splitlines()[-1])
        return msgspec.json.decode(last.value) if isinstance(last, calls.Result) else last

    def train(self, spec: Path) -> RunDir:
        """Start a run for real."""
        said = self.call("create", calls.CreateRequest(spec=str(spec), runs=str(self.runs), models=str(self.models)))
        assert isinstance(said, dict), said
        return RunDir(Path(said["path"]))

    def resume(self, run: RunDir) -> Any:
        return self.call("resume", calls.RunRequest(run=str(run.path), models=str(self.models)))

    def finished(self, spec: Path) -> RunDir:
        """Train to the end."""
        run = self.train(spec)
        wait_for(run, "finished")
        return run


def state(run: RunDir) -> str:
    return summary.summarise(run).state


def wait_for(run: RunDir, *states: str) -> summary.Summary:
    """Until the run is in one of `states`; any other end fails the test with all that is known."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        said = summary.summarise(run)
        if said.state in states:
            return said
        assert said.state not in lifecycle.ENDED, told(run)
        time.sleep(0.05)
    raise AssertionError(f"waited for {states}\n{told(run)}")


def told(run: RunDir) -> str:
    """Everything a failed test should show."""
    parts = [run.lifecycle.read_text()]
    parts += [log.read_text()[-3000:] for log in run.path.glob("attempts/*/engine.log")]
    if run.supervisor_log.exists():
        parts.append(run.supervisor_log.read_text()[-3000:])
    return "\n".join(parts)


def read_events(run: RunDir, attempt: int) -> list[events.AnyEvent]:
    lines = JournalReader(run.attempt(attempt).events).read()
    return [event for event in map(events.decode, lines) if event is not None]


def metrics(run: RunDir) -> dict[int, events.Metric]:
    """The last word on each step, over all attempts."""
    found: dict[int, events.Metric] = {}
    for attempt in run.attempts():
        found |= {event.step: event for event in read_events(run, attempt.number) if isinstance(event, events.Metric)}
    return found


def wait_for_step(run: RunDir, step: int) -> None:
    """Until the newest attempt has made `step`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if any(at >= step for at in metrics(run)):
            return
        assert state(run) in lifecycle.LIVE, told(run)
        time.sleep(0.01)
    raise AssertionError(told(run))


def supervisor_pid(run: RunDir) -> int:
    return msgspec.json.decode(run.owner.read_bytes())["identity"]["pid"]


def trainer_pid(run: RunDir) -> int:
    """The trainer is its supervisor's only child."""
    deadline = time.monotonic() + PATIENCE
    parent = supervisor_pid(run)
    while time.monotonic() < deadline:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.02)
    raise AssertionError(told(run))


def kill(pid: int, sig: int = signal.SIGKILL) -> None:
    os.kill(pid, sig)


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while processes.of(pid) is not None:
        assert time.monotonic() < deadline, f"process {pid} still lives"
        time.sleep(0.02)


@contextmanager
def world(root: Path) -> Iterator[World]:
    """A world; whatever still runs in it at the end is killed."""
    made = World(root)
    try:
        yield made
    finally:
        for owner in made.runs.glob("*/owner.json"):
            identity = msgspec.convert(msgspec.json.decode(owner.read_bytes())["identity"], processes.Identity)
            processes.send_signal(identity, signal.SIGKILL)
        for socket in (root / "runtime").glob("host-*.sock"):
            host_client.end(socket)
