"""Models side by side, as it is seen and driven by keys."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from textual.widgets import Input

from engine.contract import bench
from engine.contract.bench import Benched
from molting_tui.screens.bench import Bench, NewBench
from molting_tui.services import engine
from tests.support import fake_engine
from tests.support.benches import FAST, row, said, written
from tests.support.pilot import drive, settle, shown, until


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


async def opened(app, pilot):
    await pilot.press("B")
    await until(pilot, lambda: isinstance(app.screen, Bench) and app.screen.table.found is not None)
    await settle(app, pilot)


@pytest.mark.parametrize("size", [(120, 34), (80, 24)])
def test_figures_above_and_answers_beside_each_other_below(runs, size):
    written(runs)

    async def scenario(app, pilot):
        await opened(app, pilot)
        text = shown(app)
        for words in ("load", "tok/s", "1.5 s", "300 MB", "Who are you?", "I am fast.", "I am slow."):
            assert words in text
        assert next(line for line in text.splitlines() if "I am fast." in line).count("│") >= 1
        await pilot.press("right_square_bracket")
        await settle(app, pilot)
        text = shown(app)
        assert "What is 2 + 2?" in text and "Four, I think." in text and "Answer in digits." in text
        assert "I am fast." not in text
        await pilot.press("end")
        await settle(app, pilot)
        assert "no weight files at all" in shown(app)

    drive(runs, scenario, size=size)


def test_other_benches_are_told_by_what_was_asked_of_whom(runs):
    found = written(runs)
    other = written(runs, Benched(rows=[row(FAST)], said=said(0, "I was first.", "4")))
    (bench.folder(runs) / "0-damaged.jsonl").write_bytes(b"\xff\n")

    async def scenario(app, pilot):
        await opened(app, pilot)
        present = app.screen.table.found.id
        await pilot.press("L")
        await settle(app, pilot)
        assert f"{found.id}  mine  demo, /models/big nf4, org/lo…" in shown(app) and "0-damaged" in shown(app)
        await pilot.press("down" if present == max(found.id, other.id) else "up", "enter")
        await settle(app, pilot)
        assert isinstance(app.screen, Bench) and app.screen.table.found.id == ({found.id, other.id} - {present}).pop()

    drive(runs, scenario)


def test_sorting_turns_the_rows_and_the_cursor_stays_with_its_own(runs):
    written(runs)

    async def scenario(app, pilot):
        await opened(app, pilot)
        table = app.screen.table
        assert (table.order, table.row) == ([0, 1, 2], 0)
        await pilot.press("o", "o", "o", "o")  # model, weights, preset, load
        await pilot.press("i")
        await settle(app, pilot)
        assert (table.order, table.row, table.at) == ([1, 0, 2], 0, 1)
        assert "load▾" in shown(app)

    drive(runs, scenario)


@pytest.mark.parametrize("name", ["out.csv", "out.md"])
def test_ctrl_r_writes_the_file_that_its_name_says(runs, tmp_path, name):
    written(runs)

    async def scenario(app, pilot):
        await opened(app, pilot)
        await pilot.press("ctrl+r")
        await settle(app, pilot)
        app.screen.query_one(Input).value = str(tmp_path / name)
        await pilot.press("enter")
        await until(pilot, lambda: (tmp_path / name).exists())

    drive(runs, scenario)
    text = (tmp_path / name).read_text("utf-8")
    assert "I am slow." in text
    if name.endswith("csv"):
        assert len(list(csv.reader(text.splitlines()))) == 7


def test_hostile_answers_only_look_strange(runs):
    written(runs, bench.Benched(rows=[row(FAST)], said=said(0, "\x1b]0;owned\x07[bold]x[/bold]\u202e", "x" * 90_000)))

    async def scenario(app, pilot):
        await opened(app, pilot)
        text = shown(app)
        assert "[bold]x[/bold]" in text and "\x1b" not in text and "\u202e" not in text
        await pilot.press("right_square_bracket", "tab", "pagedown", "end")
        await settle(app, pilot)
        assert "xxxx" in shown(app)

    drive(runs, scenario)


def test_without_one_n_asks_and_what_cannot_be_asked_is_said(runs):
    async def scenario(app, pilot):
        await pilot.press("B")
        await settle(app, pilot)
        assert "No models were compared yet" in shown(app)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewBench))
        app.screen.query_one("#prompts", Input).value = "poetry"
        await pilot.press("enter")
        await settle(app, pilot)
        assert "There are no prompts 'poetry'." in shown(app)
        await pilot.press("escape")
        await settle(app, pilot)
        assert isinstance(app.screen, Bench)

    drive(runs, scenario)


def test_n_asks_one_model_after_the_other_and_shows_them(runs, tmp_path, monkeypatch):
    """The engine is a script; the rows, the file and the screen are real."""
    script = tmp_path / "script.json"
    benched = bench.Benched(rows=[row(FAST)], said=said(0, "I am played.", "4"))
    lines = [{"k": "result", "value": json.loads(bench.msgspec.json.encode(benched))}]
    script.write_text(json.dumps({"bench": {"lines": lines}}))
    monkeypatch.setattr(engine, "ENGINE", (sys.executable, str(Path(fake_engine.__file__)), str(script)))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "mine.toml").write_text(
        'title = "x"\nlanguage = "en"\n[[prompts]]\nid = "who"\ntext = "Who are you?"\n'
        '[[prompts]]\nid = "sum"\ntext = "2 + 2?"\n'
    )

    async def scenario(app, pilot):
        await pilot.press("B", "n")
        await until(pilot, lambda: isinstance(app.screen, NewBench))
        app.screen.query_one("#models", Input).value = "demo org/other"
        app.screen.query_one("#prompts", Input).value = str(tmp_path / "mine.toml")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Bench) and app.screen.table.found is not None)
        await settle(app, pilot)
        assert "I am played." in shown(app)

    drive(runs, scenario)
    (path,) = bench.listed(runs)
    kept = bench.load(path)
    assert [each.model for each in kept.header.candidates] == ["demo", "org/other"]
    assert len(kept.rows) == 2
