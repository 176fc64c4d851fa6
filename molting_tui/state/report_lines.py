"""A cycle report as lines for a screen: what `molting report` writes as Markdown, without its signs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len

from engine.contract.safe import safe

from .. import text
from .lines import Line

_ESCAPED = re.compile(r"\\([\\`*_{}\[\]<>#|~!&$.=+-])")
_CELLS = re.compile(r"(?<!\\)\|")
_GAP = 2
_LEAST = 6  # cells of a column that is cut


def report_lines(markdown: str, width: int) -> list[Line]:
    """The report in `width` cells."""
    lines: list[Line] = []
    table: list[list[str]] = []
    fenced = ""
    for row in safe(markdown).split("\n"):
        if not fenced and row.startswith("|"):
            table.append([_plain(cell.strip()) for cell in _CELLS.split(row)[1:-1]])
            continue
        lines += _table(table, width)
        table = []
        quoted = row.removeprefix("> ").removeprefix(">")
        if fenced and quoted == fenced:
            fenced = ""
        elif fenced:
            lines += [
                [("  ", ""), (part, "answer" if row.startswith(">") else "")] for part in text.wrap(quoted, width - 2)
            ]
        elif quoted.startswith("```"):
            fenced = quoted.removesuffix("text")
        elif not row.startswith("<!--"):
            lines += _row(row, width)
    return lines + _table(table, width)


def _row(row: str, width: int) -> Iterator[Line]:
    if row.startswith("#"):
        yield from ([(part, "bold")] for part in text.wrap(_plain(row.lstrip("#").strip()), width))
    elif row.startswith("**") and row.endswith("**"):
        yield from ([(part, "bold")] for part in text.wrap(_plain(row[2:-2]), width))
    elif row.startswith("- "):
        first, *more = text.wrap(_plain(row[2:]), width - 2)
        yield [("· ", "dim"), (first, "")]
        yield from ([("  " + part, "")] for part in more)
    elif row.startswith("*") and row.endswith("*"):
        yield from ([(part, "dim")] for part in text.wrap(_plain(row.strip("*")), width))
    elif row.startswith("    "):  # a command to type: nothing in it is escaped
        yield from ([("  ", ""), (part, "answer")] for part in text.wrap(row, width - 2))
    else:
        yield from ([(part, "")] for part in text.wrap(_plain(row), width))


def _table(rows: Sequence[list[str]], width: int) -> list[Line]:
    """Columns as wide as they need; where that is too wide, the widest is wrapped."""
    if len(rows) < 2:
        return []
    head, rule, *body = rows
    columns = len(head)
    body = [(row + [""] * columns)[:columns] for row in body]
    widths = _narrowed([max(map(cell_len, column)) for column in zip(head, *body, strict=True)], width)
    right = [cell.endswith(":") for cell in rule] + [False] * columns
    lines: list[Line] = []
    for row in [head, *body]:
        cells = [text.wrap(cell, wide) for cell, wide in zip(row, widths, strict=True)]
        for parts in zip_longest(*cells, fillvalue=""):
            said = [_fitted(part, widths[place], right[place]) for place, part in enumerate(parts)]
            lines.append([((" " * _GAP).join(said).rstrip(), "dim" if row is head else "")])
    return lines


def _narrowed(widths: list[int], width: int) -> list[int]:
    """`widths` that fit into `width` cells: the widest column gives way first."""
    room = width - _GAP * (len(widths) - 1)
    while sum(widths) > room and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _fitted(said: str, width: int, right: bool) -> str:
    space = " " * max(0, width - cell_len(said))
    return space + said if right else said + space


def _plain(markdown: str) -> str:
    return _ESCAPED.sub(r"\1", markdown)
