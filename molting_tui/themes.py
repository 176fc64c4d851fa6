"""The app's colours. Two voices: base muted, adapter accent. States never by colour alone: a mark stands beside."""

from __future__ import annotations

from typing import TypedDict

from textual.theme import BUILTIN_THEMES, Theme


class _Ground(TypedDict):
    foreground: str
    background: str
    surface: str
    panel: str


_DARK: _Ground = {"foreground": "#d8dee4", "background": "#0f1419", "surface": "#161c23", "panel": "#1f2730"}
_LIGHT: _Ground = {"foreground": "#24292f", "background": "#fbfaf7", "surface": "#f2f0ea", "panel": "#e4e1d8"}


def _variables(muted: str, rule: str, cursor: str, ink: str, **states: str) -> dict[str, str]:
    """`muted` is the base voice and all that steps back; `cursor` the row that keys act on, `ink` text on it."""
    return {
        "muted": muted,
        "rule": rule,
        "cursor": cursor,
        "ink": ink,
        "border": rule,
        "border-blurred": rule,
        "block-cursor-background": cursor,
        "block-cursor-foreground": ink,
        "block-cursor-text-style": "none",
        "block-hover-background": cursor,
        "footer-background": "transparent",
        "scrollbar": rule,
        "scrollbar-background": "transparent",
        "scrollbar-corner-color": "transparent",
        **{f"state-{state}": colour for state, colour in states.items()},
    }


THEMES = (
    Theme(
        name="dark",
        primary="#5fb3d9",
        secondary="#8fa3b5",
        accent="#e0a3ff",
        success="#7fc97f",
        warning="#e6b450",
        error="#f07178",
        **_DARK,
        variables=_variables("#8b98a5", "#33404c", "#24415a", "#ffffff", live="#5fb3d9", good="#7fc97f",
                             waiting="#8b98a5", halted="#e6b450", bad="#f07178"),
    ),
    Theme(
        name="light",
        primary="#0b6a9c",
        secondary="#57606a",
        accent="#8a2fb8",
        success="#1a7f37",
        warning="#9a5b00",
        error="#c1272d",
        dark=False,
        **_LIGHT,
        variables=_variables("#626b75", "#c9c4b8", "#cfe3f1", "#101418", live="#0b6a9c", good="#1a7f37",
                             waiting="#626b75", halted="#9a5b00", bad="#c1272d"),
    ),
    # Okabe and Ito's palette: told apart with any kind of colour vision.
    Theme(
        name="colour-blind",
        primary="#56b4e9",
        secondary="#9aa5b1",
        accent="#e69f00",
        success="#56b4e9",
        warning="#f0e442",
        error="#d55e00",
        **_DARK,
        variables=_variables("#95a1ad", "#33404c", "#1f4057", "#ffffff", live="#56b4e9", good="#00b386",
                             waiting="#95a1ad", halted="#f0e442", bad="#ef7d32"),
    ),
    Theme(
        name="colour-blind-light",
        primary="#0072b2",
        secondary="#57606a",
        accent="#a04a00",
        success="#0072b2",
        warning="#7a6a00",
        error="#b34700",
        dark=False,
        **_LIGHT,
        variables=_variables("#626b75", "#c9c4b8", "#cfe3f1", "#101418", live="#0072b2", good="#00785a",
                             waiting="#626b75", halted="#7a6a00", bad="#b34700"),
    ),
    Theme(
        name="terminal",
        primary="ansi_cyan",
        secondary="ansi_bright_black",
        accent="ansi_magenta",
        success="ansi_green",
        warning="ansi_yellow",
        error="ansi_red",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        ansi=True,
        variables=BUILTIN_THEMES["ansi-dark"].variables
        | _variables("ansi_bright_black", "ansi_bright_black", "ansi_blue", "ansi_bright_white",
                             live="ansi_cyan", good="ansi_green", waiting="ansi_bright_black",
                             halted="ansi_yellow", bad="ansi_red"),
    ),
)  # fmt: skip
NAMES = tuple(theme.name for theme in THEMES)
# What a state looks like: the variable $state-… and the component class.
KIND = {
    "training": "live",
    "starting": "live",
    "stopping": "halted",
    "queued": "waiting",
    "finished": "good",
    "interrupted": "halted",
    "failed": "bad",
    "lost": "bad",
}
