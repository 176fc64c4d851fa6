"""A row as text for an editor, and back. Pure.

A line `### user` begins a turn; lines that would look so get a backslash in front.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.contract.errors import MoltingError

from .row_form import Part

_HEADING = re.compile(r"### (\w+)")
_NOTE = "<!-- One row. A line like `### user` begins a turn. Save and leave; an unchanged text changes nothing. -->"


def to_text(parts: Sequence[Part]) -> str:
    """The row for an editor."""
    lines = [_NOTE]
    for part in parts:
        body = re.sub(r"(?m)^(\\*### )", r"\\\1", part.text)
        lines += [f"### {part.role}", body]
    return "\n".join(lines) + "\n"


def from_text(text: str, roles: Sequence[str]) -> list[Part]:
    """The parts of an edited text. MoltingError that names the line where it cannot be read.

    `roles`: those that this file's rows may have.
    """
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    parts: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines, 1):
        heading = _HEADING.fullmatch(line.rstrip())
        if heading and heading[1] not in roles:
            raise MoltingError(f"Line {number}: there is no role {heading[1]!r}.", remedy=f"Known: {', '.join(roles)}.")
        if heading:
            parts.append((heading[1], []))
        elif parts:
            parts[-1][1].append(re.sub(r"^\\(\\*### )", r"\1", line))
        elif line.strip() and line != _NOTE:
            raise MoltingError(f"Line {number} stands before the first turn.", remedy="Put `### user` before it.")
    if not parts:
        raise MoltingError("There is no turn in it.", remedy="Begin one with a line `### user`.")
    return [Part(role, "\n".join(body)) for role, body in parts]
