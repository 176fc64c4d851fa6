"""What a stream can show, and how errors and outside text are printed."""

from __future__ import annotations

from typing import Any

import pytest

from molting_tui import terminal
from tests.support.streams import Stream


@pytest.mark.parametrize(
    ("tty", "env", "colour"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {"TERM": "xterm"}, False),
    ],
)
def test_colour(tty: bool, env: dict[str, str], colour: bool) -> None:
    shown = terminal.of(Stream(tty=tty), env)
    assert shown.colour is colour
    assert ("\x1b" in shown.paint("failed", "x")) is colour


@pytest.mark.parametrize(
    ("encoding", "env", "mark"),
    [
        ("utf-8", {"LANG": "en_US.UTF-8"}, "●"),
        ("UTF8", {}, "●"),
        ("utf-8", {"LANG": "C"}, "*"),
        ("utf-8", {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "*"),  # what Python itself sets under LANG=C
        ("utf-8", {"LC_ALL": "POSIX", "LANG": "pt_BR.UTF-8"}, "*"),
        ("iso-8859-1", {"LANG": "en_US"}, "*"),
        ("ascii", {}, "*"),
    ],
)
def test_marks(encoding: str, env: dict[str, str], mark: str) -> None:
    assert terminal.of(Stream(tty=False, encoding=encoding), env).mark("training") == mark


def test_every_state_has_its_own_mark() -> None:
    for column in (0, 1):
        marks = {state: signs[column] for state, signs in terminal.MARKS.items()}
        del marks["stopping"]  # shares that of starting: both pass
        assert len(set(marks.values())) == len(marks)


def test_own_signs_become_ascii() -> None:
    shown = terminal.of(Stream(tty=False, encoding="ascii"), {})
    shown.line("loss – 0.3 │ a → b…")
    assert shown.stream.getvalue() == "loss - 0.3 | a -> b...\n"  # type: ignore[attr-defined]


def test_complaint_is_one_sentence_and_a_remedy(capsys: Any) -> None:
    terminal.complain("It broke \x1b[31m\x07.\nline 3: x", "Mend\x1b]52;c;aa\x07 it.")
    said = capsys.readouterr().err
    assert said == "error: It broke ␛[31m␇.\n  line 3: x\ntry: Mend␛]52;c;aa␇ it.\n"


def test_one_line() -> None:
    assert terminal.one_line("a\n b\r\x1b[2J\tc \u202e") == "a b ␛[2J c \\u202e"
