from __future__ import annotations

import csv
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from engine.contract.rows import DataRequest
from engine.contract.rundir import RunDir
from molting_tui.app import MoltingApp
from molting_tui.screens.data import Data
from molting_tui.screens.data_edit import RowForm
from molting_tui.screens.dialog import Ask, Choice, Confirm
from molting_tui.screens.new_run import NewRun
from tests.support.pilot import drive, settle, shown, typed, until
from tests.support.runs import finished_run

Scenario = Callable[[Data, MoltingApp, "Pilot[Any]"], Awaitable[None]]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def chat(asked: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def persona(home: Path, content: str) -> Path:
    file = home / "rows.jsonl"
    file.write_text(content, "utf-8")
    return file


def opened(file: Path, scenario: Scenario, size: tuple[int, int] = (120, 40)) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        screen = Data(DataRequest(file=str(file), models=str(file.parent)))
        app.push_screen(screen)
        await until(pilot, lambda: "characters" in shown(app) or "error" in shown(app))
        await settle(app, pilot)
        await scenario(screen, app, pilot)

    drive(file.parent / "runs", play, size=size)


async def form(app: MoltingApp, pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: isinstance(app.screen, RowForm) and isinstance(app.focused, TextArea))


def test_rows_are_written_one_after_the_other_and_saved(tmp_path: Path) -> None:
    file = persona(tmp_path, lines(chat("Who?", "Me."), chat("What?", "That.")))
    before = file.read_text()

    async def write(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("n")
        await form(app, pilot)
        await typed(pilot, "Where")
        await pilot.press("tab")
        await typed(pilot, "Here")
        await until(pilot, lambda: "9 characters" in shown(app))
        await pilot.press("f4")
        await until(pilot, lambda: "1 row written" in shown(app))
        await form(app, pilot)
        await typed(pilot, "When")
        await pilot.press("tab")
        await typed(pilot, "Now")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)
        await until(pilot, lambda: "2 rows written" in shown(app) and "not saved" in shown(app))
        assert file.read_text() == before
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "not saved" not in shown(app))

    opened(file, write)
    first, second = before.splitlines()
    assert file.read_text().splitlines() == [
        first,
        json.dumps(chat("Where", "Here")),
        json.dumps(chat("When", "Now")),
        second,
    ]
    assert not list((tmp_path / "state").rglob("unsaved/*"))


def test_delete_move_undo_and_redo(tmp_path: Path) -> None:
    file = persona(tmp_path, lines(*(chat(f"Question {i}", f"Answer {i}") for i in range(4))))

    async def change(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("D")
        await until(pilot, lambda: "Question 0" not in shown(app) and "of 3" in shown(app))
        await pilot.press("shift+down")
        await pilot.press("u", "u")
        await until(pilot, lambda: "Question 0" in shown(app) and "not saved" not in shown(app))
        await pilot.press("U", "U")
        await until(pilot, lambda: "Question 0" not in shown(app))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "not saved" not in shown(app))

    opened(file, change)
    asked = [json.loads(line)["messages"][0]["content"] for line in file.read_text().splitlines()]
    assert asked == ["Question 2", "Question 1", "Question 3"]


def test_unsaved_rows_survive_a_kill_and_are_offered(tmp_path: Path) -> None:
    file = persona(tmp_path, lines(chat("Who?", "Me.")))

    async def killed(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("enter")
        await form(app, pilot)
        app.screen.query(TextArea).last().text = "Somebody else."
        await until(pilot, lambda: bool(list((tmp_path / "state").rglob("unsaved/*"))))

    opened(file, killed)
    kept = next((tmp_path / "state").rglob("unsaved/*"))
    assert kept.stat().st_mode & 0o077 == 0

    async def back(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "Somebody else." in shown(app))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "not saved" not in shown(app))

    async def open_again(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await back(screen, app, pilot)

    opened(file, open_again)
    assert file.read_text() == lines(chat("Who?", "Somebody else."))


def test_a_file_that_changed_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    file = persona(tmp_path, lines(chat("Who?", "Me."), chat("What?", "That.")))

    async def clash(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("D")
        await until(pilot, lambda: "not saved" in shown(app))
        file.write_text(lines(chat("Theirs?", "Yes.")))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, Choice))
        await pilot.press("enter")
        await until(pilot, lambda: (tmp_path / "rows.mine.jsonl").exists())

    opened(file, clash)
    assert file.read_text() == lines(chat("Theirs?", "Yes."))
    assert (tmp_path / "rows.mine.jsonl").read_text() == lines(chat("What?", "That."))


