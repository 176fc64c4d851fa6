"""A program on a real terminal of its own, watched by the clock: what it wrote, and when that arrived."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyte

SIZE = (120, 40)
_ESCAPES = re.compile(rb"\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[\[(][0-?]*[ -/]*[@-~]|\x1b.")
# What terminals of today answer: the background is black, synchronised output is known.
_ANSWERS = {b"\x1b[?2026$p": b"\x1b[?2026;2$y", b"\x1b]11;?": b"\x1b]11;rgb:0000/0000/0000\x1b\\"}


def words(raw: bytes) -> str:
    """What is written without colours and movements."""
    return _ESCAPES.sub(b"", raw).decode(errors="replace")


class OnPty:
    """Runs `argv` on a pty of 120 x 40 from `began` on. `raw` is all that came."""

    def __init__(self, argv: list[str], **env: str) -> None:
        self.raw = bytearray()
        self._unanswered = set(_ANSWERS)
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
        base = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        self.began = time.perf_counter()
        self.process = psutil.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=base | env, start_new_session=True, close_fds=True
        )
        os.close(slave)

    def __enter__(self) -> OnPty:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._tree():
            process.kill()
        self.process.wait()
        os.close(self._master)

    def press(self, key: str) -> float:
        """Send a key; when it was sent."""
        os.write(self._master, key.encode())
        return time.perf_counter()

    def read(self, seconds: float) -> float:
        """Wait at most so long for more, and take in what is there; when it arrived."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        arrived = time.perf_counter()
        if ready:
            self.raw += os.read(self._master, 1 << 16)
            for query in [each for each in self._unanswered if each in self.raw]:
                self._unanswered.remove(query)
                os.write(self._master, _ANSWERS[query])
        return arrived

    def watch(self, seconds: float) -> None:
        """Read for so long."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            self.read(left)

    def until(self, holds: Callable[[bytes], bool], begin: int = 0, seconds: float = 60.0) -> float:
        """When the bytes came that made `holds` true of all since `begin`. RuntimeError with the end of it if never."""
        limit = time.perf_counter() + seconds
        while (arrived := self.read(0.05)) < limit:
            if holds(bytes(self.raw[begin:])):
                return arrived
        raise RuntimeError(f"what was waited for did not come; the end: {words(bytes(self.raw[-2000:]))}")

    def peak_memory(self) -> float:
        """MB: the sum of the highest resident memory that each living process of the tree ever had."""
        return sum(_peak(process.pid) for process in self._tree()) / 1e6

    def _tree(self) -> list[psutil.Process]:
        try:
            return [*self.process.children(recursive=True), psutil.Process(self.process.pid)]
        except psutil.NoSuchProcess:
            return []


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def molting(folder: Path, *argv: str, **env: str) -> OnPty:
    """The app, its runs in `folder`/runs and nothing of the user's own; or another Python with `argv`."""
    (folder / "config.toml").touch()
    places = {"HOME": folder, "MOLTING_RUNS": folder / "runs", "MOLTING_CONFIG": folder / "config.toml"}
    here = {name: str(path) for name, path in places.items()} | {"XDG_STATE_HOME": str(folder / "state")}
    return OnPty(
        [sys.executable, *(argv or ("-m", "molting_tui"))], **here, PYTHONPATH=str(Path(__file__).parents[1]), **env
    )


def screen_lines(screen: pyte.Screen) -> list[str]:
    """What stands on a screen, a string per row."""
    return ["".join(screen.buffer[y][x].data or " " for x in range(screen.columns)) for y in range(screen.lines)]


def machine() -> str:
    """One line on where this was measured."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    gpu = "CPU only" if not Path("/dev/nvidiactl").exists() else "with an NVIDIA GPU"
    return f"{os.cpu_count()} cores ({model[1] if model else 'unknown'}), {gpu}; load {load}"
