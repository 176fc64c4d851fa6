"""Without colours what is chosen is still seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from textual.pilot import Pilot

from molting_tui.app import MoltingApp
from molting_tui.screens.dialog import Choice, Confirm
from tests.support.pilot import drive, settle


def bright(app: MoltingApp) -> list[str]:
    """What stands dark on bright on a dark screen, line by line."""
    lines = []
    for strip in app.screen._compositor.render_strips():
        said = "".join(segment.text for segment in strip if _light(segment))
        lines += [said.strip()] if said.strip() else []
    return lines


def _light(segment: Segment) -> bool:
    colour = segment.style.bgcolor if segment.style else None
    return bool(colour and colour.triplet and min(colour.triplet) > 150)


def test_the_choice_and_the_button_one_is_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        app.push_screen(Choice("It starts from", {"nothing": "", "rhea": "rhea"}, "nothing"))
        await settle(app, pilot)
        await pilot.press("down")
        await settle(app, pilot)
        assert bright(app) == ["rhea"]
        await pilot.press("escape")
        app.push_screen(Confirm("Stop it?", "What was not saved is lost.", yes="stop"))
        await settle(app, pilot)
        assert bright(app) == ["Keep"]
        await pilot.press("tab")
        await settle(app, pilot)
        assert bright(app) == ["stop"]

    drive(tmp_path / "runs", play)
