"""Runs `molting` in tests: as a real process, or in this one with a scripted engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from molting_tui.__main__ import main
from molting_tui.services import engine
from tests.support import fake_engine

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as the one JSON object it must be."""
        return json.loads(self.out)


def environment(home: Path, **more: str) -> dict[str, str]:
    """An environment without a terminal's or a user's habits."""
    base = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "en_US.UTF-8", "PYTHONPATH": str(ROOT)}
    return base | {"PYTHONUTF8": "1"} | more


def run_molting(*args: str, home: Path, cwd: Path | None = None, **env: str) -> Said:
    """`python -m molting_tui ARGS` to its end, without a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "molting_tui", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=cwd or home,
        env=environment(home, **env),
        timeout=120,
    )
    return Said(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


class Scripted:
    """`molting` in this process, its engine played by a script (see tests.support.fake_engine)."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.script = home / "script.json"
        self._parts: dict[str, Any] = {}
        self._patch, self._capture = monkeypatch, capfd
        (home / "config.toml").touch()
        argv = (sys.executable, str(Path(fake_engine.__file__)), str(self.script))
        monkeypatch.setattr(engine, "ENGINE", argv)
        monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
        monkeypatch.setenv("MOLTING_RUNS", str(home / "runs"))
        monkeypatch.setenv("MOLTING_CONFIG", str(home / "config.toml"))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("LANG", "en_US.UTF-8")
        monkeypatch.delenv("LC_ALL", raising=False)

    def answers(self, verb: str, value: Any, *before: Any) -> None:
        """Let the engine answer `verb` with `value`, after the lines `before`."""
        self._part(verb, {"lines": [*before, {"k": "result", "value": value}]})

    def fails(self, verb: str, message: str, *, remedy: str = "", code: int = 3) -> None:
        self._part(verb, {"lines": [{"k": "failure", "message": message, "remedy": remedy, "code": code}]})

    def _part(self, verb: str, part: dict[str, Any]) -> None:
        self._parts[verb] = part
        self.script.write_text(json.dumps(self._parts))

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What the engine was asked so far."""
        path = self.script.with_suffix(".requests")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def __call__(self, *args: str) -> Said:
        self._patch.setattr(sys, "argv", ["molting", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capture.readouterr()
        return Said(int(ended.value.code or 0), out, err)


Molting = Callable[..., Said]
