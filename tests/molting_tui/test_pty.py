"""The app on a real terminal: what it leaves behind, and what never reaches it."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.spec import Data, Model, Spec, Training
from molting_tui.services.view_state import ViewStore
from tests.support.runs import Recorded, Supervisor, finished_run, make_run
from tests.support.terminal import Terminal, molting


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    finished_run(folder, "rhea")
    return folder


def test_quitting_leaves_the_terminal_as_it_was(runs: Path) -> None:
    with molting(runs=runs) as terminal:
        terminal.wait_for("100/100")
        assert not terminal.restored
        terminal.press("\x11")
        assert terminal.end() == 0
        assert terminal.restored


def test_being_ended_from_outside_leaves_the_terminal_as_it_was_too(runs: Path) -> None:
    with molting(runs=runs) as terminal:
        terminal.wait_for("100/100")
        terminal.process.terminate()
        assert terminal.end() == 0
        assert terminal.restored


CRASH = """
import sys
from molting_tui.screens.runs import Runs
def crash(self): raise RuntimeError("secret hf_abcdefghijklmnop")
Runs.action_pin = crash
sys.argv = ["molting"]
from molting_tui.__main__ import main
main()
"""


def test_a_crash_leaves_the_terminal_as_it_was_and_says_where_the_story_is(runs: Path) -> None:
    env = {"MOLTING_RUNS": str(runs), "XDG_STATE_HOME": str(runs.parent / "state")}
    with Terminal([sys.executable, "-c", CRASH], **env) as terminal:
        terminal.wait_for("100/100")
        terminal.press("p")
        assert terminal.end() == 3
        assert terminal.restored
        assert "did not foresee (RuntimeError)" in terminal.text()
        assert b"Traceback" not in terminal.raw
        [log] = (runs.parent / "state" / "molting").glob("crash-*.log")
        assert "action_pin" not in log.read_text() or "[hidden]" in log.read_text()


def test_nothing_of_a_hostile_run_reaches_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]52;c;ZXZpbA==\x07\x1b[31mred\x1b]0;title\x07\x9b2J\u202eevil [/][@click=app.quit]"
    spec = Spec(name=evil, model=Model(base=evil), data=Data(train="x"), training=Training(max_steps=9), parent=evil)
    run = make_run(tmp_path / "runs", spec=spec)
    recorded = Recorded(run).state("queued", "starting").start().state("training").steps([1, 2])
    recorded.say(events.Sample(step=2, question=evil, answer=evil, tokens=3, stop="end"))
    recorded.state("failed", reason="exception", why=evil)
    with molting(runs=tmp_path / "runs", size=(140, 40)) as terminal:
        terminal.wait_for("failed")
        terminal.press("D")
        terminal.wait_for("Delete")
        terminal.press("\x1b")
        terminal.read(0.5)
        terminal.press("\x11")
        terminal.end()
    assert b"]52;" not in terminal.raw.replace("␛]52;".encode(), b"")
    assert b"\x1b]0;title" not in terminal.raw
    assert b"\x1b[31mred" not in terminal.raw
    assert "\u202e" not in terminal.raw.decode("utf-8", "replace")
    assert b"\xc2\x9b" not in terminal.raw


def test_a_dropped_connection_costs_nothing(runs: Path) -> None:
    run = make_run(runs, "live")
    Recorded(run, time.time()).state("queued", "starting").start().state("training").steps([1])
    with Supervisor(run) as supervisor:
        with molting(runs=runs) as terminal:
            terminal.wait_for("live")
            terminal.press("p")
            terminal.wait_for("▴")
            terminal.hang_up()
            terminal.process.wait(30)
        assert supervisor.process.poll() is None
    assert len(ViewStore(runs).read().pinned) == 1
    with molting(runs=runs) as terminal:
        terminal.wait_for("▴")


def test_a_terminal_that_is_gone_without_a_signal_ends_the_app_too(runs: Path) -> None:
    with molting(runs=runs, controls=False) as terminal:
        terminal.wait_for("100/100")
        terminal.hang_up()
        terminal.process.wait(30)


def test_a_storm_of_resizes_is_survived(runs: Path) -> None:
    with molting(runs=runs) as terminal:
        terminal.wait_for("100/100")
        for n in range(60):
            terminal.resize(*((20, 5), (250, 70), (80, 24), (41, 11))[n % 4])
            terminal.read(0.01)
        terminal.resize(80, 24)
        terminal.wait_for(lambda: "rhea" in terminal.text() and "palette" in terminal.text().splitlines()[-1])
        terminal.press("\x11")
        assert terminal.end() == 0


@pytest.mark.parametrize(
    "env",
    [{"NO_COLOR": "1"}, {"TERM": "xterm", "COLORTERM": ""}, {"LANG": "C", "LC_ALL": "C"}, {"TERM": "screen-256color"}],
    ids=["no-color", "16", "c-locale", "screen"],
)
def test_poor_terminals_show_the_same(runs: Path, env: dict[str, str]) -> None:
    with molting(runs=runs, size=(80, 24), **env) as terminal:
        terminal.wait_for("100/100")
        assert "rhea" in terminal.text() and "finished" in terminal.text()
        if "NO_COLOR" in env:
            assert not re.search(rb"\x1b\[[0-9;]*\b[34]8;2;(\d+);(?!\1;\1)", terminal.raw)  # shades of grey at most
        if env.get("LC_ALL") == "C":
            assert re.sub(rb"\x1b[^a-zA-Z]*[a-zA-Z]", b"", bytes(terminal.raw)).isascii()
        terminal.press("\x11")
        assert terminal.end() == 0


def test_without_mouse_the_terminal_keeps_it(runs: Path) -> None:
    with molting("--no-mouse", runs=runs) as terminal:
        terminal.wait_for("100/100")
        assert b"\x1b[?1000h" not in terminal.raw
        terminal.press("\x11")
        terminal.end()


def test_a_command_that_opens_the_app_heeds_what_stands_before_it(runs: Path) -> None:
    with molting("--no-mouse", "--ascii", "grade", "rhea", runs=runs) as terminal:
        terminal.wait_for("Who grades?")
        assert b"\x1b[?1000h" not in terminal.raw
        assert re.sub(rb"\x1b[^a-zA-Z]*[a-zA-Z]", b"", bytes(terminal.raw)).isascii()
        terminal.press("\x11")
        terminal.end()


def test_a_wrong_keymap_is_said_before_anything_is_painted(runs: Path) -> None:
    (runs.parent / "config.toml").write_text('[keys]\nstopp = "x"\n')
    with molting(runs=runs) as terminal:
        assert terminal.end() == 2
        assert "there is no action 'stopp'. Did you mean stop?" in terminal.text().replace("\n", " ")
        assert b"\x1b[?1049h" not in terminal.raw


def test_ctrl_z_suspends_and_comes_back(runs: Path) -> None:
    # A shell with job control would do the same: it sees the stop and continues the process.
    with molting(runs=runs) as terminal:
        terminal.wait_for("100/100")
        terminal.press("\x1a")
        stopped = lambda: Path(f"/proc/{terminal.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"  # noqa: E731
        terminal.wait_for(stopped)
        assert terminal.restored
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.wait_for(lambda: not terminal.restored)
        terminal.press("\x11")
        assert terminal.end() == 0
