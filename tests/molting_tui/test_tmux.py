"""The app in a real tmux: watched, left and come back to."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import finished_run
from tests.support.terminal import ROOT, Terminal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]
_SESSION = "watch"


class Tmux:
    """A tmux server of our own, one session of 120 x 40 with a plain shell in it."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "tmux"
        self("new-session", "-d", "-s", _SESSION, "-x", "120", "-y", "40", "env PS1='$ ' sh")

    def __call__(self, *argv: str) -> str:
        given = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *argv]
        return subprocess.run(given, capture_output=True, text=True, check=True, timeout=10).stdout

    def attach(self) -> Terminal:
        return Terminal(["tmux", "-S", str(self._socket), "attach", "-t", _SESSION], size=(120, 40))

    def enter(self, line: str) -> None:
        self("send-keys", "-t", _SESSION, line, "Enter")

    def press(self, key: str) -> None:
        self("send-keys", "-t", _SESSION, key)

    def shows(self, text: str, seconds: float = 30.0) -> str:
        """The pane, once `text` stands in it."""
        until = time.monotonic() + seconds
        while text not in (pane := self("capture-pane", "-p", "-t", _SESSION)):
            assert time.monotonic() < until, f"{text!r} did not come; there stood:\n{pane}"
            time.sleep(0.1)
        return pane


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    server = Tmux(tmp_path)
    yield server
    server("kill-server")


def test_detached_and_attached_again_the_app_goes_on_and_leaves_the_shell_as_it_was(tmux: Tmux, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "runs", "rhea")
    (tmp_path / "config.toml").touch()
    places = {"MOLTING_RUNS": tmp_path / "runs", "MOLTING_CONFIG": tmp_path / "config.toml", "HOME": tmp_path}
    given = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in places.items())
    tmux.enter(f"cd {shlex.quote(str(ROOT))}; clear; echo before")
    tmux.shows("before")
    with tmux.attach() as terminal:
        tmux.enter(f"env {given} {shlex.quote(sys.executable)} -m molting_tui; echo ended $?")
        terminal.wait_for("rhea")
        terminal.wait_for("finished")
        tmux.press("Enter")
        terminal.wait_for("loss 0.04")
        tmux("detach-client")
        assert terminal.end() == 0
        assert terminal.restored
    assert "Live · rhea" in tmux.shows("100/100")
    with tmux.attach() as terminal:
        terminal.wait_for("Live · rhea")
        terminal.press("\x11")  # ctrl+q
        terminal.wait_for("ended 0")
        pane = tmux.shows("ended 0")
        assert "before" in pane and "rhea" not in pane.partition("ended 0")[2]
        assert tmux("display", "-p", "-t", _SESSION, "#{alternate_on}#{mouse_any_flag}#{cursor_flag}").strip() == "001"
    assert run.path.is_dir()
