"""A report as Markdown, and the notes that people wrote into it. Pure."""

from __future__ import annotations

import re

from engine.contract.safe import safe

from .report_blocks import Block, Bullets, Code, Paragraph, Plot, Report, Section, Table, Verbatim

NOTES = ("<!-- notes: yours; everything between these two lines is kept -->", "<!-- end of notes -->")
INVITATION = "Write here; the next `molting report` keeps it."
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&$])")
_AT_START = re.compile(r"^(\d*)([-+=.)])(?=[-+=\s]|$)")  # a list, a rule, a heading's underline


def markdown(report: Report, notes: str) -> str:
    """The whole file; `notes` is put back as it was."""
    parts = [f"# {_text(report.title)}", f"**{_text(report.verdict)}**"]
    for section in report.sections:
        parts += _section(section)
    parts += ["## Notes", "\n".join([NOTES[0], notes.strip("\n") or INVITATION, NOTES[1]])]
    return "\n\n".join(parts) + "\n"


def notes_of(old: str) -> str | None:
    """What stands between the markers of an earlier report; None where they are gone.

    A marker counts only as a whole line: quoted answers stand behind `> `, so they cannot hold one.
    """
    lines = old.split("\n")
    if NOTES[0] not in lines:
        return None
    rest = lines[lines.index(NOTES[0]) + 1 :]
    ends = [place for place, line in enumerate(rest) if line == NOTES[1]]
    return "\n".join(rest[: ends[-1]] if ends else rest)


def _section(section: Section) -> list[str]:
    return [f"## {_text(section.title)}", *(_block(each) for each in section.blocks)]


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return f"**{_text(block.text)}**" if block.strong else _text(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_text(item)}" for item in block.items)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Verbatim):
        return _quoted(block.text)
    if isinstance(block, Plot):
        return f"*{_text(block.caption)} (drawn in report.html)*"
    return (
        "\n".join(f"    {safe(' '.join(line.split()), False)}" for line in block.lines)
        if isinstance(block, Code)
        else ""
    )


def _table(table: Table) -> str:
    rule = ["---:" if place in table.right else "---" for place in range(len(table.head))]
    rows = [[_text(cell) for cell in row] for row in [table.head, *table.rows]]
    rows.insert(1, rule)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _quoted(text: str) -> str:
    """A fenced block that no backtick in it can close, every line of it behind `> `."""
    shown = safe(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return "\n".join(f"> {line}" for line in [f"{fence}text", *shown.split("\n"), fence])


def _text(text: str) -> str:
    """One line in which nothing is markup."""
    flat = safe(" ".join(text.split()), keep_newlines=False)
    return _AT_START.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", flat))
