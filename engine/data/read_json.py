"""Rows of JSON arrays and JSON lines as a stream of values, with `Damaged` where a row could not be read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import ijson
import msgspec

from engine.contract.errors import MoltingError
from engine.data.source import CHUNK, RECORD_LIMIT, Source, bad_data

WHOLE_LIMIT = 32 << 20  # an array the strict parser refuses is read at once up to this size
_TURN_KEYS = ({"from", "value"}, {"role", "content"})


class Damaged:
    """Stands in the place of a row that could not be read."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


TOO_LONG = Damaged(f"longer than {RECORD_LIMIT >> 20} MiB")
NOT_JSON = Damaged("not valid JSON")
NOT_UTF8 = Damaged("not UTF-8 text")
TOO_DEEP = Damaged("nested too deeply")


def jsonl_rows(source: Source) -> Iterator[Any]:
    """One value a line; or the items of an array that bears the wrong name."""
    yield from array_rows(source) if first_byte(source) == b"[" else line_rows(source)


def line_rows(source: Source) -> Iterator[Any]:
    """One value a line."""
    decode = msgspec.json.Decoder().decode
    for line in source.lines():
        if line is None:
            yield TOO_LONG
            continue
        try:
            value = decode(line)
        except (ValueError, RecursionError):
            if not line.strip():
                continue
            value = _lenient(line)
        yield value


def _lenient(line: bytes) -> Any:
    """What Python's own, laxer parser makes of a line: NaN and 1e400 are common in data sets."""
    try:
        return json.loads(line)
    except UnicodeDecodeError:
        return NOT_UTF8
    except ValueError:
        return NOT_JSON
    except RecursionError:
        return TOO_DEEP


def json_rows(source: Source) -> Iterator[Any]:
    """The items of an array, wherever it is; or the file's one object; or its lines, if it holds lines."""
    start = first_byte(source)
    if start == b"[":
        yield from array_rows(source)
    elif start != b"{":
        raise bad_data(source.path, "is not a JSON array or object", "Its first character must be [ or {.")
    elif is_lines(source):
        yield from jsonl_rows(source)
    else:
        key = _array_key(source)
        yield from array_rows(source, f"{key}.item" if key is not None else "")


def first_byte(source: Source) -> bytes:
    """The first visible byte."""
    return next(source.chunks(), b"").lstrip()[:1]


def is_lines(source: Source) -> bool:
    """Whether a .json file holds one object a line: the first line is a whole object, and more follows."""
    first, newline, rest = next(source.chunks(), b"").lstrip().partition(b"\n")
    if not newline or not rest.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _array_key(source: Source) -> str | None:
    """The first top-level key that holds an array of objects which are not the turns of a conversation."""
    key: str | None = None
    seen: set[str] = set()
    try:
        for prefix, event, value in ijson.parse(ijson.from_iter(_bounded(source))):
            if key is None and event == "start_array" and prefix and "." not in prefix:
                key, seen = prefix, set()
            elif key is not None and prefix == f"{key}.item" and event == "map_key":
                seen.add(value)
            elif key is not None and prefix == f"{key}.item" and event == "end_map":
                if not any(turn <= seen for turn in _TURN_KEYS):
                    return key
                return None
            elif key is not None and prefix in (f"{key}.item", key) and event != "start_map":
                key = None  # an array of something else
    except ijson.JSONError as error:
        raise _broken(source, error) from None
    return None


def _bounded(source: Source) -> Iterator[bytes]:
    seen = 0
    for chunk in source.chunks():
        seen += len(chunk)
        if seen > RECORD_LIMIT + CHUNK:
            raise bad_data(
                source.path,
                f"is one JSON object without an array of rows in its first {RECORD_LIMIT >> 20} MiB",
                "Write the rows as JSONL.",
            )
        yield chunk


class _BoundedReader:
    """What ijson reads from; it stops a row that never ends. `since`: bytes since the last row."""

    def __init__(self, source: Source, begin: bytes) -> None:
        self._path = source.path
        self._chunks = itertools.chain([begin] if begin else [], source.chunks())
        self.since = 0
        self.rows = 0

    def read(self, size: int) -> bytes:
        if size == 0:  # ijson asks for nothing to learn whether it gets bytes or text
            return b""
        if self.since > RECORD_LIMIT + CHUNK:
            raise bad_data(
                self._path,
                f"holds more than {RECORD_LIMIT >> 20} MiB without a complete row after row {self.rows}",
                "Split that row, or write the rows as JSONL, where one bad row can be left out.",
            )
        chunk = next(self._chunks, b"")
        self.since += len(chunk)
        return chunk


def array_rows(source: Source, prefix: str = "item", begin: bytes = b"") -> Iterator[Any]:
    """The items of the array at `prefix`. `begin`: stands before the text, as [ where a source begins inside one."""
    if not source.ends_with(b"]", b"}"):
        raise bad_data(source.path, "breaks off in the middle: it does not end in ] or }", "Copy it again.")
    reader = _BoundedReader(source, begin)
    count = 0
    try:
        for value in ijson.items(reader, prefix, buf_size=CHUNK):
            reader.since = 0
            reader.rows = count = count + 1
            yield value
    except ijson.JSONError as error:
        yield from _salvage(source, error, prefix if not begin else "", count)


def _salvage(source: Source, error: Exception, prefix: str, done: int) -> list[Any]:
    """The rows from `done` on of a small array that only the strict parser refuses (NaN, Infinity)."""
    if source.size > WHOLE_LIMIT or prefix != "item":
        raise _broken(source, error, done) from None
    try:
        values = json.loads(b"".join(source.chunks()))
    except (ValueError, RecursionError):
        raise _broken(source, error, done) from None
    return list(values[done:])


def _broken(source: Source, error: Exception, done: int | None = None) -> MoltingError:
    where = "" if done is None else f" after {done} complete rows, near byte {source.position:,}"
    return bad_data(
        source.path,
        f"is not valid JSON{where} ({str(error).splitlines()[0].strip()})",
        "Mend it there, or write the rows as JSONL, where one bad row can be left out.",
    )
