"""The last gates before the terminal: no text brings a control character along; ASCII where nothing else shows."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

# C0 and C1 controls, and what turns the reading direction round or hides. Widths do not change: all are 0 wide.
_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


class Harmless(LineFilter):
    """Deletes control and bidirectional characters from every segment that is painted.

    `safe()` at the boundary makes them visible; this is for what was forgotten there.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """`segments` themselves where, as nearly always, there is nothing to delete."""
        if all(_fine(segment.text) for segment in segments):
            return segments
        return [
            segment if segment.control or _fine(segment.text) else Segment(_OBEYED.sub("", segment.text), segment.style)
            for segment in segments
        ]


def _fine(text: str) -> bool:
    return (text.isascii() and text.isprintable()) or _OBEYED.search(text) is None


class Ascii(LineFilter):
    """Spells every character in ASCII, cell for cell, so that no screen needs to know about it."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isascii() for segment in segments):
            return segments
        return [
            segment if segment.control or segment.text.isascii() else Segment(_spelled(segment.text), segment.style)
            for segment in segments
        ]


# Pairs: a sign of ours, and what stands for it.
_SIGNS = str.maketrans(
    dict(
        pair.split("\t")
        for pair in [
            "●\t*",
            "◌\to",
            "◐\t+",
            "✓\tv",
            "■\t#",
            "✗\tx",
            "▸\t>",
            "▴\t^",
            "▾\tv",
            "▲\t^",
            "▼\tv",
            "◆\t*",
            "·\t.",
            "–\t-",
            "—\t-",
            "…\t.",
            "×\tx",
            "≤\t<",
            "≥\t>",
            "−\t-",
            '“\t"',
            '”\t"',
            "‘\t'",
            "’\t'",
            "→\t>",
            "←\t<",
            "↑\t^",
            "↓\tv",
            "√\tv",
            "◇\to",
            "○\to",
            "│\t|",
            "┃\t|",
            "║\t|",
            "╎\t:",
            "┊\t:",
            "╏\t:",
            "─\t-",
            "━\t-",
            "═\t=",
            "╌\t-",
            "┄\t-",
            "╱\t/",
            "╲\t\\",
            "┌\t+",
            "┐\t+",
            "└\t+",
            "┘\t+",
            "├\t+",
            "┤\t+",
            "┬\t+",
            "┴\t+",
            "┼\t+",
            "╭\t+",
            "╮\t+",
            "╰\t+",
            "╯\t+",
            "╸\t-",
            "╺\t-",
            "╴\t-",
            "╶\t-",
            "█\t#",
            "▓\t#",
            "▒\t=",
            "░\t.",
            "▀\t#",
            "▄\t#",
            "▌\t|",
            "▐\t|",
            "▎\t|",
            "▏\t|",
            "▕\t|",
            "▊\t#",
            "▋\t#",
            "▉\t#",
            "▍\t|",
            "▔\t-",
            "▁\t_",
            "▂\t.",
            "▃\t-",
            "▅\t=",
            "▆\t+",
            "▇\t*",
        ]
    )
)


@lru_cache(maxsize=4096)
def _spelled(text: str) -> str:
    return "".join(_letter(character) for character in text.translate(_SIGNS))


def _letter(character: str) -> str:
    if character.isascii():
        return character
    width = cell_len(character)
    base = unicodedata.normalize("NFKD", character)[0]
    return base if base.isascii() and base.isprintable() and width == 1 else "?" * width
