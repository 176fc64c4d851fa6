"""Reading rows from json, jsonl, csv, tsv, parquet and txt files as a stream, in bounded memory.

json      one array; or one array of objects under a top-level key; or a single object, which is one row
jsonl     one object (or string) a line; blank lines are no rows
csv, tsv  a header line, then rows; the delimiter is the one the header has most of: comma, semicolon or tab
parquet   in small batches
txt, md   texts separated by blank lines; where the file's first MiB has no blank line, one text a line

Of a key that occurs twice in an object, the last value counts, as in every JSON reader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from engine.data.read_json import Damaged, json_rows, jsonl_rows
from engine.data.read_text import csv_rows, parquet_rows, text_rows
from engine.data.source import Source, bad_data

MAX_DEPTH = 64
EXAMPLES = 20  # dropped rows kept as examples

Rows = Iterator[Any]

_READERS: dict[str, Callable[[Source], Rows]] = {
    ".json": json_rows,
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": parquet_rows,
    ".txt": text_rows,
    ".md": text_rows,
}


class Record(msgspec.Struct, frozen=True, gc=False):
    """Row `index` of the file, from 0, damaged ones counted; `offset`: bytes of the file read by then."""

    index: int
    value: dict[str, Any] | str
    offset: int


class Dropped(msgspec.Struct, frozen=True):
    """A row that is not used, and why, as a phrase that follows "dropped: "."""

    index: int
    why: str


class RecordStream:
    """The rows of a file. Every `iter()` reads it anew from the beginning and resets the counts.

    Rows are numbered from `first`; damaged ones before row `counted_from` were counted by an earlier reader.
    """

    def __init__(self, path: Path, rows: Callable[[Source], Rows]) -> None:
        self.path = path
        self.first = self.counted_from = 0
        self._rows = rows
        self._reset()

    def _reset(self) -> None:
        self.position = 0
        self.read = 0
        self.dropped: Counter[str] = Counter()
        self.examples: list[Dropped] = []

    @property
    def size(self) -> int:
        """Bytes of the file, 0 when it has gone."""
        return self.path.stat().st_size if self.path.exists() else 0

    def __iter__(self) -> Iterator[Record]:
        """Yield the sound rows; damaged ones are counted in `dropped`, the first of them in `examples`.

        Raises MoltingError where the file cannot be read on.
        """
        self._reset()
        with Source(self.path) as source:
            for index, value in enumerate(self._rows(source), self.first):
                self.read = index + 1
                self.position = source.position
                if value.__class__ is dict:
                    for item in value.values():
                        if (item.__class__ is dict or item.__class__ is list) and _too_deep(item):
                            self._drop(index, f"nested more than {MAX_DEPTH} levels deep")
                            break
                    else:
                        yield Record(index, value, source.position)
                elif value.__class__ is str:
                    yield Record(index, value, source.position)
                else:
                    self._drop(index, value.why if isinstance(value, Damaged) else _not_a_row(value))

    def _drop(self, index: int, why: str) -> None:
        if index < self.counted_from:
            return
        self.dropped[why] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(Dropped(index, why))


def open_records(path: Path | str) -> RecordStream:
    """The rows of `path` as a stream of `Record`.

    Raises MoltingError (bad_data) at once for a file that is missing, empty, packed, binary, not a regular
    file, or of a kind that is not known; while iterating, for one that is not what its name says.
    """
    path = Path(path)
    with Source(path) as source:
        parquet = source.head.startswith(b"PAR1")
    rows = parquet_rows if parquet else _READERS.get(path.suffix.lower())
    if rows is None:
        known = ", ".join(sorted(_READERS))
        raise bad_data(path, "has a name that does not say what it is", f"Name it with one of {known}.")
    return RecordStream(path, rows)


def _not_a_row(value: object) -> str:
    kinds = {list: "a list", bool: "true or false", type(None): "null"}
    return f"the row is {kinds.get(type(value), 'a number')} where an object or a text was expected"


def _too_deep(value: Any) -> bool:
    """Whether containers nest deeper than MAX_DEPTH; found without recursion, which such rows break."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            inner += item.values() if isinstance(item, dict) else item
        level = [item for item in inner if isinstance(item, (dict, list))]
        if not level:
            return False
    return True
