"""Draws the engine's progress on stderr: one rewritten line on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.contract import calls

from . import terminal, text

_EVERY_PLAIN = 5.0  # seconds between plain lines of one phase
_EVERY_DRAWN = 0.1


class ProgressLine:
    """Hears Progress and Note. Without a terminal it prints a line per phase and one at most every 5 s."""

    def __init__(
        self, shown: terminal.Terminal, *, quiet: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._terminal = shown
        self._quiet = quiet and not shown.tty
        self._now = now
        self._phase: calls.Progress | None = None
        self._started = 0.0
        self._first = 0.0  # `done` when the phase began
        self._drawn = 0.0
        self._open = False  # a rewritten line stands on the terminal

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, heard: calls.Progress | calls.Note | calls.Found) -> None:
        if self._quiet or isinstance(heard, calls.Found):
            return
        if isinstance(heard, calls.Note):
            self.clear()
            self._terminal.line(terminal.one_line(heard.text))
            return
        now = self._now()
        new = self._phase is None or self._phase.phase != heard.phase
        if new:
            self.close()
            self._started, self._first = now, heard.done
        self._phase = heard
        if new or now - self._drawn >= (_EVERY_DRAWN if self._terminal.tty else _EVERY_PLAIN):
            self._drawn = now
            self._draw(heard, now)

    def close(self) -> None:
        """End the phase: on a terminal its last state stays as a line."""
        if self._open and self._phase:
            self._draw(self._phase, self._now())
            print(file=self._terminal.stream, flush=True)
        self._open = False
        self._phase = None

    def clear(self) -> None:
        """Take the rewritten line away, so that something can be printed in its place."""
        if self._open:
            print("\r\x1b[K", end="", file=self._terminal.stream, flush=True)
        self._open = False

    def status(self, line: str) -> None:
        """Rewrite the line with `line`; nothing without a terminal."""
        if self._terminal.tty:
            shown = text.fit(self._terminal.signs(line), max(1, self._terminal.width - 1)).rstrip()
            print(f"\r\x1b[K{shown}", end="", file=self._terminal.stream, flush=True)
            self._open = True

    def _draw(self, heard: calls.Progress, now: float) -> None:
        left = eta(heard.done - self._first, heard.total - heard.done, now - self._started)
        if self._terminal.tty:
            self.status(describe(heard, left, bars=True))
        else:
            self._terminal.line(describe(heard, left, bars=False))


def eta(done: float, left: float, seconds: float) -> float | None:
    """Seconds left at the rate so far; None before there is a rate."""
    return left * seconds / done if done > 0 and seconds > 0 and left > 0 else None


def describe(heard: calls.Progress, left: float | None, *, bars: bool) -> str:
    """One line for a phase: its name, a bar, how much is done, the time left."""
    parts = [terminal.one_line(heard.phase)]
    if heard.total > 0:
        share = min(1.0, heard.done / heard.total)
        parts += [text.bar(share, 20, "█", "░")] if bars else []
        parts += [text.percent(share), amount(heard)]
    elif heard.done:
        parts.append(amount(heard))
    if left is not None:
        parts.append(f"{text.clock(left)} left")
    return "  ".join(part for part in parts if part)


def amount(heard: calls.Progress) -> str:
    """`12 of 64 rows`, or bytes in their own units."""
    if heard.unit in {"bytes", "B"}:
        return text.size(heard.done) + (f" of {text.size(heard.total)}" if heard.total else "")
    if not heard.unit:
        return ""
    of_total = f" of {heard.total:,.0f}" if heard.total else ""
    return f"{heard.done:,.0f}{of_total} {terminal.one_line(heard.unit)}"
