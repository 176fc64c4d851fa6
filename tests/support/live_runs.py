"""Live runs made of events, and what two of them must have in common to be the same."""

from __future__ import annotations

import math
from typing import Any

from engine.contract import events
from molting_tui.state.live import LiveRun
from molting_tui.state.series import Table

T0 = 1_760_000_000.0


def start(step: int = 0, steps: int = 100, t: float = T0, tokens: int = 0) -> events.Start:
    return events.Start(
        step=step,
        steps=steps,
        device="cpu",
        precision="fp32",
        path="padded",
        trainable=1_000,
        parameters=10_000,
        tokens=tokens,
        t=t,
    )


def metric(step: int, loss: float | None = 1.0, *, norm: float | None = 1.0, seconds: float = 2.0) -> events.Metric:
    """A step of 100 tokens; steps are two seconds apart."""
    return events.Metric(
        step=step,
        loss=loss,
        grad_norm=norm,
        lr=1e-3,
        tokens=100 * step,
        learned=40,
        rows=4,
        seconds=seconds,
        epoch=step / 16,
        t=T0 + 2.0 * step,
    )


def falling(step: int) -> float:
    return 0.3 + 4 * math.exp(-step / 20)


def trained(steps: int = 60, of: int = 100) -> LiveRun:
    """A run in training with evaluations, checkpoints and a warning."""
    run = LiveRun()
    run.apply(1, start(steps=of))
    for step in range(1, steps + 1):
        run.apply(1, metric(step, falling(step)))
        if step % 20 == 0:
            t = T0 + 2.0 * step
            run.apply(1, events.Eval(step=step, loss=falling(step) + 0.2, rows=6, seconds=1.0, t=t))
            run.apply(1, events.Checkpoint(step=step, path=f"checkpoints/{step}", size=7, seconds=0.1, t=t))
    return run


def facts(run: LiveRun) -> dict[str, Any]:
    """Everything that is shown, in a form in which equal runs are equal."""
    found = {name: repr(value) for name, value in vars(run).items() if not isinstance(value, Table)}
    found["rewound"] = [(past.attempt, rows(past.steps), rows(past.evals)) for past in run.rewound]
    tables = {"steps": run.steps, "evals": run.evals, "memory": run.memory}
    return found | {name: rows(table) for name, table in tables.items()}


def rows(table: Table | None) -> list[str]:
    """As text, so that a gap equals a gap."""
    if table is None:
        return []
    columns = [column.values for column in table.columns.values()]
    return [str(row) for row in zip(*table.axes.values(), *columns, strict=True)]
