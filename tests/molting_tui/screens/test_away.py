from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract import events
from engine.contract.lifecycle import Evidence
from molting_tui.app import MoltingApp
from molting_tui.screens.away import Away
from molting_tui.screens.live import Live
from molting_tui.screens.runs import Runs
from molting_tui.services.view_state import ViewStore
from tests.support.pilot import drive, settle, shown, until
from tests.support.runs import Recorded, finished_run, make_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


async def nothing(app: MoltingApp, pilot: Pilot[Any]) -> None:
    assert isinstance(app.screen, Runs)


async def leave(app: MoltingApp, pilot: Pilot[Any]) -> None:
    await pilot.press("ctrl+q")


def stopped(folder: Path, name: str) -> Recorded:
    recorded = Recorded(make_run(folder, name), time.time() - 500).state("queued", "starting").start()
    return recorded.state("training").steps(range(1, 21)).checkpoint(20).state("interrupted")


def test_what_happened_meanwhile_is_seen_first_and_opens(folder: Path) -> None:
    good, bad = stopped(folder, "rhea"), stopped(folder, "claudio")
    drive(folder, leave)
    good.state("queued", "starting").start(20).state("training").steps(range(21, 101))
    good.say(events.Eval(step=100, loss=0.5, rows=6, seconds=1.0)).state("finished")
    bad.state("queued", "starting").start(20).state("training")
    evidence = Evidence(message="No memory.", remedy="Use a smaller batch.")
    bad.state("failed", reason="oom_cuda", why="CUDA ran out of memory", evidence=evidence)

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: isinstance(app.screen, Away))
        await settle(app, pilot)
        lines = [line for line in shown(app).splitlines() if "error" in line or "note" in line]
        assert "While you were away" in shown(app)
        assert "✗ error" in lines[0] and "claudio failed at step 20/100: CUDA ran out of memory." in lines[0]
        assert "rhea finished (loss 0.04, held-out 0.5)." in lines[1]
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, Live))
        assert app.screen.run.id == good.run.id

    drive(folder, look)


def test_what_was_seen_is_not_told_again(folder: Path) -> None:
    recorded = stopped(folder, "rhea")
    drive(folder, leave)
    recorded.state("queued")

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: isinstance(app.screen, Away))
        await pilot.press("escape")
        await settle(app, pilot)
        assert isinstance(app.screen, Runs)
        await pilot.press("ctrl+q")

    drive(folder, look)
    drive(folder, nothing)


def test_a_dropped_connection_costs_no_news(folder: Path) -> None:
    """The app is killed without a last word: what it had noted before counts."""
    recorded = stopped(folder, "rhea")

    async def drop(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: recorded.run.id in ViewStore(folder).read().standing)

    drive(folder, drop)
    assert ViewStore(folder).read().last_seen > 0


def test_the_first_time_there_is_no_news(folder: Path) -> None:
    finished_run(folder)
    drive(folder, nothing)
