from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from engine.contract.rundir import RunDir
from engine.contract.settings import Settings
from engine.contract.spec import Data, Model, Spec, Training
from engine.contract.summary import Summary
from molting_tui.actions import ACTIONS
from molting_tui.app import MoltingApp
from molting_tui.look import Look
from molting_tui.screens.dialog import Confirm
from molting_tui.screens.help import Help
from molting_tui.screens.live import Live
from molting_tui.screens.runs import Runs
from molting_tui.services.view_state import ViewStore
from molting_tui.state.run_list import RunList
from molting_tui.widgets.run_table import RunTable
from tests.support.pilot import drive, settle, shown, typed, until
from tests.support.runs import Recorded, Supervisor, finished_run, make_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def training(folder: Path, name: str, steps: int = 30) -> RunDir:
    run = make_run(folder, name)
    recorded = Recorded(run, time.time() - 100).state("queued", "starting").start().state("training")
    recorded.steps(range(1, 21)).checkpoint(20).steps(range(21, steps + 1))
    return run


def cursor(app: MoltingApp) -> str:
    return app.runs.name(app.query_one(RunTable).cursor or "") if app.is_running else ""


def test_a_glance_shows_every_run_with_the_live_one_first(folder: Path) -> None:
    finished_run(folder, "rhea-6")
    with Supervisor(training(folder, "rhea-7")):

        async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
            lines = shown(app).splitlines()
            assert "● rhea-7 30/100" in lines[0]
            assert lines[2].startswith("▸ ● rhea-7") and "30/100" in lines[2] and "0.133" in lines[2]
            assert lines[3].startswith("  ✓ rhea-6") and "100/100" in lines[3]
            await until(pilot, lambda: "saved at 20" in shown(app))  # the pane beside the table

        drive(folder, look, size=(140, 30))


def test_a_live_run_without_its_owner_is_lost_and_can_be_resumed(folder: Path) -> None:
    training(folder, "rhea")

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "? rhea" in shown(app) and "lost" in shown(app)
        assert "r resume" in shown(app)
        assert "S stop" not in shown(app)

    drive(folder, look)


def test_filter_as_you_type_and_escape_clears(folder: Path) -> None:
    for name in ("rhea", "zeca", "claudio"):
        finished_run(folder, name)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("slash")
        await typed(pilot, "zec")
        await settle(app, pilot)
        assert "1 of 3" in shown(app) and "rhea" not in shown(app)
        await pilot.press("enter")
        assert isinstance(app.focused, RunTable)
        await pilot.press("escape")
        await settle(app, pilot)
        assert all(name in shown(app) for name in ("rhea", "zeca", "claudio"))

    drive(folder, play)


def test_the_cursor_and_the_scroll_stay_while_runs_come_and_go(folder: Path) -> None:
    for n in range(40):
        finished_run(folder, f"run-{n:02}", start=1_760_000_000.0 + 1000 * n)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        table = app.screen.query_one(RunTable)
        await pilot.press("end", "up", "up")
        await settle(app, pilot)
        before, scroll = table.cursor, table.scroll_offset.y
        assert cursor_line(app).startswith("▸ ✓ run-02")
        finished_run(folder, "newest", start=1_770_000_000.0)
        await until(pilot, lambda: len(table.rows) == 41)
        await settle(app, pilot)
        assert table.cursor == before
        assert cursor_line(app).startswith("▸ ✓ run-02")
        assert table.scroll_offset.y == scroll

    drive(folder, play, size=(80, 24))


def cursor_line(app: MoltingApp) -> str:
    return next((line for line in shown(app).splitlines() if line.startswith("▸")), "")


