"""How somebody writes JSON: indentation, spaces, escapes; so that a new row looks like its neighbours. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

_LOOKED_AT = 40  # rows
_DEFAULT = (", ", ": ")
_COMPACT = (",", ":")


@dataclass(frozen=True)
class Style:
    """`indent`: one level, None for one line; `base`: what every line but the first begins with."""

    indent: str | None = None
    base: str = ""
    separators: tuple[str, str] = _DEFAULT
    ascii: bool = False

    def write(self, value: Any, *, one_line: bool = False) -> str:
        """`value` in this style."""
        indent = None if one_line else self.indent
        separators = (",", self.separators[1]) if indent is not None else self.separators
        text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=self.ascii)
        # Line breaks inside of strings are escaped, so every one here is the style's own.
        return text.replace("\n", f"\n{self.base}") if self.base else text


def style_of(rows: Iterable[tuple[str, Any]], tail: str = "") -> Style:
    """The style that writes most of these (text, value) again as they are; of what remains open, the usual one."""
    looked_at = [(raw, value) for raw, value in rows if isinstance(value, (dict, list))][:_LOOKED_AT]
    foreign = any(not raw.isascii() for raw, _ in looked_at)
    ascii = not foreign and any("\\u" in raw for raw, _ in looked_at)
    best, most = Style(ascii=ascii), 0
    levels = {(indent, base) for raw, _ in looked_at for indent, base in _levels(raw)}
    for (indent, base), separators in product(sorted(levels, key=str), (_DEFAULT, _COMPACT)):
        style = Style(indent, base, separators, ascii)
        hits = sum(style.write(value) == raw for raw, value in looked_at)
        if hits > most:
            best, most = style, hits
    return best


def _levels(raw: str) -> list[tuple[str | None, str]]:
    """(indentation, base) that the text of one row suggests: its last line stands at the base."""
    lines = raw.split("\n")
    if len(lines) < 2:
        return [(None, "")]
    base, inner = _spaces(lines[-1]), _spaces(lines[1])
    return [(inner[len(base) :], base)] if inner.startswith(base) and len(inner) > len(base) else [(None, "")]


def _spaces(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]