def test_a_row_goes_through_the_editor_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = persona(tmp_path, lines(chat("Who?", "Me.")))
    script = tmp_path / "editor.sh"
    script.write_text('sed -i "s/Me\\./Myself./" "$1"\n')
    monkeypatch.setenv("EDITOR", f"sh {script}")
    monkeypatch.delenv("VISUAL", raising=False)

    async def edit(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        from contextlib import nullcontext

        monkeypatch.setattr(app, "suspend", nullcontext)  # there is no terminal to give away
        await pilot.press("E")
        await until(pilot, lambda: "Myself." in shown(app))
        script.write_text('echo "### nobody" >> "$1"\n')
        await pilot.press("E")
        await until(pilot, lambda: "there is no role 'nobody'" in shown(app))
        assert "Your text is in" in shown(app)

    opened(file, edit)


def test_a_big_file_is_browsed_searched_and_jumped_through(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    count = 200_000
    row = ', "content": "Some words of a story that goes on for a while."}'
    rows = (f'{{"title": "Story {i}"{row}' for i in range(count))
    file.write_text("[" + ",\n".join(rows) + "]")

    async def browse(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "Story 0" in shown(app)
        await until(pilot, lambda: "of 200,000" in shown(app), 60.0)
        await pilot.press("end")
        await until(pilot, lambda: "Story 199999" in shown(app) and "(100 %)" in shown(app), 60.0)
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        app.screen.query_one(Input).value = "123,457"
        await pilot.press("enter")
        await until(pilot, lambda: "row 123,457 of" in shown(app) and "Story 123456" in shown(app), 60.0)
        await pilot.press("slash")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        app.screen.query_one(Input).value = "story 15000"
        await pilot.press("enter")
        await until(pilot, lambda: "row 150,001 of" in shown(app), 60.0)
        await pilot.press("D")
        await settle(app, pilot)
        assert screen.writing is None
        assert "of 200,000" in shown(app)

    opened(file, browse)


HOSTILE = "[@click=app.quit]x[/] [/] \x1b]52;c;aGk=\x07 \u202eabc \x9b31m"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_hostile_rows_do_nothing(tmp_path: Path, size: tuple[int, int]) -> None:
    file = persona(tmp_path, lines(chat(HOSTILE, HOSTILE), chat("next", "row")) + "[" * 20_000 + "\n")

    async def look(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        seen = shown(app)
        assert "[@click=app.quit]x[/]" in seen
        assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(seen)
        assert "cannot be read" in seen
        await pilot.press("enter")
        await form(app, pilot)
        assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(shown(app))

    opened(file, look, size)


def test_what_is_no_file_of_rows_is_said_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "rows.pkl"
    file.write_bytes(b"\x80\x04x")

    async def look(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "can run code" in shown(app)

    opened(file, look)


def test_the_engine_is_started_again_when_it_dies(tmp_path: Path) -> None:
    file = persona(tmp_path, lines(chat("Who?", "Me."), chat("What?", "That.")))

    async def die(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        process = screen._session._process
        assert process is not None
        process.kill()
        process.wait()
        await pilot.press("down")
        await until(pilot, lambda: "row 2  " in shown(app))
        assert screen._session._process is not process

    opened(file, die)


def trained_on(runs: Path, rows: str) -> RunDir:
    run = finished_run(runs, "rhea")
    (run.inputs / "rows.jsonl").write_text(rows, "utf-8")
    return run


def test_rows_are_compared_with_those_of_a_run(tmp_path: Path) -> None:
    old = [chat("Who?", "Me."), chat("What?", "That."), chat("Gone?", "Yes.")]
    trained_on(tmp_path / "runs", lines(*old))
    file = persona(tmp_path, lines(old[0], chat("What?", "This."), chat("When?", "Now."), chat("Where?", "Here.")))

    async def compare(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("equals_sign")
        await until(pilot, lambda: isinstance(app.screen, Choice))
        assert "rhea" in shown(app)
        await pilot.press("enter")
        await until(pilot, lambda: "2 added, 1 changed, 1 removed" in shown(app))
        said = shown(app)
        assert "1 are the same" in said or "1 is the same" in said
        for mark, number, asked in (("+", 3, "When?"), ("+", 4, "Where?"), ("~", 2, "What?"), ("-", 3, "Gone?")):
            assert f"{mark} {number:>5}  {asked}" in said

    opened(file, compare)


def test_the_form_shows_what_the_model_sees_before_anything_is_typed(tmp_path: Path) -> None:
    file = persona(tmp_path, lines(chat("Who?", "Inga Falk.")))

    async def edit(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("enter")
        await form(app, pilot)
        await until(pilot, lambda: "14 characters" in shown(app) and shown(app).count("Inga Falk.") == 2)

    opened(file, edit)


def test_what_arrives_in_one_burst_goes_into_its_own_fields(tmp_path: Path) -> None:
    """As after a pause of the line: the tab must have moved the cursor before the next letter is given out."""
    file = persona(tmp_path, lines(chat("Who?", "Me.")))

    async def write(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("n")
        await form(app, pilot)
        for key in [*"Where", "tab", *"Here"]:
            app.post_message(events.Key(key, key if len(key) == 1 else "\t"))
        await until(pilot, lambda: [area.text for area in app.screen.query(TextArea)] == ["Where", "Here"])

    opened(file, write)


def test_a_deleted_row_says_how_it_comes_back(tmp_path: Path) -> None:
    file = persona(tmp_path, lines(chat("Who?", "Me."), chat("What?", "That.")))

    async def delete(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("down", "D")
        await until(pilot, lambda: "of 1" in shown(app))
        assert [each.message for each in app._notifications] == ["Row 2 deleted; u brings it back."]
        await pilot.press("u")
        await until(pilot, lambda: "of 2" in shown(app))

    opened(file, delete)


@pytest.mark.parametrize("where", ["runs", "live"])
def test_the_rows_of_a_run_are_opened_from_its_screens_and_stay_as_they_were(where: str, tmp_path: Path) -> None:
    run = trained_on(tmp_path / "runs", lines(chat("Who built you?", "Inga Falk.")))
    before = (run.inputs / "rows.jsonl").read_bytes()

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press(*(["enter"] if where == "live" else []), "t")
        await until(pilot, lambda: isinstance(app.screen, Data))
        await until(pilot, lambda: "Inga Falk." in shown(app))
        await pilot.press("D", "escape")
        await until(pilot, lambda: not isinstance(app.screen, Data))

    drive(tmp_path / "runs", look)
    assert (run.inputs / "rows.jsonl").read_bytes() == before


def test_the_form_of_a_new_run_shows_the_rows_it_names(tmp_path: Path) -> None:
    trained_on(tmp_path / "runs", lines(chat("Who built you?", "Inga Falk.")))

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, NewRun))
        await settle(app, pilot)
        await pilot.press("f3")
        await until(pilot, lambda: isinstance(app.screen, Data) and "Inga Falk." in shown(app))

    drive(tmp_path / "runs", look)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_csv_is_written_here_and_parquet_is_only_looked_at(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"rows.{kind}"
    columns = {"title": ["Storm", "Calm"], "content": ["Rain,\nall day.", "Sun."]}
    if kind == "csv":
        with file.open("w", newline="") as out:
            csv.writer(out).writerows([columns, *zip(*columns.values(), strict=True)])
    else:
        parquet.write_table(pyarrow.table(columns), file)
    before = file.read_bytes()

    async def look(screen: Data, app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "Storm" in shown(app) and "title_content" in shown(app) and "of 2" in shown(app)
        await pilot.press("down")
        await until(pilot, lambda: "Sun." in shown(app))
        await pilot.press("D")
        if kind == "csv":
            await until(pilot, lambda: "of 1" in shown(app))
            await pilot.press("ctrl+r")
            await until(pilot, lambda: "not saved" not in shown(app))
        else:
            await settle(app, pilot)
            assert "of 2" in shown(app)

    opened(file, look)
    kept = b'title,content\r\nStorm,"Rain,\nall day."\r\n'
    assert file.read_bytes() == (kept if kind == "csv" else before)
