"""What a report is made of: sections of plain blocks, so that Markdown and HTML say the same. Every text in them is
plain text of anybody's; the renderers escape it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True)
class Paragraph:
    """`strong`: the sentence that the section is about."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Bullets:
    items: list[str]


@dataclass(frozen=True)
class Table:
    """The columns numbered in `right` hold numbers."""

    head: list[str]
    rows: list[list[str]]
    right: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Verbatim:
    """Somebody's words, character by character (those that act on a screen made visible); `voice` colours them."""

    text: str
    voice: str = ""


@dataclass(frozen=True)
class Code:
    """Commands to type."""

    lines: list[str]


@dataclass(frozen=True)
class Plot:
    """A drawing made by `report_plots`: in the HTML only; its numbers stand in tables too."""

    svg: str
    caption: str


Block = Union[Paragraph, Bullets, Table, Verbatim, Code, Plot]


@dataclass(frozen=True)
class Section:
    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """`verdict` is the first sentence; `short` is fit to post; `missing` says what the run does not hold."""

    title: str
    verdict: str
    sections: list[Section]
    short: list[str]
    missing: list[str]
