from __future__ import annotations

import pytest

from engine.contract.settings import Ui
from molting_tui.look import decide


def test_over_ssh_it_is_quieter() -> None:
    here, there = decide(Ui(), {}, True), decide(Ui(), {"SSH_CONNECTION": "1 2 3 4"}, True)
    assert (here.rate, here.animate) == (4.0, True)
    assert (there.rate, there.animate) == (2.0, False)


def test_what_the_user_set_wins() -> None:
    look = decide(
        Ui(theme="light", mouse=False, ascii=True, refresh=1.0, animation=True), {"SSH_TTY": "/dev/pts/1"}, True
    )
    assert (look.theme, look.mouse, look.ascii, look.rate, look.animate) == ("light", False, True, 1.0, True)


@pytest.mark.parametrize(
    ("env", "theme"),
    [
        ({"COLORFGBG": "0;15"}, "light"),
        ({"COLORFGBG": "15;default;0"}, "dark"),
        ({"TERM": "linux"}, "terminal"),
        ({"TERM": "xterm-256color"}, "dark"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "dark"),
    ],
)
def test_the_theme_follows_the_terminal(env: dict[str, str], theme: str) -> None:
    assert decide(Ui(), env, True).theme == theme


def test_no_unicode_means_ascii() -> None:
    assert decide(Ui(), {}, False).ascii
