"""The other runs of a sweep, looked at after each evaluation: is this one clearly worse? Reads files, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from engine.checks.history import History, read_history
from engine.contract import rundir, summary
from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from engine.contract.spec import Spec

WORSE_BY = 0.1  # share by which a held-out loss must be above the best at the same step
IN_A_ROW = 2  # evaluations


class Other(NamedTuple):
    """A sibling's held-out losses by step."""

    name: str
    losses: Mapping[int, float]


class Siblings:
    """The runs that began as members of the same sweep."""

    def __init__(self, run: RunDir, spec: Spec) -> None:
        self._run, self._spec = run, spec
        # Who resumes a run that was ended as worse wants it to go on.
        self._asked = spec.sweep.stop_worse and len(run.attempts()) == 1
        self._found: list[tuple[str, RunDir]] | None = None

    def clearly_worse(self) -> str:
        """A sentence where this run is clearly worse than a sibling; empty where it is not, or nobody may say."""
        if not self._asked:
            return ""
        if self._found is None:
            self._found = list(self._listed())
        ours = _losses(read_history(self._run))
        return worse(ours, self._others())

    def _listed(self) -> Iterable[tuple[str, RunDir]]:
        for run in rundir.listed(self._run.path.parent):
            try:
                spec = summary.load_spec(run)
            except MoltingError:
                continue
            if run.id != self._run.id and spec.sweep.id == self._spec.sweep.id:
                yield spec.name or run.id, run

    def _others(self) -> Iterable[Other]:
        """Those that go the same way: at the same step a longer run has not cooled down as far as a shorter one."""
        for name, run in self._found or ():
            try:
                history = read_history(run)
            except MoltingError:
                continue
            if history.planned == self._spec.training.max_steps:
                yield Other(name, _losses(history))


def _losses(history: History) -> dict[int, float]:
    return {event.step: event.loss for event in history.evals if event.loss is not None}


def worse(ours: Mapping[int, float], others: Iterable[Other]) -> str:
    """A sentence if, at the last `IN_A_ROW` evaluations, one and the same sibling was better by more than WORSE_BY.

    Pure. `ours` and theirs are held-out losses by step; steps that a sibling has not evaluated say nothing.
    """
    steps = sorted(ours)[-IN_A_ROW:]
    if len(steps) < IN_A_ROW:
        return ""
    better = [
        other
        for other in others
        if all(step in other.losses and ours[step] > other.losses[step] * (1 + WORSE_BY) for step in steps)
    ]
    if not better:
        return ""
    last = steps[-1]
    least = min(better, key=lambda other: other.losses[last])
    return (
        f"Clearly worse than {least.name}: held-out loss {ours[last]:.3g} against {least.losses[last]:.3g} at step "
        f"{last}, more than {WORSE_BY:.0%} above it at {IN_A_ROW} evaluations in a row."
    )
