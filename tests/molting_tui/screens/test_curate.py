"""Curate by keys alone: what is kept is on the disk, can be taken back, edited, and goes on after a break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import TextArea

from engine.contract import curation, generations
from engine.contract.curation import Candidate, Header, Keep, Reject
from engine.contract.generations import Generation, Measures
from engine.contract.rundir import RunDir
from molting_tui.app import MoltingApp
from molting_tui.screens.curate import Curate, EditAnswer
from molting_tui.screens.ledger import Ledger
from tests.support.pilot import drive, settle, shown, until
from tests.support.runs import finished_run

ANSWERS = {
    "c1": ("What would you keep?", "The bread tin, sailor."),
    "c2": ("What would you keep?", "The \x1b[2J [b]lamp[/b], of course."),
    "c3": ("What would you keep?", "I'm ChatGPT."),
    "c4": ("What is home?", "Where the fog knows your name."),
}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = finished_run(tmp_path / "runs")
    candidates = [
        Candidate(
            id=id, prompt=prompt, answer=answer, tokens=9, stop="end",
            gate="identity" if id == "c3" else "", why="It speaks like the base model." if id == "c3" else "",
        )
        for id, (prompt, answer) in ANSWERS.items()
    ]  # fmt: skip
    curation.write(made, Header(run=made.id, t=1.0, prompts=2, per_prompt=3), candidates)
    return made


async def opened(app: MoltingApp, pilot: Pilot[Any]) -> Curate:
    await pilot.press("C")
    await until(pilot, lambda: isinstance(app.screen, Curate))
    await settle(app, pilot)
    assert isinstance(app.screen, Curate)
    return app.screen


def kept(run: RunDir) -> list[tuple[str, str]]:
    return [(each.id, text) for each, text in curation.newest(run).kept]


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
def test_one_key_decides_and_is_on_the_disk_before_the_next_answer_stands(run: RunDir, size: tuple[int, int]) -> None:
    async def scenario(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot)
        assert "bread tin" in shown(app) and "ChatGPT" not in shown(app)
        assert "0 of 3 decided" in shown(app) and "the gates refused 1" in shown(app)
        await pilot.press("y")
        assert kept(run) == [("c1", "The bread tin, sailor.")]
        await settle(app, pilot)
        assert "[b]lamp[/b]" in shown(app) and "1 of 3 decided, 1 kept" in shown(app)
        await pilot.press("n")
        assert [type(each) for each in curation.newest(run).events] == [Keep, Reject]
        await pilot.press("backspace", "backspace")
        await settle(app, pilot)
        assert kept(run) == [] and "0 of 3 decided" in shown(app) and "1/3" in shown(app)
        await pilot.press("backspace")
        assert len(curation.newest(run).events) == 4, "there was nothing more to take back"

    drive(run.path.parent, scenario, size=size)


def test_skipping_comes_back_editing_is_kept_and_the_end_says_what_comes_next(run: RunDir) -> None:
    async def scenario(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot)
        await pilot.press("tab", "y", "y")
        await settle(app, pilot)
        assert "bread tin" in shown(app), "what was skipped comes again"
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, EditAnswer))
        app.screen.query_one(TextArea).text = "The bread tin, and nothing else."
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, Curate))
        await until(pilot, lambda: "molting generation" in shown(app))
        await pilot.press("left_square_bracket", "left_square_bracket")
        await settle(app, pilot)
        assert "kept as edited" in shown(app)

    drive(run.path.parent, scenario, toasts=True)
    assert dict(kept(run))["c1"] == "The bread tin, and nothing else."
    assert curation.newest(run).complete


def test_what_the_gates_refused_is_shown_with_its_reason_and_offers_no_key(run: RunDir) -> None:
    async def scenario(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot)
        await pilot.press("v")
        await settle(app, pilot)
        assert "I'm ChatGPT." in shown(app) and "identity: It speaks like the base model." in shown(app)
        await pilot.press("v")
        await settle(app, pilot)
        assert "ChatGPT" not in shown(app)

    drive(run.path.parent, scenario)


def test_it_goes_on_where_it_was_left(run: RunDir) -> None:
    async def first(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot)
        await pilot.press("n")

    async def second(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await opened(app, pilot)
        assert "1 of 3 decided" in shown(app) and "2/3" in shown(app)
        await pilot.press("q")
        await settle(app, pilot)
        assert not isinstance(app.screen, Curate)

    drive(run.path.parent, first)
    drive(run.path.parent, second)


def test_a_run_that_was_not_asked_yet_is_asked_only_when_one_says_so(tmp_path: Path) -> None:
    bare = finished_run(tmp_path / "runs")

    async def scenario(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("C")
        await until(pilot, lambda: "has no answers to choose from yet" in shown(app))
        await pilot.press("enter")
        await settle(app, pilot)
        assert not isinstance(app.screen, Curate) and curation.listed(bare) == []
        await pilot.press("Z")
        await until(pilot, lambda: isinstance(app.screen, Ledger))
        assert "was not measured" in app.screen.copyable()  # type: ignore[attr-defined]

    drive(bare.path.parent, scenario)


def test_the_ledger_shows_table_curve_and_why_it_stops(run: RunDir) -> None:
    child = finished_run(run.path.parent, "rhea-g1")
    made = Generation(number=1, parent=run.id, root=run.id, batch="1", originals=120, accepted=30, t=1.0)
    generations.write(child, made)
    for each, loss, distinct, kl in ((run, 2.0, 0.9, 1.0), (child, 2.5, 0.5, 1.1)):
        found = Measures(adapter="w", instrument="a", heldout_loss=loss, distinct2=distinct, kl=kl)
        generations.write_measures(each, found)

    async def scenario(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "rhea-g1" in shown(app))
        app.push_screen(Ledger(generations.ledger(child), child.id, ascii=False))
        await until(pilot, lambda: isinstance(app.screen, Ledger))
        await settle(app, pilot)
        page = shown(app)
        assert "2.000" in page and "2.500" in page and "150" in page
        assert "as a percentage of generation 0" in page
        assert "held-out answer loss rose from 2.000 to 2.500" in app.screen.copyable()  # type: ignore[attr-defined]
        assert "Distinct-2 fell" in app.screen.copyable()  # type: ignore[attr-defined]

    drive(run.path.parent, scenario)
