"""The key that finds out why a run changed nothing, on Runs and Live."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from molting_tui.app import MoltingApp
from molting_tui.screens.live import Live
from molting_tui.screens.why import Why
from molting_tui.services import engine
from tests.support import fake_engine
from tests.support.pilot import drive, shown, until
from tests.support.runs import finished_run

FOUND = {
    "cause": "too_weak",
    "sentence": "Applied but too weak: KL 0.01 nats.",
    "remedy": "It made only 50 steps: raise training.epochs.",
    "steps": [{"id": "shift", "question": "Does it change?", "outcome": "failed", "evidence": "[b]KL[/b] \x1b[2J0.01"}],
    "findings": [{"id": "cap-hit", "severity": "warning", "message": "28 of 32 answers were cut."}],
}


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"why": {"lines": [{"k": "result", "value": FOUND}]}}))
    monkeypatch.setattr(engine, "ENGINE", (sys.executable, str(Path(fake_engine.__file__)), str(script)))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    return script


@pytest.mark.parametrize("opened", [False, True])
def test_one_key_runs_it_and_shows_what_was_found(tmp_path: Path, answered: Path, opened: bool) -> None:
    run = finished_run(tmp_path / "runs", "rhea")

    async def ask(app: MoltingApp, pilot: Pilot[Any]) -> None:
        if opened:
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, Live))
        await pilot.press("W")
        await until(pilot, lambda: isinstance(app.screen, Why))
        await until(pilot, lambda: "too weak" in shown(app))
        said = shown(app)
        assert "✗ Applied but too weak: KL 0.01 nats. [too_weak]" in said
        assert "raise training.epochs" in said and "28 of 32 answers were cut" in said
        assert "[b]KL[/b] ␛[2J0.01" in said
        assert "try: It made only 50 steps" in app.screen.copyable()
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Why))

    drive(tmp_path / "runs", ask)
    asked = json.loads(answered.with_suffix(".requests").read_text())
    assert asked["verb"] == "why" and asked["request"]["run"] == str(run.path)
