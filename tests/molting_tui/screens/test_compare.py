"""Compare, report and the strip of steps, in the app by keys, with the real engine behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract.errors import MoltingError
from engine.contract.rundir import RunDir
from molting_tui.app import MoltingApp
from molting_tui.screens.compare import Compare
from molting_tui.screens.dialog import Choice, Failure
from molting_tui.screens.grade import Grade
from molting_tui.screens.live import Live
from molting_tui.screens.new_run import NewRun
from molting_tui.screens.report import ReportPage
from molting_tui.widgets.dots import DiffersPane
from tests.support.graded import grade_all, graded_run
from tests.support.pilot import drive, settle, shown, typed, until
from tests.support.runs import Recorded, finished_run, make_run

PATIENCE = 60.0  # seconds for what the engine does


@pytest.fixture
def cycles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunDir, RunDir]:
    """Two graded cycles, the second a child of the first; of it the base was graded too."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before, sheet = graded_run(tmp_path / "runs", "one")
    grade_all(before, sheet, lambda slot, place: 1)
    after, sheet = graded_run(tmp_path / "runs", "two", parent=before.id, rank=16, adapter="b" * 64)
    grade_all(after, sheet, lambda slot, place: 2 if slot.voice == "adapter" else 0, base=True)
    return before, after


async def to(app: MoltingApp, pilot: Pilot[Any], run: RunDir) -> None:
    """Put the cursor of Runs on this run, and let its files be looked at."""
    app.screen.table.move_to(run.id)  # type: ignore[attr-defined]
    await settle(app, pilot)
    await until(pilot, lambda: "next cycle" in shown(app))


def test_two_selected_runs_are_compared_by_one_key(tmp_path: Path, cycles: tuple[RunDir, RunDir]) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("home", "space", "space", "equals_sign")
        await until(pilot, lambda: isinstance(app.screen, Compare), PATIENCE)
        await until(
            pilot, lambda: "Better: +5.00 points of 10 over 8" in shown(app) and "What was changed" in shown(app)
        )
        said = shown(app)
        assert "Compare · one and two" in said  # the parent is the one before
        assert "○ one, adapter: 5.00 of 10 (40/80)" in said and "● two, adapter: 10.00 of 10 (80/80)" in said
        assert "method.rank" in said and "○ 8" in said and "● 16" in said
        assert "smallest that 8 questions can reach is 0.0078" in said
        assert app.screen.query_one(DiffersPane).display
        assert "method.rank" in app.screen.copyable() and "\x1b" not in app.screen.copyable()
        await pilot.press("i")  # the other way round
        await until(pilot, lambda: "Worse: -5.00 points" in shown(app), PATIENCE)
        await until(pilot, lambda: "Compare · two and one" in shown(app))
        await pilot.press("q")
        await until(pilot, lambda: "molting · Runs" in shown(app))

    drive(tmp_path / "runs", play)


def test_base_and_adapter_in_a_small_terminal(tmp_path: Path, cycles: tuple[RunDir, RunDir]) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await to(app, pilot, cycles[1])
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Live))
        await pilot.press("equals_sign")
        await until(pilot, lambda: isinstance(app.screen, Choice))
        assert "one" in shown(app) and "its own base" in shown(app)  # the parent is offered first
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, Compare), PATIENCE)
        await until(pilot, lambda: "Better: +10.00 points" in shown(app))
        assert not app.screen.query_one(DiffersPane).display  # it follows below
        await pilot.press("end")
        await until(pilot, lambda: "The training, and nothing else: both answered the same sheet." in shown(app))
        assert not app.screen.check_action("reverse", ())

    drive(tmp_path / "runs", play, size=(80, 24))


def test_an_ungraded_run_is_told_what_it_lacks(tmp_path: Path, cycles: tuple[RunDir, RunDir]) -> None:
    raw = finished_run(tmp_path / "runs", "raw")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await to(app, pilot, raw)
        await pilot.press("equals_sign")
        await until(pilot, lambda: isinstance(app.screen, Choice))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Failure), PATIENCE)
        await until(pilot, lambda: "has no complete grading" in shown(app))
        assert f"molting grade {raw.id}" in app.screen.copyable()

    drive(tmp_path / "runs", play)


