"""One pass over a file of rows that notes where every so many rows begin."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from engine.data.array_scan import array_marks
from engine.data.read import open_records
from engine.data.read_json import first_byte, is_lines
from engine.data.read_text import has_blank_line, next_row
from engine.data.source import RECORD_LIMIT, Source

Kind = Literal["array", "lines", "csv", "text", "parquet", "other"]
Progress = Callable[[int, int], None]  # bytes done, bytes in all
Marks = tuple[int, list[int]]  # rows in all, and where those that are marked begin
_EVERY = 4 << 20  # bytes between two words about progress


def kind_of(path: Path) -> Kind:
    """How the rows lie in the file, judged as the readers judge it; "other" for what can only be read through."""
    suffix = path.suffix.lower()
    with Source(path) as source:
        if source.head.startswith(b"PAR1") or suffix == ".parquet":
            return "parquet"
        if not source.plain:
            return "other"
        if suffix in (".csv", ".tsv"):
            return "csv"
        if suffix in (".txt", ".md"):
            return "text"
        start = first_byte(source)
        if start == b"[":
            return "array"
        return "lines" if suffix != ".json" or (start == b"{" and is_lines(source)) else "other"


def marks(path: Path, kind: Kind, step: int, progress: Progress) -> Marks:
    """Rows in all, and the byte at which each `step`-th begins (parquet: the first row of each group)."""
    total, last = path.stat().st_size, 0

    def tell(done: int) -> None:
        nonlocal last
        if done - last >= _EVERY:
            last = done
            progress(done, total)

    with Source(path) as source:
        return _MARKERS[kind](source, step, tell)


Tell = Callable[[int], None]


class _Lines:
    """Lines from `offset` on; while one is looked at, `offset` is where it begins and `end` where it ends.

    Of a line longer than any row may be, only a stub is given: it counts, but nobody reads it.
    """

    def __init__(self, file: IO[bytes], offset: int) -> None:
        self._file, self.offset, self.end = file, offset, offset
        file.seek(offset)

    def __iter__(self) -> Iterator[bytes]:
        read = self._file.readline
        while line := read(RECORD_LIMIT):
            self.offset, self.end = self.end, self.end + len(line)
            if len(line) == RECORD_LIMIT:
                while not line.endswith(b"\n") and (more := read(RECORD_LIMIT)):
                    self.end += len(more)
                    line = b"?" + more[-1:]
            yield line


def _array(source: Source, step: int, tell: Tell) -> Marks:
    return array_marks(source.file, source.start, step, tell)


def _lines(source: Source, step: int, tell: Tell) -> Marks:
    count, offsets = 0, []
    with source.path.open("rb") as file:
        lines = _Lines(file, source.start)
        for line in lines:
            if line.isspace():
                continue
            if count % step == 0:
                offsets.append(lines.offset)
                tell(lines.end)
            count += 1
    return count, offsets


def _text(source: Source, step: int, tell: Tell) -> Marks:
    if not has_blank_line(source):
        return _lines(source, step, tell)
    count, offsets, inside = 0, [], False
    with source.path.open("rb") as file:
        lines = _Lines(file, source.start)
        for line in lines:
            begins = not line.isspace() and not inside
            inside = not line.isspace()
            if begins and count % step == 0:
                offsets.append(lines.offset)
                tell(lines.end)
            count += begins
    return count, offsets


def _csv(source: Source, step: int, tell: Tell) -> Marks:
    """By the csv module itself: only it knows which line breaks stand inside a quote."""
    csv.field_size_limit(RECORD_LIMIT)
    count, offsets = 0, []
    with source.path.open("rb") as file:
        lines = _Lines(file, source.start)
        text = (line.decode("utf-8", "surrogateescape").replace("\0", "") for line in lines)
        header = next(text, "")
        reader: Any = csv.reader(text, delimiter=max(",;\t", key=header.count))
        begins = lines.end
        while (row := next_row(reader, source)) is not None:
            if row:
                if count % step == 0:
                    offsets.append(begins)
                    tell(lines.end)
                count += 1
            begins = lines.end
    return count, offsets


def _parquet(source: Source, step: int, tell: Tell) -> Marks:
    from pyarrow import parquet

    list(islice(open_records(source.path), 1))  # says in a sentence what is wrong with a damaged one
    metadata = parquet.ParquetFile(source.file, memory_map=False).metadata
    firsts, count = [], 0
    for group in range(metadata.num_row_groups):
        firsts.append(count)
        count += metadata.row_group(group).num_rows
    return count, firsts


def _other(source: Source, step: int, tell: Tell) -> Marks:
    stream = open_records(source.path)
    for record in stream:
        tell(record.offset)
    return stream.read, []


_MARKERS: dict[Kind, Callable[[Source, int, Tell], Marks]] = {
    "array": _array,
    "lines": _lines,
    "csv": _csv,
    "text": _text,
    "parquet": _parquet,
    "other": _other,
}
