"""How long a run will take: told from runs that were made on this machine, by the tokens that passed through them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract.spec import Spec, Training

from . import batch, plan
from .calibration import LAST, Run

ALIKE = 4.0  # times larger or smaller a model may be whose pace is carried over
STEPS_READ = 40  # of a run, to count the tokens of a step


@dataclass
class Pace:
    """What the steps of one attempt cost. The first is not counted: it pays for buffers and kernels once."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """A step: tokens that passed through the model (shared ones once, padding too), and its seconds."""
        self.steps += 1
        if self.steps > 1:
            self.tokens, self.seconds = self.tokens + tokens, self.seconds + seconds


@dataclass(frozen=True)
class Expected:
    """Seconds from the start of a trainer to its end, and in words from what that is known."""

    seconds: float
    known_from: str


def expected(runs: Sequence[Run], like: Run, *, steps: int, tokens_a_step: float) -> Expected | None:
    """From `runs` with the device, method and settings of `like`: of the same model, else of one of similar size,
    whose pace is taken as proportional to its parameters. None where there was none: better no figure than a guess.
    """
    parameters = like.parameters
    timed = [run for run in runs if run.tokens > 0 and run.seconds > 0 and _settings(run) == _settings(like)]
    own = [run for run in timed if run.model == like.model][-LAST:]
    near = [run for run in timed if run.parameters and 1 / ALIKE <= parameters / run.parameters <= ALIKE][-LAST:]
    known = own or near
    if not known:
        return None
    scale = (lambda run: 1.0) if own else (lambda run: parameters / run.parameters)
    pace = statistics.median(run.seconds / run.tokens * scale(run) for run in known)
    beside = statistics.median(run.beside for run in known)
    count = "a run" if len(known) == 1 else f"{len(known)} runs"
    said = f"{count} of this model here" if own else f"{count} of a model of similar size here"
    return Expected(beside + steps * tokens_a_step * pace, said)


def _settings(run: Run) -> tuple[str, str, str]:
    return run.device, run.method, run.settings


def settings(spec: Spec, *, checkpointing: bool) -> str:
    """What of a resolved spec decides the pace beside model and method."""
    return spec.model.precision + (", checkpointing" if checkpointing else "")


def tokens_a_step(rows: Sequence[batch.Row], spec: Spec) -> float:
    """Tokens that pass through the model in a step, on average of the first steps of a run over these rows."""
    per_step, seed = spec.rows_per_step, spec.training.seed
    steps = min(int(spec.training.max_steps) or 1, STEPS_READ)
    taken = ([rows[i] for i in plan.rows_of_step(step, len(rows), per_step, seed)] for step in range(steps))
    return sum(computed(each, spec.training) for each in taken) / steps


def computed(rows: Sequence[batch.Row], training: Training) -> int:
    """Tokens that pass through the model for the rows of one step: shared ones once, padding too."""
    parts = batch.parts(rows, training)
    return sum((batch.pack(part) if training.packing else batch.pad(part, 0)).computed for part in parts)
