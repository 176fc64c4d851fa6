"""The runs of a sweep as one table: what each has of its own, how it stands, which is best. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from engine.contract import sweeps
from engine.contract.safe import safe
from engine.contract.summary import Summary

from .. import text
from ..terminal import MARKS

RIGHT = frozenset({"step", "left", "loss", "held-out"})
_WHY = 300  # characters


def members(runs: Iterable[Summary | None], sweep: str) -> list[Summary]:
    """The runs of a sweep in the order in which they were queued."""
    found = [run for run in runs if run is not None and sweep and run.sweep == sweep]
    return sorted(found, key=lambda run: (run.started or 0.0, run.id))


def rows(runs: list[Summary], ascii: bool = False) -> list[list[str]]:
    """A line of titles, then one for each run. `RIGHT` names the titles whose cells are numbers."""
    keys, best = sweeps.keys(runs), sweeps.best(runs)
    head = ["", *map(sweeps.short, keys), "state", "step", "left", "loss", "held-out", "", "id"]
    return [head, *(_cells(run, keys, run.id == best, ascii) for run in runs)]


def best_row(runs: list[Summary]) -> int | None:
    """Which of them is the best; None where none can be called that."""
    best = sweeps.best(runs)
    return next((at for at, run in enumerate(runs) if run.id == best), None)


def _cells(run: Summary, keys: list[str], best: bool, ascii: bool) -> list[str]:
    mark = MARKS[run.state][1 if ascii else 0]
    state = f"{run.state} ({run.reason})" if run.reason else run.state
    own = [sweeps.shown(key, run.changes[key]) if key in run.changes else text.DASH for key in keys]
    loss = "nan" if run.loss is None and run.trend else text.number(run.loss)
    return [
        mark,
        *own,
        state,
        f"{run.step}/{run.steps or '?'}",
        text.clock(run.eta),
        loss,
        text.number(run.eval_loss),
        "best" if best else "",
        run.id,
    ]


def notes(runs: list[Summary]) -> list[str]:
    """Sentences under the table: why runs ended early, and what the held-out losses do not tell."""
    said = [
        f"{sweeps.label(run.changes)}: {safe(run.why, keep_newlines=False)[:_WHY]}"
        for run in runs
        if run.why and run.state != "finished"
    ]
    if not all(run.comparable for run in runs):
        said.append("None is called best: the held-out losses of these runs are not of the same rows and tokens.")
    return said


def lines(runs: list[Summary], ascii: bool = False, *, ids: bool = True) -> list[str]:
    """The whole of it as text, the line of titles first."""
    cells = rows(runs, ascii) if ids else [row[:-1] for row in rows(runs, ascii)]
    right = frozenset(at for at, title in enumerate(cells[0]) if title in RIGHT)
    return [*text.table(cells, right), *notes(runs)]
