"""Where every thousandth row of a file begins, so that any row is reached without reading all before it.

Found in one pass over the bytes, and kept in the cache folder under the file's path, size, time and first bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine.contract import durable
from engine.data.index_marks import Kind, Progress, kind_of, marks
from engine.data.read import RecordStream, Rows, open_records
from engine.data.read_json import array_rows, line_rows
from engine.data.read_text import csv_rows, parquet_rows, text_rows
from engine.data.source import Source

STEP = 1000  # rows between two marks
VERSION = 1
_HEAD = 4096


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """`offsets[i]` is the byte at which row `i * step` begins, rows counted from 0 as `open_records` counts them.

    parquet: `offsets[i]` is the number of the first row of row group i. other: there are no offsets, and rows are
    reached by reading.
    """

    path: str
    kind: Kind
    size: int
    mtime_ns: int
    head: str  # hash of the first bytes
    count: int
    offsets: list[int] = []
    step: int = STEP
    v: int = VERSION

    def fits(self) -> bool:
        """Whether the file is still the one that was indexed."""
        try:
            return self == msgspec.structs.replace(self, **_identity(Path(self.path)))
        except OSError:
            return False


def build(path: Path | str, progress: Progress = lambda done, total: None, *, step: int = STEP) -> Index:
    """The index of a file of rows, from the cache where it is there and still fits.

    `progress` is told bytes done and in all now and then; what it raises ends the work. Raises MoltingError for a
    file that cannot be read.
    """
    path = Path(path).absolute()
    known = cached(path)
    if known is not None and known.step == step:
        return known
    open_records(path)  # says in a sentence what is wrong with a file that holds no rows
    identity, kind = _identity(path), kind_of(path)
    count, offsets = marks(path, kind, step, progress)
    index = Index(path=str(path), kind=kind, count=count, offsets=offsets, step=step, **identity)
    _keep(index)
    return index


def cached(path: Path) -> Index | None:
    """What an earlier pass found, if the file has not changed since."""
    try:
        index = msgspec.json.decode(_cache_file(path).read_bytes(), type=Index)
    except (OSError, ValueError):
        return None
    return index if index.v == VERSION and index.path == str(path.absolute()) and index.fits() else None


def open_at(index: Index, n: int) -> tuple[int, RecordStream]:
    """A stream that begins at a mark before row `n`, and the number of its first row.

    Raises MoltingError where the file cannot be read on.
    """
    first, rows = _entry(index, n)
    path = Path(index.path)
    return first, RecordStream(path, rows) if rows else open_records(path)


def _entry(index: Index, n: int) -> tuple[int, Callable[[Source], Rows] | None]:
    """The number of the last marked row up to `n`, and what reads from there; None: from the beginning."""
    if index.kind == "parquet":
        groups = [group for group, first in enumerate(index.offsets) if first <= n]
        group = groups[-1] if groups else 0
        return (index.offsets[group], lambda source: parquet_rows(source, group)) if group else (0, None)
    mark = min(n // index.step, len(index.offsets) - 1)
    if mark < 1:  # the ordinary way, which also knows what to do with NaN
        return 0, None
    offset = index.offsets[mark]
    return mark * index.step, lambda source: _rows_at(index.kind, source, offset)


def _rows_at(kind: Kind, source: Source, offset: int) -> Rows:
    if kind == "csv":
        return csv_rows(source, offset)
    if kind == "text":
        return text_rows(source, offset)
    source.begin_at(offset)
    return array_rows(source, begin=b"[") if kind == "array" else line_rows(source)


def _identity(path: Path) -> dict[str, Any]:
    info = path.stat()
    with path.open("rb") as file:
        head = hashlib.blake2b(file.read(_HEAD), digest_size=16).hexdigest()
    return {"size": info.st_size, "mtime_ns": info.st_mtime_ns, "head": head}


def _cache_file(path: Path) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=16).hexdigest()
    return base / "molting" / "rows" / f"{name}.json"


def _keep(index: Index) -> None:
    file = _cache_file(Path(index.path))
    try:
        durable.make_private_dir(file.parent)
        durable.write_replace(file, msgspec.json.encode(index))
    except OSError:
        pass  # it only saves time