def test_another_rubric_is_refused_and_regrading_is_one_key(
    tmp_path: Path, cycles: tuple[RunDir, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.contract import rubric, sheets
    from tests.support.graded import RHEA, answers

    changed = rubric.load(RHEA)
    changed.dimensions[0].levels[0] += " More strictly."
    monkeypatch.setattr("tests.support.graded.rubric.load", lambda path: changed)
    other = graded_run(tmp_path / "runs", "older", adapter="c" * 64)[0]
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    grade_all(other, sheets.readable(other)[0][0], lambda slot, place: 1)
    assert len(answers(changed)) == 16

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        app.runs.view.choices["grade.rater"] = "Ana"
        await to(app, pilot, cycles[0])
        app.runs.selected |= {cycles[0].id, other.id}
        app.runs.touch()
        await settle(app, pilot)
        await pilot.press("equals_sign")
        await until(pilot, lambda: isinstance(app.screen, Compare), PATIENCE)
        await until(pilot, lambda: "Not comparable: rubric" in shown(app))
        await until(pilot, lambda: "The instrument differs" in shown(app))
        if app.screen.found.b.name == "older":
            await pilot.press("i")  # so that the shipped rubric is the one to grade by
            await until(pilot, lambda: app.screen.found.b.name == "one", PATIENCE)
        assert "molting grade" in shown(app)
        await pilot.press("g")
        await until(pilot, lambda: isinstance(app.screen, Grade), PATIENCE)

    drive(tmp_path / "runs", play)


def test_the_report_is_written_and_read(tmp_path: Path, cycles: tuple[RunDir, RunDir]) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await to(app, pilot, cycles[1])
        await until(pilot, lambda: "J write the report" in shown(app))
        await pilot.press("J")  # its parent is recorded: nothing is asked
        await until(pilot, lambda: isinstance(app.screen, ReportPage), PATIENCE)
        await until(pilot, lambda: "Against one: Better: +5.00 points" in shown(app))
        assert "report.html" in shown(app)
        assert app.screen.copyable().startswith("two: Against one: Better")
        await pilot.press("q")
        await until(pilot, lambda: "J begin the next cycle" in shown(app))  # what comes next has moved on
        await pilot.press("J")
        await until(pilot, lambda: isinstance(app.screen, NewRun))
        assert app.screen._form.value("parent") == cycles[1].id
        assert app.screen._form.value("method.rank") == "16"

    drive(tmp_path / "runs", play)
    assert cycles[1].report.is_file() and cycles[1].report_html.is_file()


def test_a_report_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    from engine.contract.verdict import Reported

    said = Reported(
        run="x",
        markdown=str(tmp_path / "report.md"),
        html="",
        verdict=None,
        sentence="",
        score=None,
        against="",
        short="",
    )
    with pytest.raises(MoltingError, match="cannot be read"):
        ReportPage(said, "x")


def test_the_strip_follows_the_run(tmp_path: Path, cycles: tuple[RunDir, RunDir]) -> None:
    stopped = make_run(tmp_path / "runs", "stopped")
    Recorded(stopped).state("queued", "starting").start().state("training").steps(range(1, 9)).checkpoint(8).state(
        "interrupted"
    )

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await to(app, pilot, stopped)
        await until(pilot, lambda: "▸ train" in shown(app) and "J interrupted: continue it" in shown(app))
        await to(app, pilot, cycles[0])
        await until(pilot, lambda: "it goes on as two" in shown(app))  # a child of it is there
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Live) and "it goes on as two" in shown(app))
        assert not app.screen.check_action("next_step", ())

    drive(tmp_path / "runs", play)


def test_a_persona_begins_in_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "make a persona of your own" in shown(app)
        await pilot.press("I")
        await until(pilot, lambda: "A new persona called" in shown(app))
        await typed(pilot, "ondine")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Choice))
        await pilot.press("down", "enter")  # from Rhea
        await until(pilot, lambda: isinstance(app.screen, NewRun))
        assert app.screen._form.value("name") == "ondine"
        assert len((tmp_path / "ondine" / "rows.jsonl").read_text("utf-8").splitlines()) > 60

    drive(tmp_path / "runs", play)