def test_select_several_pin_and_archive_are_remembered_on_disk(folder: Path) -> None:
    for n, name in enumerate(("old", "middle", "new")):
        finished_run(folder, name, start=1_760_000_000.0 + 1000 * n)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("down", "space", "space")  # middle and old
        await settle(app, pilot)
        assert shown(app).count("+✓") == 2
        await pilot.press("p")
        await settle(app, pilot)
        assert app.screen.query_one(RunTable).rows[-1].startswith("new")
        await pilot.press("escape", "home", "h")
        await settle(app, pilot)
        assert len(app.screen.query_one(RunTable).rows) == 2

    drive(folder, play)
    view = ViewStore(folder).read()
    assert len(view.pinned) == 2 and len(view.archived) == 1

    async def again(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "1 archived" not in shown(app)
        assert len(app.screen.query_one(RunTable).rows) == 2
        await pilot.press("full_stop")
        await settle(app, pilot)
        assert len(app.screen.query_one(RunTable).rows) == 3

    drive(folder, again)


def test_rename_is_for_the_eye_only(folder: Path) -> None:
    run = finished_run(folder, "rhea")
    spec = run.spec.read_bytes()

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("m")
        await typed(pilot, " two")
        await pilot.press("enter")
        await settle(app, pilot)
        assert "✓ rhea two" in shown(app), shown(app)

    drive(folder, play)
    assert ViewStore(folder).read().names == {run.id: "rhea two"}
    assert run.spec.read_bytes() == spec


def told(app: MoltingApp) -> list[str]:
    return [each.message for each in app._notifications]


def test_delete_asks_and_undo_brings_back(folder: Path) -> None:
    run = finished_run(folder, "rhea")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("enter")  # the first button keeps
        await until(pilot, lambda: isinstance(app.screen, Runs))
        assert run.path.exists()
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: not run.path.exists())
        assert (folder / ".trash" / run.id / "spec.toml").is_file()
        await until(pilot, lambda: isinstance(app.screen, Runs) and "No runs yet" in shown(app))
        await pilot.press("u")
        await until(pilot, lambda: "✓ rhea" in shown(app))
        assert run.path.exists() and told(app) == ["1 run brought back."]

    drive(folder, play)


def test_a_run_that_is_worked_on_is_not_deleted(folder: Path) -> None:
    run = training(folder, "rhea")
    with Supervisor(run):

        async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
            await pilot.press("D")
            await until(pilot, lambda: told(app) == ["rhea is live: stop it first."])
            assert isinstance(app.screen, Runs)  # nothing is asked that would be refused

        drive(folder, play)
    assert run.path.exists()


def test_stop_asks_once_and_drops_a_control_file(folder: Path) -> None:
    run = training(folder, "rhea")
    with Supervisor(run):

        async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
            await pilot.press("w")
            await until(pilot, lambda: (run.control / "save-now").exists())
            await pilot.press("S")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await pilot.press("escape")
            assert not (run.control / "stop").exists()
            await pilot.press("S", "tab", "enter")
            await until(pilot, lambda: (run.control / "stop").exists())
            await pilot.press("S")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await settle(app, pilot)
            assert "asked to stop already" in shown(app) and "End rhea now?" in shown(app)
            await pilot.press("escape", "K")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await settle(app, pilot)
            assert "10 steps since the last" in shown(app)
            await pilot.press("right", "enter")
            await until(pilot, lambda: (run.control / "stop-now").exists())

        drive(folder, play)


def test_a_run_that_ends_elsewhere_is_told_once(folder: Path) -> None:
    run = training(folder, "rhea")
    recorded = Recorded(run)
    recorded.attempt = 1
    with Supervisor(run):

        async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
            recorded.state("failed", reason="oom_host", why="It ran out of memory.")
            await until(pilot, lambda: "✗ rhea" in shown(app))
            await settle(app, pilot)
            assert [each.message for each in app._notifications] == ["rhea failed: It ran out of memory."]

        drive(folder, play)


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
def test_a_toast_is_plain_text_above_the_footer_and_goes_away(size: tuple[int, int], folder: Path) -> None:
    run = training(folder, "rhea")
    recorded = Recorded(run)
    recorded.attempt = 1
    with Supervisor(run):

        async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
            recorded.state("failed", reason="oom_host", why="[@click=app.quit]x[/]\x1b[2J")
            await until(pilot, lambda: "rhea failed: [@click=app.quit]x[/]␛[2J" in shown(app))
            assert "? help" in shown(app).splitlines()[-1]
            app.clear_notifications()
            await until(pilot, lambda: "rhea failed" not in shown(app))

        drive(folder, play, size=size, toasts=True)


