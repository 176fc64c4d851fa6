"""The run directory: names, paths and creation. What the files hold is told by events, lifecycle and spec."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from . import durable
from .errors import MoltingError

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")
_STEP = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class AttemptDir:
    """One attempt at a run: `attempts/K/`."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "engine.log"

    @property
    def lock(self) -> Path:
        return self.path / "trainer.lock"

    @property
    def heartbeat(self) -> Path:
        """Touched whenever the trainer gets somewhere; its age is the trainer's silence."""
        return self.path / "heartbeat"

    @property
    def death(self) -> Path:
        """Why the trainer gave up, in its own words; absent when it was killed."""
        return self.path / "death.json"


@dataclass(frozen=True)
class RunDir:
    """A run directory; every path in it has its name here."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def spec(self) -> Path:
        return self.path / "spec.toml"

    @property
    def inputs(self) -> Path:
        """Frozen copies of the rows, probes and template that the spec names."""
        return self.path / "inputs"

    @property
    def lifecycle(self) -> Path:
        return self.path / "lifecycle.jsonl"

    @property
    def owner(self) -> Path:
        return self.path / "owner.json"

    @property
    def owner_lock(self) -> Path:
        return self.path / "owner.lock"

    @property
    def supervisor_log(self) -> Path:
        return self.path / "supervisor.log"

    @property
    def slurm(self) -> Path:
        """The Slurm job that it was last sent as; absent in runs of this machine."""
        return self.path / "slurm.json"

    @property
    def slurm_script(self) -> Path:
        """What Slurm was given to run."""
        return self.path / "slurm.sh"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The final weights: a LoRA adapter, or the whole model after full fine-tuning."""
        return self.path / "adapter"

    @property
    def proof(self) -> Path:
        """The last proof of effect, replaced by the next."""
        return self.path / "proof.json"

    @property
    def answers(self) -> Path:
        """Frozen answer sheets."""
        return self.path / "answers"

    def sheet(self, name: str) -> Path:
        return self.answers / f"{name}.jsonl"

    @property
    def grades(self) -> Path:
        """One file per rater and grading."""
        return self.path / "grades"

    @property
    def report(self) -> Path:
        """The cycle report; its notes are kept when it is made again."""
        return self.path / "report.md"

    @property
    def report_html(self) -> Path:
        """The same, with its drawings."""
        return self.path / "report.html"

    @property
    def conversations(self) -> Path:
        """What was said in Chat: one file per conversation."""
        return self.path / "conversations"

    @property
    def curation(self) -> Path:
        """Answers made for the next set of rows, what was chosen of them, and what was measured."""
        return self.path / "curation"

    @property
    def generation(self) -> Path:
        """What the rows of a generation of self-training were made of; absent in other runs."""
        return self.path / "generation.json"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}"

    def checkpoint_steps(self) -> list[int]:
        """Steps of everything named like a sealed checkpoint, newest first; none is verified here."""
        if not self.checkpoints.is_dir():
            return []
        found = (_STEP.fullmatch(entry.name) for entry in self.checkpoints.iterdir())
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def attempt(self, number: int) -> AttemptDir:
        return AttemptDir(self.path / "attempts" / str(number))

    def attempts(self) -> list[AttemptDir]:
        """In order."""
        folder = self.path / "attempts"
        if not folder.is_dir():
            return []
        numbers = sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())
        return [self.attempt(number) for number in numbers]


def slug(name: str) -> str:
    """A folder name made of `name`: ascii, lower case, at most 40 characters, never empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "run"


def is_id(text: str) -> bool:
    """Whether this can be the id, and so the folder name, of a run."""
    return bool(_ID.fullmatch(text))


def create(runs: Path, name: str, fill: Callable[[RunDir], None]) -> RunDir:
    """Make a new run directory that appears whole: `fill` writes into it before it gets its name."""
    durable.make_private_dir(runs)
    run_id = f"{slug(name)}-{datetime.now():%Y%m%d}-{secrets.token_hex(2)}"
    staging = runs / f".new-{run_id}"
    staging.mkdir(mode=0o700)
    try:
        for folder in ("inputs", "control", "checkpoints", "attempts"):
            (staging / folder).mkdir(mode=0o700)
        fill(RunDir(staging))
        durable.fsync_dir(staging)
        staging.rename(runs / run_id)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    durable.fsync_dir(runs)
    return RunDir(runs / run_id)


def listed(runs: Path) -> Iterator[RunDir]:
    """Every run directory, in no order. A folder without spec.toml is not a run; a symlink never is."""
    if not runs.is_dir():
        return
    with os.scandir(runs) as entries:  # which knows what is a folder: of thousands each look counts
        for entry in entries:
            run = RunDir(runs / entry.name)
            if _ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False) and run.spec.is_file():
                yield run


def find(runs: Path, wanted: str, name_of: Callable[[RunDir], str]) -> RunDir:
    """The run meant by an id, a unique prefix of one, or a unique name. MoltingError (code 2) otherwise."""
    if _ID.fullmatch(wanted) and (runs / wanted / "spec.toml").is_file():
        return RunDir(runs / wanted)
    every = list(listed(runs))
    matches = [run for run in every if wanted and run.id.startswith(wanted)]
    matches = matches or [run for run in every if name_of(run) == wanted]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(sorted(run.id for run in matches)[:5])
        raise MoltingError(
            f"{len(matches)} runs are meant by {wanted!r}: {ids}.", remedy="Give more of the id.", code=2
        )
    raise MoltingError(f"No run in {runs} is called {wanted!r}.", remedy="`molting runs` lists them.", code=2)
