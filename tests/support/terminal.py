"""A real terminal for tests: a pty with pyte as its screen, and a program on it."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyte

ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """Runs `argv` on its own pty. `raw` are all bytes that came, `screen` what a person would see."""

    def __init__(
        self, argv: list[str], *, size: tuple[int, int] = (100, 30), controls: bool = True, **env: str
    ) -> None:
        self.screen = pyte.Screen(*size)
        self.raw = bytearray()
        self._stream = pyte.ByteStream(self.screen)
        self._master, self._slave = os.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self._slave)
        base = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        self.process = subprocess.Popen(
            argv,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=ROOT,
            env=base | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLORTERM": "truecolor"} | env,
            start_new_session=True,
            # Its terminal hangs up with us; one that does not control it sends no signal then.
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if controls else None,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for fd in (self._master, self._slave):
            if fd >= 0:
                os.close(fd)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def text(self) -> str:
        self.read(0.0)
        return "\n".join(line.rstrip() for line in self.screen.display)

    def read(self, seconds: float) -> None:
        """Take in what the program writes for this long, or what is there already."""
        until = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self._master], [], [], max(0.0, min(0.05, until - time.monotonic())))
            if ready:
                data = os.read(self._master, 1 << 16)
                self.raw += data
                self._stream.feed(data)
            elif time.monotonic() >= until:
                return

    def wait_for(self, condition: str | Callable[[], bool], seconds: float = 30.0) -> None:
        """Read until a text stands on the screen or a condition holds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.read(0.05)
            if condition() if callable(condition) else condition in self.text():
                return
        raise AssertionError(f"{condition!r} did not come; there stood:\n{self.text()}")

    def end(self, seconds: float = 30.0) -> int:
        """Read until the program has ended; its exit status."""
        self.wait_for(lambda: self.process.poll() is not None, seconds)
        self.read(0.2)
        return self.process.returncode

    def hang_up(self) -> None:
        """What happens when the connection drops: the terminal is gone."""
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    @property
    def restored(self) -> bool:
        """Whether the line settings are those from before, and what the screen was switched to is switched back."""
        pairs = ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h"), (b"\x1b[?1000h", b"\x1b[?1000l"),
                 (b"\x1b[?1003h", b"\x1b[?1003l"), (b"\x1b[?2004h", b"\x1b[?2004l"))  # fmt: skip
        undone = all(self.raw.rfind(off) > self.raw.rfind(on) for on, off in pairs if on in self.raw)
        return undone and _settings(termios.tcgetattr(self._slave)) == _settings(self.before)


def _settings(attributes: list[Any]) -> list[Any]:
    return attributes[:4]


def molting(*args: str, runs: Path, size: tuple[int, int] = (100, 30), controls: bool = True, **env: str) -> Terminal:
    """`molting` on a terminal, its runs in `runs`."""
    (runs.parent / "config.toml").touch()
    places = {
        "MOLTING_RUNS": str(runs),
        "MOLTING_CONFIG": str(runs.parent / "config.toml"),
        "XDG_STATE_HOME": str(runs.parent / "state"),
    }
    return Terminal([sys.executable, "-m", "molting_tui", *args], size=size, controls=controls, **places | env)