def test_enter_opens_and_q_comes_back_to_the_same_place(folder: Path) -> None:
    for n in range(3):
        finished_run(folder, f"run-{n}")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, Live))
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Runs))
        await settle(app, pilot)
        assert shown(app).splitlines()[3].startswith("▸")

    drive(folder, play)


def test_back_on_the_first_screen_leaves_only_when_pressed_twice(folder: Path) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("q")
        assert app.is_running and "Runs go on." in next(iter(app._notifications)).message
        await pilot.press("q")
        await until(pilot, lambda: app._exit)

    drive(folder, play)


def test_without_runs_it_says_what_to_press(folder: Path) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "No runs yet" in shown(app) and "d   see it once" in shown(app)
        assert "d demo" in shown(app).splitlines()[-1]

    drive(folder, play, size=(80, 24))


HOSTILE = "[@click=app.quit]x[/] [/] \x1b]52;c;aGk=\x07 \x1b[2J \u202egnp \x9b31m [bold red]"


def test_hostile_names_and_texts_do_nothing(folder: Path) -> None:
    name = HOSTILE.replace("\x00", "")[:150]
    spec = Spec(
        name=name, model=Model(base="[/]" + name), data=Data(train="x"), training=Training(max_steps=10), parent=name
    )
    run = make_run(folder, spec=spec)
    from engine.contract import events

    recorded = Recorded(run).state("queued", "starting").start().state("training").steps([1, 2])
    recorded.say(events.Sample(step=2, question=name, answer=name * 3, tokens=3, stop="end"))
    recorded.say(events.Warn(id="x", message=name, remedy=name), events.Phase(name=name, total=3, done=1))
    recorded.state("failed", reason="exception", why=name)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "[@click=app.quit]x[/] [/] ␛]52;c;aGk=" in shown(app)
        await pilot.click(RunTable, offset=(8, 1))
        await pilot.press("m")
        await settle(app, pilot)
        await pilot.press("escape", "D")
        await settle(app, pilot)
        await pilot.press("escape", "slash")
        await typed(pilot, "[/]")
        await settle(app, pilot)
        app.tell(name)
        await settle(app, pilot)
        assert app.is_running
        painted = shown(app)
        assert not [
            character
            for character in painted
            if character in "\x1b\x07\x9b\u202e" or (ord(character) < 32 and character != "\n")
        ]

    drive(folder, play, size=(160, 40))


@pytest.mark.parametrize(("size", "line"), [((30, 8), "● training 30/100 loss 0.133"), ((80, 6), "● training 30/100")])
def test_a_terminal_too_small_still_shows_state_and_loss(folder: Path, size: tuple[int, int], line: str) -> None:
    with Supervisor(training(folder, "rhea")):

        async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
            assert line in shown(app)
            assert f"needs 40x10, is {size[0]}x{size[1]}" in shown(app)
            await pilot.resize_terminal(80, 24)
            await settle(app, pilot)
            assert "needs" not in shown(app) and "S stop" in shown(app)

        drive(folder, play, size=size)


