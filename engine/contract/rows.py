"""Rows of a data file as the data screen and `molting data` see them, and how they ask the engine for them.

The verb `data` answers once. The verb `data-session` lives as long as the screen: lines of `Ask` on its stdin, lines of
`Said` on its stdout, in any order, each with the number of what was asked.
"""

from __future__ import annotations

from typing import Any, Literal, Union

import msgspec

from .calls import Failure, Finding, Progress, Result

Split = Literal["trained", "held out", "dropped"]


class DataRequest(msgspec.Struct, kw_only=True, tag_field="do", tag="open"):
    """A file of rows, or a spec that names one. `model`: a folder, a hub id, "demo" or a spec; "": the spec's own."""

    file: str
    models: str
    model: str = ""


class Lines(msgspec.Struct, kw_only=True, tag_field="do", tag="lines"):
    """Rows `start` (from 0) and the `count` - 1 after it, a line each; or these values, where the file is old."""

    start: int
    count: int
    values: Union[list[Any], None] = None


class Show(msgspec.Struct, kw_only=True, tag_field="do", tag="show"):
    """One row as it is trained on."""

    number: int


class Draft(msgspec.Struct, kw_only=True, tag_field="do", tag="draft"):
    """The same for a row that is not in the file (yet)."""

    value: Any


class Find(msgspec.Struct, kw_only=True, tag_field="do", tag="find"):
    """The next row from `start` on that holds `text`, upper or lower case; ends a search that still runs."""

    text: str
    start: int


class Count(msgspec.Struct, kw_only=True, tag_field="do", tag="count"):
    """How many rows there are; from then on, any of them is reached at once."""


class Look(msgspec.Struct, kw_only=True, tag_field="do", tag="survey"):
    """All rows together."""


class Cancel(msgspec.Struct, kw_only=True, tag_field="do", tag="cancel"):
    """End a search."""


Question = Union[DataRequest, Lines, Show, Draft, Find, Count, Look, Cancel]


class Ask(msgspec.Struct, kw_only=True):
    n: int
    ask: Question


class Said(msgspec.Struct, kw_only=True):
    n: int
    line: Union[Progress, Result, Failure]


class Opened(msgspec.Struct, kw_only=True):
    """`format` and `fields` say which part of a row is which (docs/data.md); `mapping` says it in words.

    `tokenizer` is where tokens are counted from, "" where only characters are; then `problem` may say why.
    """

    file: str
    size: int
    format: str
    fields: dict[str, str]
    mapping: str
    tokenizer: str = ""
    problem: str = ""
    max_length: int = 0
    system: str = ""


class RowLine(msgspec.Struct, kw_only=True):
    """A row in short. `number` counts from 0; `length` is tokens, or characters without a tokenizer."""

    number: int
    prompt: str = ""
    answer: str = ""
    length: int = 0
    lost: int = 0
    split: Split = "trained"
    why: str = ""  # it is dropped


class Piece(msgspec.Struct, kw_only=True):
    """Text of neighbouring tokens of one kind. `cut`: beyond the length limit, so the model never sees it."""

    text: str
    role: str
    learned: bool = False
    special: bool = False
    cut: bool = False


class RowView(msgspec.Struct, kw_only=True):
    """A row as the model sees it. `tokens` by role; 0 and no pieces where there is no tokenizer."""

    number: int = -1
    turns: list[tuple[str, str]] = []
    pieces: list[Piece] = []
    length: int = 0
    learned: int = 0
    lost: int = 0
    tokens: dict[str, int] = {}
    split: Split = "trained"
    findings: list[Finding] = []


class MaybeRow(msgspec.Struct, kw_only=True):
    """The row that a search found, or none."""

    number: Union[int, None] = None


class Bar(msgspec.Struct, kw_only=True):
    """`count` rows have a length from `low` to `high`."""

    low: int
    high: int
    count: int


class Survey(msgspec.Struct, kw_only=True):
    """All rows together: `rows` is what was dropped, held out and trained. Lengths are in `unit`, over `measured` rows.

    `roles`: turns by role, over all rows that could be read.
    """

    rows: int
    dropped: dict[str, int] = {}
    examples: list[tuple[int, str]] = []
    heldout: int = 0
    trained: int = 0
    roles: dict[str, int] = {}
    unit: Literal["tokens", "characters"] = "characters"
    measured: int = 0
    length: int = 0
    learned: int = 0
    truncated: int = 0
    tokens: dict[str, int] = {}
    bars: list[Bar] = []
    findings: list[Finding] = []


class DataReport(msgspec.Struct, kw_only=True):
    """Result of the verb `data`."""

    opened: Opened
    survey: Survey
    first: list[RowView] = []
