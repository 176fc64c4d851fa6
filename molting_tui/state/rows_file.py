"""A file of rows as it is written: its rows one by one, and what stands around them. Pure.

What nobody touched is written back byte for byte: a row keeps its own text until it is edited, and the file keeps what
stands before, between and behind its rows.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from engine.contract.errors import MoltingError

from .json_style import Style, style_of

MOST_BYTES = 8 << 20
MOST_ROWS = 5000
_BOM = "\ufeff"
_TURN_KEYS = ({"from", "value"}, {"role", "content"})
Kind = Literal["array", "lines", "csv", "text"]


@dataclass(frozen=True)
class Row:
    """One row: `raw` is its text in the file, `value` what that says (None where it says nothing).

    `lead` is what stood before it; "" for a new row, which gets what usually stands there.
    """

    raw: str
    value: Any
    lead: str = ""


@dataclass(frozen=True)
class Layout:
    """What stands around the rows: `head` and `first` before the first, `between` two, `tail` behind the last."""

    kind: Kind
    head: str = ""
    first: str = ""
    between: str = "\n"
    tail: str = ""
    style: Style = field(default_factory=Style)
    names: tuple[str, ...] = ()  # csv: the columns
    delimiter: str = ","
    quote_all: bool = False

    def text(self, rows: Sequence[Row]) -> str:
        """The whole file."""
        parts = [self.head]
        for i, row in enumerate(rows):
            parts += [self.first if i == 0 else row.lead or self.between, row.raw]
        tail = self.tail if rows or self.kind != "array" else self.tail.lstrip()
        return "".join([*parts, tail])

    def row(self, value: Any, lead: str = "") -> Row:
        """A row that says `value`, written as the file's others are. MoltingError where this file cannot say it."""
        if self.kind == "csv":
            return Row(self._csv(value), value, lead)
        if self.kind == "text":
            raw = str(value if isinstance(value, str) else "").strip()
            if re.search(r"\n[ \t\r]*\n", raw) or ("\n" in raw and self.between == "\n"):
                raise MoltingError("A blank line would split this text in two.", remedy="Join its paragraphs.")
            return Row(raw, raw, lead)
        return Row(self.style.write(value, one_line=self.kind == "lines"), value, lead)

    def _csv(self, value: Any) -> str:
        if not isinstance(value, dict) or not value.keys() <= set(self.names):
            raise MoltingError("The row has a field for which the file has no column.", remedy="Leave it out.")
        out = io.StringIO()
        quoting: Literal[0, 1] = csv.QUOTE_ALL if self.quote_all else csv.QUOTE_MINIMAL
        writer = csv.writer(out, delimiter=self.delimiter, quoting=quoting, lineterminator="\r\n")
        writer.writerow(["" if (said := value.get(name)) is None else str(said) for name in self.names])
        return out.getvalue().removesuffix("\r\n")


