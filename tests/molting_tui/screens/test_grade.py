"""Grading by keys alone: the form and the pairs, from the list of runs to the score and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract import grades, grading, rubric, sheets, summary
from engine.contract.grades import GradeFile
from engine.contract.rundir import RunDir
from engine.contract.settings import Judge, Settings
from molting_tui.app import MoltingApp
from molting_tui.screens.grade import Grade, Pairs
from molting_tui.screens.grade_dialogs import GradeEnd, GradeNote
from molting_tui.screens.runs import Runs
from tests.support.chat_endpoint import Reply, Said, standing
from tests.support.graded import HEADING, RHEA, grade_all, graded_run
from tests.support.pilot import drive, settle, shown, typed, until
from tests.support.runs import finished_run

BY = rubric.load(RHEA)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return graded_run(tmp_path / "runs")[0]


@pytest.fixture(autouse=True)
def _one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers first, every time."""
    monkeypatch.setattr("molting_tui.services.grades.secrets.randbelow", lambda below: 7)


async def open_form(app: MoltingApp, pilot: Pilot[Any], *keys: str) -> Any:
    """g on the run, the rater's name where it is asked for, and what to grade."""
    await pilot.press("g")
    await until(pilot, lambda: "Who grades?" in shown(app) or "Grade what?" in shown(app))
    if "Who grades?" in shown(app):
        await typed(pilot, "Bo")
        await pilot.press("enter")
        await until(pilot, lambda: "Grade what?" in shown(app))
    await pilot.press(*keys, "enter")
    await until(pilot, lambda: isinstance(app.screen, (Grade, Pairs)))
    await settle(app, pilot)
    return app.screen


def file_of(run: RunDir, name: str = "bo-1") -> grades.Recorded:
    return grades.read(run.grades / f"{name}.jsonl")


def said(run: RunDir) -> list[str]:
    return [type(event).__name__ for event in file_of(run).events]


async def to_the_end(app: MoltingApp, pilot: Pilot[Any], page: Grade, decide: str = "y") -> int:
    """Grade all that is left by six keys each; how often the machine disagreed."""
    held = 0
    await until(pilot, lambda: bool(page.sitting.form.hits))
    while not page.sitting.form.finished:
        if page.sitting.form.held:
            held += 1
            await pilot.press(decide)
        else:
            slot = page.sitting.form.slot
            expected = slot.expected.cells if slot and slot.expected else {}
            await pilot.press(*(str(expected.get(each.id, 2)) for each in BY.dimensions), "enter")
    await until(pilot, lambda: isinstance(app.screen, GradeEnd))
    await settle(app, pilot)
    return held


def test_a_sheet_is_graded_by_keys_alone_six_for_each_answer(run: RunDir) -> None:
    grade_all(run, sheets.read(run.sheet("rhea-1")), lambda voice, number: 2)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        page = await open_form(app, pilot)
        secret = shown(app)
        assert "(blind)" in secret and "item 1/12" in secret and "0  Nobody in particular" in secret
        assert not any(word in secret for word in ("rhea-", "adapter", "SmolLM", "loss", "demo"))
        assert await to_the_end(app, pilot, page) >= 1
        text = shown(app)
        assert "score  9.75 of 10 (78/80), excellent: adapter, by Bo" in text
        assert "2 of 2 passed" in text and "10 of 10 repeated cells graded the same" in text
        assert "agreement  Ana and Bo: 100% of 40 cells" in text and "molting report" in text
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Runs))
        await until(pilot, lambda: "9.75" in shown(app))

    drive(run.path.parent, play)
    names = said(run)
    assert (names.count("Cell"), names.count("Commit")) == (60, 12)
    assert sorted(file.name for file in grades.listed(run)) == ["ana-1.jsonl", "bo-1.jsonl"]
    # The accepted level stands beside the rater's own.
    made = grading.open_grading(run.grades / "bo-1.jsonl", sheets.readable(run)[0])
    slot = next(slot for slot in made.slots if slot.answer == HEADING)
    assert (made.grade(slot.id).cells["D4"], made.grade(slot.id).levels["D4"]) == (2, 0)
    assert summary.summarise(run).score == 9.75


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_undo_skip_flag_comment_pause_and_templates(run: RunDir, size: tuple[int, int]) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        page = await open_form(app, pilot)
        form, first = page.sitting.form, page.sitting.form.slot
        await pilot.press("2", "1", "0", "2", "2", "enter")
        assert form.slot != first and form.settled == 1
        await pilot.press(*["backspace"] * 4)  # the commit, and three levels
        assert form.slot == first and form.dimension.id == "D3"
        await pilot.press("m", "down", "down")
        await until(pilot, lambda: isinstance(app.screen, GradeNote))
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is page)
        assert form.commented == BY.dimensions[2].levels[1]
        await pilot.press("f", "p")
        await settle(app, pilot)
        text = shown(app)
        assert "flagged" in text and "paused" in text and "D3: A turn of phrase" in text and "D3 _" in text
        await pilot.press("tab")
        assert form.slot != first and form.grading.grade(first.id).skipped and not form.grading.paused
        await pilot.press("9", "n", "y")  # no level here, nothing to decide
        assert form.grade.cells == {}
        await pilot.press("question_mark")
        await until(pilot, lambda: "Take the last key back" in shown(app))
        await pilot.press("escape", "q")
        await until(pilot, lambda: isinstance(app.screen, Runs))
        again = await open_form_again(app, pilot)
        assert again.sitting.form.grading.place == form.grading.place
        assert again.sitting.form.grading.grades == form.grading.grades

    async def open_form_again(app: MoltingApp, pilot: Pilot[Any]) -> Any:
        await pilot.press("g")  # what is unfinished goes on by itself
        await until(pilot, lambda: isinstance(app.screen, Grade))
        return app.screen

    drive(run.path.parent, play, size=size)


