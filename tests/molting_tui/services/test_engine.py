"""Calls of the engine: results, failures, deaths, and what becomes of stray output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.contract import calls
from engine.contract.errors import MoltingError
from molting_tui.services import engine
from tests.support import fake_engine

REQUEST = calls.DemoModelRequest(models="/m")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "molting"


def run(tmp_path: Path, part: dict[str, Any], heard: list[Any] | None = None) -> calls.DemoModel:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"demo-model": part}))
    argv = [sys.executable, str(Path(fake_engine.__file__)), str(script)]
    listen = (heard if heard is not None else []).append
    return engine.call("demo-model", REQUEST, calls.DemoModel, listen, argv=argv)


RESULT = {"k": "result", "value": {"path": "/m/demo"}}


def test_result_and_progress_in_order(tmp_path: Path, state: Path) -> None:
    heard: list[Any] = []
    lines = [{"k": "progress", "phase": "fetch", "done": 1, "total": 2}, {"k": "note", "text": "hi"}, RESULT]
    assert run(tmp_path, {"lines": lines}, heard).path == "/m/demo"
    assert heard == [calls.Progress(phase="fetch", done=1, total=2), calls.Note(text="hi")]
    request = json.loads((tmp_path / "script.requests").read_text())
    assert request == {"verb": "demo-model", "request": {"models": "/m"}}
    assert list(state.iterdir()) == []  # nothing was said on stderr, so no log stays


def test_failure_keeps_the_engines_words(tmp_path: Path, state: Path) -> None:
    failure = {"k": "failure", "message": "No such model.", "remedy": "Take another.", "code": 2}
    with pytest.raises(MoltingError) as caught:
        run(tmp_path, {"lines": [failure], "exit": 2})
    assert (caught.value.message, caught.value.remedy, caught.value.code) == ("No such model.", "Take another.", 2)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"exit": 7, "stderr": "boom"}, "ended with status 7"),
        ({"signal": 9, "stderr": "boom"}, "was killed by signal 9"),
    ],
)
def test_death_without_an_answer_names_the_status_and_the_log(
    tmp_path: Path, state: Path, part: dict[str, Any], said: str
) -> None:
    with pytest.raises(MoltingError) as caught:
        run(tmp_path, part)
    (log,) = state.iterdir()
    assert said in caught.value.message and str(log) in caught.value.message and caught.value.code == 3
    assert log.read_text() == "boom"
    assert log.stat().st_mode & 0o777 == 0o600 and state.stat().st_mode & 0o777 == 0o700


def test_stray_prints_go_to_the_log(tmp_path: Path, state: Path) -> None:
    assert run(tmp_path, {"lines": ["Loading weights: 100%", '{"k":"wat"}', RESULT]}).path == "/m/demo"
    (log,) = state.iterdir()
    assert log.read_text() == 'Loading weights: 100%\n{"k":"wat"}\n'


def test_an_answer_of_another_shape_is_a_sentence(tmp_path: Path, state: Path) -> None:
    with pytest.raises(MoltingError, match="something else than expected"):
        run(tmp_path, {"lines": [{"k": "result", "value": {"nope": 1}}]})


def test_old_logs_are_removed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from molting_tui import state_files

    for n in range(70):
        log = state_files.new_log(f"engine-{n}")
    assert log.exists() and len(list(state.iterdir())) <= 51


def test_calls_of_one_moment_have_logs_of_their_own(state: Path) -> None:
    from molting_tui import state_files

    assert len({state_files.new_log("engine-preflight") for _ in range(5)}) == 5


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from molting_tui import state_files

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert state_files.new_log("x").exists()


def test_a_crash_log_holds_the_traceback_without_secrets(state: Path) -> None:
    from molting_tui import state_files

    try:
        raise ValueError("token hf_abcdefghijklmnopqrstuvwx")
    except ValueError as error:
        said = state_files.log_crash(error).read_text()
    assert "Traceback" in said and "ValueError" in said and "hf_abc" not in said