def parse(data: bytes, suffix: str) -> tuple[Layout, list[Row]]:
    """The rows of a file that can be written here. MoltingError with the reason for one that cannot."""
    if len(data) > MOST_BYTES:
        raise _unfit(f"it has more than {MOST_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _unfit("it is not UTF-8") from None
    head = _BOM if text.startswith(_BOM) else ""
    text = text[len(head) :]
    suffix = suffix.lower()
    if suffix in (".csv", ".tsv"):
        layout, rows = _csv(text)
    elif suffix in (".txt", ".md"):
        layout, rows = _text(text)
    elif suffix == ".jsonl" or suffix == ".ndjson" or _is_lines(text):
        layout, rows = (_array if text.lstrip()[:1] == "[" else _lines)(text)
    elif suffix == ".json":
        layout, rows = _array(text)
    else:
        raise _unfit(f"files that end in {suffix or 'nothing'} are only read")
    if len(rows) > MOST_ROWS:
        raise _unfit(f"it has more than {MOST_ROWS:,} rows")
    return replace(layout, head=head + layout.head), rows


def _unfit(why: str) -> MoltingError:
    return MoltingError(f"Rows of this file cannot be edited here: {why}.", code=1)


def _is_lines(text: str) -> bool:
    first, _, rest = text.lstrip().partition("\n")
    return bool(rest.strip()) and isinstance(_value(first), dict)


def _value(raw: str) -> Any:
    """What JSON says; None where it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _assembled(kind: Kind, head: str, found: list[tuple[str, str, Any]], tail: str, usual: str) -> tuple[Layout, Any]:
    """Layout and rows from (what stood before it, its text, its value)."""
    leads = [lead for lead, _, _ in found[1:]]
    between = max(set(leads), key=leads.count) if leads else usual
    first = found[0][0] if found else ""
    rows = [Row(raw, value, lead if i else "") for i, (lead, raw, value) in enumerate(found)]
    style = style_of([(row.raw, row.value) for row in rows], tail if kind == "array" else "")
    return Layout(kind=kind, head=head, first=first, between=between, tail=tail, style=style), rows


def _lines(text: str) -> tuple[Layout, list[Row]]:
    newline = "\r\n" if "\r\n" in text else "\n"
    found: list[tuple[str, str, Any]] = []
    lead = ""
    for line in re.split(r"(\r?\n)", text):
        if not line.strip():
            lead += line
        else:
            found.append((lead, line, _value(line)))
            lead = ""
    return _assembled("lines", "", found, lead or newline if not found else lead, newline)


def _array(text: str) -> tuple[Layout, list[Row]]:
    start = _array_start(text)
    found: list[tuple[str, str, Any]] = []
    at = begin = start + 1
    decode = json.JSONDecoder().raw_decode
    try:
        while True:
            at = _skip(text, at)
            if text[at : at + 1] == "]":
                break
            if found:
                if text[at : at + 1] != ",":
                    raise _unfit(f"it is not valid JSON near character {at:,}")
                at = _skip(text, at + 1)
            value, end = decode(text, at)
            found.append((text[begin:at], text[at:end], value))
            at = begin = end
    except (ValueError, RecursionError) as error:
        raise _unfit(f"it is not valid JSON ({str(error)[:80]})") from None
    usual = ",\n  " if not found or "\n" in found[0][0] else ", "
    layout, rows = _assembled("array", text[: start + 1], found, text[begin:], usual)
    if not found:  # an empty array: the first row gets a line of its own
        layout = replace(layout, first="\n  ", tail="\n" + layout.tail.lstrip())
    return layout, rows


def _array_start(text: str) -> int:
    """Where the [ of the rows stands: the file's first character, or under a top-level key."""
    at = _skip(text, 0)
    if text[at : at + 1] == "[":
        return at
    if text[at : at + 1] != "{":
        raise _unfit("it is not a JSON array")
    decode = json.JSONDecoder().raw_decode
    try:
        while text[at : at + 1] in ("{", ","):
            _, at = decode(text, _skip(text, at + 1))
            begin = _skip(text, _skip(text, at) + 1)
            value, end = decode(text, begin)
            if isinstance(value, list) and value and isinstance(value[0], dict) and not _is_turn(value[0]):
                return begin
            at = _skip(text, end)
    except (ValueError, RecursionError):
        raise _unfit("it is not valid JSON") from None
    raise _unfit("it is one object, not a list of rows")


def _is_turn(value: dict[str, Any]) -> bool:
    return any(keys <= value.keys() for keys in _TURN_KEYS)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at


def _text(text: str) -> tuple[Layout, list[Row]]:
    paragraphs = re.search(r"\S[ \t\r]*\n[ \t\r]*\n\s*\S", text) is not None
    breaks = r"(\r?\n(?:[ \t\r]*\n)+)" if paragraphs else r"(\r?\n)"
    found: list[tuple[str, str, Any]] = []
    lead = ""
    for part in re.split(breaks, text):
        if not part.strip():
            lead += part
        else:
            found.append((lead, part, part.strip()))
            lead = ""
    return _assembled("text", "", found, lead, "\n\n" if paragraphs or not found else "\n")


def _csv(text: str) -> tuple[Layout, list[Row]]:
    """By the csv module, which is told line by line what it has to read, so that each row's own text is known."""
    lines = io.StringIO(text, newline="")
    taken: list[str] = []

    def fed() -> Any:
        for line in lines:
            taken.append(line)
            yield line

    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    csv.field_size_limit(MOST_BYTES)
    reader = csv.reader(fed(), delimiter=delimiter)
    found: list[tuple[str, str, Any]] = []
    head, lead = "", ""
    names: tuple[str, ...] = ()
    try:
        for cells in reader:
            raw = "".join(taken)
            taken.clear()
            bare = raw.rstrip("\r\n")
            if not names:
                names, head = tuple(cell.strip() for cell in cells), bare
            elif cells:
                value = dict(zip(names, cells, strict=True)) if len(cells) == len(names) else None
                found.append((lead, bare, value))
                lead = ""
            else:
                bare = ""
            lead += raw[len(bare) :]
    except csv.Error as error:
        raise _unfit(f"it is not valid CSV ({error})") from None
    newline = "\r\n" if "\r\n" in text else "\n"
    layout, rows = _assembled("csv", head, found, lead, newline)
    quoted = bool(rows) and all(row.raw.startswith('"') and row.raw.endswith('"') for row in rows)
    return replace(layout, first=layout.first or newline, names=names, delimiter=delimiter, quote_all=quoted), rows
