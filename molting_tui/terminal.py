"""What the stream written to can show: colours, marks, width. And the words and marks of the visual language."""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from engine.contract.safe import safe

MARKS = {
    "training": ("●", "*"),
    "queued": ("◌", "o"),
    "starting": ("◐", "+"),
    "stopping": ("◐", "+"),
    "finished": ("✓", "v"),
    "interrupted": ("■", "#"),
    "failed": ("✗", "x"),
    "lost": ("?", "?"),
}
_COLOURS = {
    "training": "36",
    "queued": "2",
    "starting": "36",
    "stopping": "33",
    "finished": "32",
    "interrupted": "33",
    "failed": "31",
    "lost": "31",
    "base": "2",
    "adapter": "35",
    "error": "31",
    "warning": "33",
    "note": "2",
    "title": "1",
    "dim": "2",
}
# The few signs of ours outside ASCII, for terminals that cannot show them.
_PLAIN = str.maketrans({"–": "-", "…": "...", "│": "|", "→": "->", "·": "-", "×": "x", "█": "#", "░": ".", "─": "-"})


@dataclass(frozen=True)
class Terminal:
    """One output stream and what it can show."""

    stream: TextIO
    tty: bool
    colour: bool
    unicode: bool
    width: int

    def paint(self, style: str, text: str) -> str:
        """`text` in the colour of a state, a voice or a severity, where colours are shown."""
        return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if self.colour and style in _COLOURS else text

    def mark(self, state: str) -> str:
        """The mark of a state."""
        return MARKS.get(state, MARKS["lost"])[0 if self.unicode else 1]

    def signs(self, text: str) -> str:
        """Our own text with its few special signs spelled in ASCII where need be."""
        return text if self.unicode else text.translate(_PLAIN)

    def line(self, text: str = "") -> None:
        """Print one line and let it be seen at once."""
        print(self.signs(text), file=self.stream, flush=True)


def of(stream: TextIO, env: Mapping[str, str] = os.environ) -> Terminal:
    """What `stream` can show. NO_COLOR, TERM=dumb and a C locale are honoured."""
    tty = stream.isatty()
    return Terminal(
        stream=stream,
        tty=tty and env.get("TERM") != "dumb",
        colour=tty and not env.get("NO_COLOR") and env.get("TERM") != "dumb",
        unicode=_speaks_unicode(stream, env),
        width=shutil.get_terminal_size((100, 24)).columns if tty else 100,
    )


def out() -> Terminal:
    return of(sys.stdout)


def err() -> Terminal:
    return of(sys.stderr)


def pause(seconds: float) -> None:
    """Sleep; BrokenPipeError as soon as whoever reads stdout has gone, as at the other end of a dropped connection."""
    watched = select.poll()
    with suppress(OSError, ValueError):  # a stdout that is no file, as in a test
        watched.register(sys.stdout.fileno(), 0)  # errors and hang-ups are told unasked
    if any(happened & (select.POLLERR | select.POLLHUP) for _, happened in watched.poll(seconds * 1000)):
        raise BrokenPipeError


def _speaks_unicode(stream: TextIO, env: Mapping[str, str]) -> bool:
    if (getattr(stream, "encoding", None) or "").lower().replace("-", "") != "utf8":
        return False
    # Python reads the C locale as UTF-8 and sets LC_CTYPE itself; the terminal need not agree.
    ctype = env.get("LC_CTYPE", "")
    locale = env.get("LC_ALL") or (ctype if ctype != "C.UTF-8" else "") or env.get("LANG", "")
    return locale not in {"C", "POSIX"}


def complain(message: str, remedy: str = "") -> None:
    """An error as people and scripts read it: what happened, and what to try."""
    terminal = err()
    first, *more = message.splitlines() or [""]
    terminal.line(f"{terminal.paint('error', 'error:')} {one_line(first)}")
    for line in more:
        terminal.line(f"  {one_line(line)}")
    if remedy:
        terminal.line(f"try: {one_line(remedy)}")


def warn(text: str) -> None:
    terminal = err()
    terminal.line(f"{terminal.paint('warning', 'warning:')} {one_line(text)}")


def one_line(text: str) -> str:
    """Outside text fit for one line of a terminal: control characters visible, breaks as spaces."""
    return safe(" ".join(text.split()), keep_newlines=False)
