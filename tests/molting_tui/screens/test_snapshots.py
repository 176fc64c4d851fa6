"""What stands on the screens, character by character, over recorded runs and a clock that stands still.

After a change that is meant: `MOLTING_SNAPSHOTS=write pytest tests/molting_tui/screens/test_snapshots.py`, then look
at the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from molting_tui.app import MoltingApp
from molting_tui.look import Look
from tests.support.pilot import drive, settle, shown, until
from tests.support.scene import opened, standing_still, workshop

STORED = Path(__file__).parent / "snapshots"
SIZES = [(120, 40), (80, 24)]
RUNS = Path("runs")  # relative, so that what is shown names no folder of this machine


@pytest.fixture(autouse=True, scope="module")
def _workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("workshop"))
    try:
        with standing_still(), workshop(RUNS):
            yield
    finally:
        os.chdir(before)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("screen", ["runs", "live"])
def test_a_screen_looks_as_it_did(screen: str, size: tuple[int, int], theme: str) -> None:
    stored = STORED / f"{screen}-{size[0]}x{size[1]}.txt"

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot, screen)
        if os.environ.get("MOLTING_SNAPSHOTS") == "write":
            await settle(app, pilot)
            stored.write_text(shown(app) + "\n", "utf-8")
        wanted = stored.read_text("utf-8")
        with suppress(AssertionError):  # the last repaint may still be on its way
            await until(pilot, lambda: shown(app) + "\n" == wanted, 3.0)
        assert shown(app) + "\n" == wanted

    drive(RUNS, look, size=size, look=Look(rate=20.0, theme=theme))
