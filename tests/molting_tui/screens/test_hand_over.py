"""A run merged and packed from the app, by the palette, with the real engine and a tiny model."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from textual.command import CommandList
from textual.pilot import Pilot

from engine.contract.rundir import RunDir
from molting_tui.app import MoltingApp
from molting_tui.screens.dialog import Ask, Failure
from molting_tui.screens.hand_over import Written
from tests.support.pilot import drive, shown, typed, until
from tests.support.runs import Recorded
from tests.support.tiny import tiny_llama
from tests.support.trained_runs import run_with_adapter

PATIENCE = 90.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    here = tmp_path_factory.mktemp("here")
    base = tiny_llama(here / "models" / "tiny", initializer_range=0.1)
    made = run_with_adapter(here / "runs", base)
    Recorded(made).state("queued", "starting").start().state("training", "finished")
    return made


async def chosen(app: MoltingApp, pilot: Pilot[Any], action: str) -> None:
    """What the palette starts."""
    await pilot.press("ctrl+p")
    await typed(pilot, action)
    await until(pilot, lambda: _offered(app).startswith(action))
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, Ask))


def _offered(app: MoltingApp) -> str:
    """What enter would take in the palette."""
    for offers in app.screen.query(CommandList):
        if offers.highlighted is not None:
            return str(offers.get_option_at_index(offers.highlighted).prompt)
    return ""


@pytest.mark.parametrize(
    ("action", "name", "said"),
    [
        ("pack", "{run}.molting.tar", "`molting unpack` opens it elsewhere."),
        ("merge", "{run}-merged", "greedy tokens"),
    ],
)
def test_it_is_written_where_asked_and_never_twice(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    target = tmp_path / name.format(run=run.id)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await chosen(app, pilot, action)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, (Written, Failure)), PATIENCE)
        lines = app.screen.copyable()
        assert said in lines and str(target) in lines
        await pilot.press("escape")
        await chosen(app, pilot, action)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Failure), PATIENCE)
        assert str(target) in " ".join(shown(app).split()) or target.name in shown(app)

    drive(run.path.parent, play)
    if action == "pack":
        with tarfile.open(target) as packed:
            assert packed.getnames()[0] == "MANIFEST.json"
    else:
        assert (target / "model.safetensors").is_file()