def test_ten_thousand_runs_scroll(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painted: set[str] = set()
    sorts: list[int] = []
    paint_row, sort = RunTable._cells, RunList.rows

    def painting(table: RunTable, run_id: str, *rest: Any) -> Any:
        painted.add(run_id)
        return paint_row(table, run_id, *rest)

    def sorting(runs: RunList) -> list[str]:
        sorts.append(1)
        return sort(runs)

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        many = [
            Summary(id=f"r-{n:05}", path="/x", name=f"run {n}", state="finished", started=float(n), trend=[1.0, 0.5])
            for n in range(10_000)
        ]
        app.runs.listed(run.id for run in many)
        app.runs.update(many)
        await until(pilot, lambda: len(app.screen.query_one(RunTable).rows) == 10_000)
        monkeypatch.setattr(RunTable, "_cells", painting)
        monkeypatch.setattr(RunList, "rows", sorting)
        await pilot.press("end")
        await settle(app, pilot)
        assert "run 0 " in cursor_line(app)
        for _ in range(20):
            await pilot.press("pageup")
        await settle(app, pilot)
        assert len(painted) < 21 * app.size.height  # what was in sight, not the ten thousand
        assert len(sorts) <= 2  # sorted when something changed, not for every key and action

    drive(folder, play, look=Look(rate=10.0))


def test_an_own_keymap_is_heard_and_shown(folder: Path) -> None:
    finished_run(folder, "rhea")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert "f8 filter" in shown(app)
        await pilot.press("f8")
        await typed(pilot, "nothing like it")
        await settle(app, pilot)
        assert "0 of 1" in shown(app)

    drive(folder, play, settings=msgspec.convert({"keys": {"filter": "f8", "pin": "slash"}}, Settings))


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (44, 12)])
def test_help_ends_above_the_edge_and_scrolls_to_its_last_key(folder: Path, size: tuple[int, int]) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("question_mark")
        await settle(app, pilot)
        assert "arrows scroll, esc closes" in shown(app)
        await pilot.press("end")
        await settle(app, pilot)
        assert "ctrl+z" in shown(app) and "╰" in shown(app).splitlines()[-1]

    drive(folder, play, size=size)


def test_in_the_help_what_keys_do_stands_in_one_column(folder: Path) -> None:
    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        app.push_screen(Help(("composer",), ACTIONS))
        await settle(app, pilot)
        asks, breaks = (line for line in shown(app).splitlines() if "the question." in line or "a new line." in line)
        assert "ctrl+j, alt+enter" in breaks and asks.index("Ask") == breaks.index("Begin")

    drive(folder, play)


def test_help_and_palette_come_from_the_registry(folder: Path) -> None:
    finished_run(folder, "rhea")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("question_mark")
        await settle(app, pilot)
        assert "Move the run to the trash. Asks first." in shown(app)
        await pilot.press("escape", "ctrl+p")
        await typed(pilot, "rename")
        await pilot.pause(0.5)
        await settle(app, pilot)
        assert "rename  (m, f2)" in shown(app)
        await pilot.press("enter")
        await pilot.pause(0.3)
        await until(pilot, lambda: "Show this run as" in shown(app))

    drive(folder, play)


def test_copy_goes_to_a_file_too(folder: Path) -> None:
    run = finished_run(folder, "rhea")

    async def play(app: MoltingApp, pilot: Pilot[Any]) -> None:
        await pilot.press("ctrl+c")
        await settle(app, pilot)
        assert app.clipboard == str(run.path)
        assert app.is_running

    drive(folder, play)
    assert (folder / ".app" / "copied.txt").read_text() == str(run.path)


def test_the_cursor_starts_on_the_first_row_however_slowly_the_runs_are_read(folder: Path) -> None:
    for n in range(30):
        finished_run(folder, f"a-{n:02}", start=1_760_000_000.0 + n)
    with Supervisor(training(folder, "zeca")):

        async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
            assert cursor_line(app).startswith("▸ ● zeca")

        drive(folder, look)


def test_the_chosen_theme_is_there_again_next_time(folder: Path) -> None:
    finished_run(folder)

    async def choose(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert app.theme == "dark"
        app.action_theme()
        await until(pilot, lambda: "Colours" in shown(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.theme == "light")

    async def look(app: MoltingApp, pilot: Pilot[Any]) -> None:
        assert app.theme == "light"

    drive(folder, choose, look=Look(rate=20.0, theme="dark"))
    assert json.loads((folder / ".app" / "view.json").read_bytes())["choices"] == {"theme": "light"}
    drive(folder, look, look=Look(rate=20.0, theme="dark"))
