"""Progress: one rewritten line on a terminal, few plain lines elsewhere."""

from __future__ import annotations

from engine.contract.calls import Note, Progress
from molting_tui import terminal
from molting_tui.progress import ProgressLine, amount, describe
from tests.support.streams import Stream


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(*, tty: bool, quiet: bool = False) -> tuple[Stream, Clock, ProgressLine]:
    stream, clock = Stream(tty=tty), Clock()
    shown = terminal.of(stream, {"TERM": "xterm", "NO_COLOR": "1"})
    return stream, clock, ProgressLine(shown, quiet=quiet, now=clock)


def test_without_a_terminal_a_line_a_phase_and_one_every_five_seconds() -> None:
    stream, clock, line = made(tty=False)
    with line:
        for n in range(101):
            clock.now = n / 10
            line(Progress(phase="fetching", done=n, total=100, unit="rows"))
        line(Progress(phase="converting"))
    assert stream.getvalue().splitlines() == [
        "fetching  0 %  0 of 100 rows",
        "fetching  50 %  50 of 100 rows  0:05 left",
        "fetching  100 %  100 of 100 rows",
        "converting",
    ]


def test_on_a_terminal_one_line_is_rewritten_and_its_end_stays() -> None:
    stream, clock, line = made(tty=True)
    with line:
        for n in (0, 50, 100):
            clock.now = n / 10
            line(Progress(phase="fetching", done=n, total=100, unit="bytes"))
        clock.now += 0.01
        line(Progress(phase="fetching", done=100, total=100, unit="bytes"))
        line(Note(text="kept \x1b[31m"))
    shown = stream.getvalue()
    assert shown.count("\r\x1b[K") == 4 and "50 B of 100 B" in shown
    assert shown.endswith("\r\x1b[Kkept ␛[31m\n")


def test_quiet_says_nothing_where_nobody_watches() -> None:
    for tty in (False, True):
        stream, _, line = made(tty=tty, quiet=True)
        with line:
            line(Progress(phase="fetching", done=1, total=2))
        assert bool(stream.getvalue()) is tty


def test_hostile_names_of_phases() -> None:
    assert describe(Progress(phase="a\x1b]0;x\x07\nb"), None, bars=False) == "a␛]0;x␇ b"


def test_amounts() -> None:
    assert amount(Progress(phase="x", done=5e6, total=2e7, unit="bytes")) == "5 MB of 20 MB"
    assert amount(Progress(phase="x", done=3, unit="rows")) == "3 rows"
