"""Draws docs/img anew: `python docs/pictures.py`. The app itself, over recorded runs and a clock that stands still."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

from textual.pilot import Pilot

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from molting_tui.app import MoltingApp  # noqa: E402
from molting_tui.look import Look  # noqa: E402
from molting_tui.screens.compare import Compare  # noqa: E402
from molting_tui.screens.grade import Grade  # noqa: E402
from molting_tui.screens.report import ReportPage  # noqa: E402
from tests.support.cycles import two_cycles  # noqa: E402
from tests.support.pilot import drive, settle, shown, until  # noqa: E402
from tests.support.scene import NOW, opened, standing_still, workshop  # noqa: E402

IMAGES = ROOT / "docs" / "img"
SIZE = (120, 40)
_PATIENCE = 60.0  # seconds for what the engine does
RUNS = Path("runs")  # relative, so that what is shown names no folder of this machine


def main() -> None:
    """Record the runs in a folder that goes away again, and draw each screen."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with standing_still(), workshop(RUNS):
            for screen in ("runs", "live"):
                _draw(screen, lambda app, pilot, screen=screen: opened(app, pilot, screen))
        RUNS.rename("others")
        with standing_still(), mock.patch("secrets.randbelow", lambda limit: 6):
            two_cycles(RUNS, NOW)
            for screen, reach in {"grade": _grade, "compare": _compare, "report": _report}.items():
                _draw(screen, reach)
        os.chdir(ROOT)


def _draw(screen: str, reach: Callable[[MoltingApp, Pilot[Any]], Awaitable[None]]) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await reach(app, pilot)
        await settle(app, pilot)
        (IMAGES / f"{screen}.svg").write_text(_steady(app.export_screenshot(title="molting"), screen), "utf-8")

    drive(RUNS, play, size=SIZE, look=Look(rate=20.0))


async def _grade(app: MoltingApp, pilot: Pilot[Any]) -> None:
    app.runs.view.choices["grade.rater"] = "Ana"
    await pilot.press("home", "g")
    await until(pilot, lambda: isinstance(app.screen, Grade), _PATIENCE)
    await pilot.press("2", "1", "2", "2", "2", "enter", "2", "2")


async def _compare(app: MoltingApp, pilot: Pilot[Any]) -> None:
    await pilot.press("home", "down", "space", "space", "equals_sign")
    await until(pilot, lambda: isinstance(app.screen, Compare) and "points of 10" in shown(app), _PATIENCE)


async def _report(app: MoltingApp, pilot: Pilot[Any]) -> None:
    await pilot.press("home", "down", "V")
    await until(pilot, lambda: isinstance(app.screen, ReportPage) and "What changed" in shown(app), _PATIENCE)


def _steady(svg: str, name: str) -> str:
    """Without the number that rich makes up anew for each drawing."""
    return re.sub(r"terminal-\d+", f"molting-{name}", svg)


if __name__ == "__main__":
    main()
