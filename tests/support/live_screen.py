"""The Live screen on a recorded run, driven by keys."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from engine.contract import events
from molting_tui.app import MoltingApp
from molting_tui.screens.live import Live
from tests.support.pilot import Scenario, drive, settle, shown, until
from tests.support.runs import Recorded, make_run


def training(folder: Path, name: str = "rhea", steps: int = 30) -> Recorded:
    """A run at step `steps` of 100, begun just now."""
    recorded = Recorded(make_run(folder, name), time.time() - 2 * steps - 10)
    recorded.state("queued", "starting").start().state("training").say(events.Phase(name="training", total=100))
    return recorded.steps(range(1, steps + 1))


def opened(folder: Path, play: Scenario, **how: Any) -> MoltingApp:
    """Open the first run of the table, wait for its history, and play."""

    async def scenario(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Live) and app.screen._reading is None)
        await settle(app, pilot)
        await play(app, pilot)

    return drive(folder, scenario, **how)


async def now_says(app: MoltingApp, pilot: Pilot[Any], text: str) -> None:
    await until(pilot, lambda: text in shown(app))


def recorded_step(step: int) -> events.Metric:
    """One step like any other."""
    return events.Metric(
        step=step,
        loss=1.5,
        grad_norm=1.0,
        lr=1e-3,
        tokens=100 * step,
        learned=40,
        rows=4,
        seconds=2.0,
        epoch=step / 16,
        t=1_760_000_000.0 + step,
    )


def screen_of(app: MoltingApp, pane: str) -> str:
    """What stands in one pane."""
    box = app.screen.query_one(f"#{pane}").region
    return "\n".join(line[box.x : box.right] for line in shown(app).splitlines()[box.y : box.bottom])
