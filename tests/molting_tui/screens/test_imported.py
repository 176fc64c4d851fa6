"""A run whose curves were imported claims nothing that its file did not tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from engine.contract import outputs
from engine.share.history import import_history
from molting_tui.app import MoltingApp
from molting_tui.screens.live import Live
from tests.support.pilot import drive, settle, shown, until


def test_curves_are_shown_and_nothing_is_made_up(tmp_path: Path) -> None:
    log = [
        {"step": step, "loss": 4 / step, "learning_rate": 1e-4, "epoch": step / 10, "num_tokens": 100 * step}
        for step in (10, 20, 30)
    ]
    file = tmp_path / "trainer_state.json"
    file.write_text(json.dumps({"max_steps": 30, "log_history": [*log, {"step": 30, "eval_loss": 1.25}]}))
    request = outputs.TrainerStateRequest(file=str(file), name="old phi", runs=str(tmp_path / "runs"))
    import_history(request, lambda line: None)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "loss, last 3 steps" in shown(app))
        assert "why imported: the history of 30" in shown(app)
        assert "tok/s" not in shown(app)  # between steps 10 and 20 lie steps that the file does not tell of
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Live) and "eval 1.25" in shown(app))
        await settle(app, pilot)
        head = shown(app).splitlines()[2]
        assert "best eval 1.25 at step 30" in head and "not recorded" in head and "imported" in head
        assert "lora" not in head
        await pilot.press("t")
        await until(pilot, lambda: bool(app._notifications))
        assert [each.message for each in app._notifications] == ["old phi was imported: its rows were not recorded."]
        assert isinstance(app.screen, Live)

    drive(tmp_path / "runs", play, size=(140, 40))