def test_words_of_the_answer_are_quoted_and_others_cannot_be(run: RunDir) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        page = await open_form(app, pilot)
        form = page.sitting.form
        await pilot.press("v", "right", "v", "right", "2", "right", "enter")
        words = form.slot.answer.split()
        [quote] = form.grade.quotes
        assert quote.text == " ".join(words[1:4]) and quote.found and quote.dimension == "D1"
        assert form.slot.answer[quote.start : quote.end] == quote.text and form.grade.cells == {}
        await settle(app, pilot)
        assert f"D1: “{quote.text}”" in shown(app)
        await pilot.press("v", "right", "escape")
        assert len(form.grade.quotes) == 1 and app.screen is page
        # The whole of it, to the last word and no further.
        await pilot.press("v", "v", *["right"] * (len(words) + 3), "enter")
        assert form.grade.quotes[-1].text == form.slot.answer.strip()

    drive(run.path.parent, play)


def test_a_long_and_hostile_answer_scrolls_in_80_by_24(run: RunDir) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        page = await open_form(app, pilot)
        while "Rust" not in page.sitting.form.slot.answer:
            await pilot.press("tab")
        await settle(app, pilot)
        text = shown(app)
        assert "Rust ␛[2J and [b]silence[/b]." in text and "lines more: down, page down" in text
        await pilot.press("end")
        await settle(app, pilot)
        assert "Rust" not in shown(app) and "lines more" not in shown(app)
        await pilot.press("home", "down", "j", "pagedown", "2")
        assert page.sitting.form.dimension.id == "D2"

    drive(run.path.parent, play, size=(80, 24))


def test_who_has_graded_may_look_again_and_let_the_judge_grade_too(run: RunDir) -> None:
    def fair(said: Said) -> Reply:
        known = next((each.cells for each in BY.calibration if each.answer in said["messages"][1]["content"]), None)
        return json.dumps(known or {each.id: 2 for each in BY.dimensions})

    async def choose(app: MoltingApp, pilot: Pilot[Any], *keys: str) -> str:
        await pilot.press("g")
        await until(pilot, lambda: "Grade what?" in shown(app))
        await pilot.press(*keys, "enter")
        await until(pilot, lambda: isinstance(app.screen, GradeEnd), 60.0)
        await settle(app, pilot)
        said = shown(app)
        await pilot.press("escape")
        return said

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        app.runs.view.choices["grade.rater"] = "Ana"
        said = await choose(app, pilot)
        assert "Graded: rhea" in said and "by Ana" in said and "goes back to the form" not in said
        said = await choose(app, pilot, "down")
        assert "Judged by m-1: rhea" in said and "judge m-1 and Ana: 100% of 40 cells" in said
        assert "never part of a score" in said

    grade_all(run, sheets.read(run.sheet("rhea-1")), lambda voice, number: 2)
    with standing(fair) as stand:
        drive(run.path.parent, play, settings=Settings(judge=Judge(base_url=stand.url, model="m-1")))


def test_pairs_are_judged_with_four_keys(run: RunDir) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        page = await open_form(app, pilot, "down", "down")
        form = page.sitting.form
        await settle(app, pilot)
        assert "pair 1/8" in shown(app) and "As an AI language model" in shown(app)
        await pilot.press("a", "backspace", "t", "n")
        for _ in range(6):
            await pilot.press("a" if "Rhea" in form.bout.left or "tin" in form.bout.left or "Rust" in form.bout.left
                              else "b")  # fmt: skip
        await until(pilot, lambda: isinstance(app.screen, GradeEnd))
        await settle(app, pilot)
        assert "pairs by Bo: base 0, adapter 6, tie 1, both bad 1; sign test p 0.031" in shown(app)

    drive(run.path.parent, play)
    recorded = file_of(run)
    assert {event.swapped for event in recorded.events if isinstance(event, grades.Duel)} == {True, False}


def test_a_sheet_that_another_window_grades_is_left_alone(run: RunDir) -> None:
    async def begin(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await open_form(app, pilot)
        await pilot.press("2", "q")

    async def taken(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("g")
        await until(pilot, lambda: "is being graded in another window" in shown(app))

    drive(run.path.parent, begin)
    with GradeFile(run.grades / "bo-1.jsonl"):
        drive(run.path.parent, taken)


def test_a_full_disk_shows_nothing_as_saved(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: GradeFile, event: grades.AnyEvent) -> None:
        raise grades.explain(OSError(28, "No space left on device"), "save the grade")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        page = await open_form(app, pilot)
        monkeypatch.setattr(GradeFile, "say", refuse)
        await pilot.press("2")
        await until(pilot, lambda: "save the grade" in shown(app))
        assert page.sitting.form.grade.cells == {} and page.sitting.saved == 0.0

    drive(run.path.parent, play)


def test_a_run_without_answers_offers_to_let_it_answer(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", "rhea")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        app.runs.view.choices["grade.rater"] = "Ana"
        await pilot.press("g")
        await until(pilot, lambda: "has no answers to grade yet" in shown(app))
        assert "The 8 questions of the rubric “rhea”" in shown(app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, Runs))

    drive(tmp_path / "runs", play)
