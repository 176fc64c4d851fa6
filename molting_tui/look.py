"""How the app shows itself on this terminal: theme, ASCII, repaints a second, animation, mouse."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from engine.contract.settings import Ui

from . import terminal

RATE = 4.0  # repaints a second
RATE_SSH = 2.0


@dataclass(frozen=True)
class Look:
    """What was decided; `theme` names one of `themes.THEMES`."""

    theme: str = "dark"
    ascii: bool = False
    rate: float = RATE
    animate: bool = False
    mouse: bool = True


def over_ssh(env: Mapping[str, str]) -> bool:
    return bool(env.get("SSH_CONNECTION") or env.get("SSH_TTY") or env.get("SSH_CLIENT"))


def decide(ui: Ui, env: Mapping[str, str] = os.environ, unicode: bool | None = None) -> Look:
    """What the settings ask for, and where they say auto, what suits this terminal."""
    remote = over_ssh(env)
    speaks = terminal.of(sys.stdout, env).unicode if unicode is None else unicode
    return Look(
        theme=theme_for(env) if ui.theme == "auto" else ui.theme,
        ascii=not speaks if ui.ascii == "auto" else ui.ascii,
        rate=(RATE_SSH if remote else RATE) if ui.refresh == "auto" else ui.refresh,
        animate=not remote if ui.animation == "auto" else ui.animation,
        mouse=ui.mouse,
    )


def theme_for(env: Mapping[str, str]) -> str:
    """Light where the terminal says so; its own 16 colours where it has no more."""
    if env.get("TERM", "") in {"linux", "vt100", "vt220", "ansi", "xterm", "screen"} and not env.get("COLORTERM"):
        return "terminal"
    background = env.get("COLORFGBG", "").rpartition(";")[2]
    return "light" if background in {"7", "15"} else "dark"
