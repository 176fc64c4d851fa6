"""Lines of text in parts, each with a role that the widget turns into a style. Pure."""

from __future__ import annotations

from rich.cells import cell_len

from .. import text

Line = list[tuple[str, str]]  # (text, role)


def clipped(line: Line, width: int) -> Line:
    """`line` in at most `width` cells, cut with an ellipsis where it is longer."""
    found: Line = []
    for said, role in line:
        if cell_len(said) > width:
            return [*found, (text.fit(said, width), role)] if width > 0 else found
        found.append((said, role))
        width -= cell_len(said)
    return found


def merged(line: Line) -> Line:
    """Neighbours of the same role in one part."""
    found: Line = []
    for said, role in line:
        if found and found[-1][1] == role:
            found[-1] = (found[-1][0] + said, role)
        else:
            found.append((said, role))
    return found
