"""Rows of CSV, Parquet and plain text as a stream of values, with `Damaged` where one could not be read."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from engine.data.read_json import NOT_UTF8, TOO_LONG, Damaged
from engine.data.source import RECORD_LIMIT, Source, bad_data

BATCH = 256
_OPEN_QUOTE = "Look for a quote that is never closed."
_NOT_CSV = Damaged("not valid CSV")
_LOOK = 1 << 20  # bytes looked at to tell paragraphs from lines


def csv_rows(source: Source, offset: int = 0) -> Iterator[Any]:
    """Rows as objects named by the header line. `offset`: the byte at which to begin, where it is not the first row."""
    csv.field_size_limit(RECORD_LIMIT)  # the module's own limit, 128 KiB, is less than a long answer
    lines = _csv_lines(source)
    header_line = next(lines, "")
    delimiter = max(",;\t", key=header_line.count)
    header = next_row(csv.reader([header_line], delimiter=delimiter), source)
    names = [name.strip() for name in header] if isinstance(header, list) else []
    if not any(names) or len(set(names)) != len(names):
        raise bad_data(source.path, "has no usable header line", "Its first line must name every column once.")
    wrong = Damaged(f"does not have the {len(names)} columns of the header")
    if offset:
        source.begin_at(offset)
        lines = _csv_lines(source)
    reader = csv.reader(lines, delimiter=delimiter)
    while (row := next_row(reader, source)) is not None:
        if row:
            yield _csv_row(names, row, wrong)


def next_row(reader: Any, source: Source) -> list[str] | Damaged | None:
    """The next row, None at the end. The csv module goes on with the next line after an error."""
    try:
        row: list[str] | None = next(reader, None)
    except csv.Error as error:
        if "limit" not in str(error):
            return _NOT_CSV
        raise bad_data(
            source.path, f"has a field longer than {RECORD_LIMIT >> 20} MiB before line {reader.line_num}", _OPEN_QUOTE
        ) from None
    return row


def _csv_lines(source: Source) -> Iterator[str]:
    for line in source.lines():
        if line is None:
            raise bad_data(
                source.path,
                f"holds a line longer than {RECORD_LIMIT >> 20} MiB",
                _OPEN_QUOTE,
            )
        yield line.decode("utf-8", "surrogateescape") + "\n"


def _csv_row(names: list[str], row: list[str] | Damaged, wrong: Damaged) -> Any:
    if isinstance(row, Damaged):
        return row
    if len(row) != len(names):
        return wrong
    return dict(zip(names, row, strict=True)) if all(map(_is_text, row)) else NOT_UTF8


def _is_text(text: str) -> bool:
    """False for text that stands for bytes which are not UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def text_rows(source: Source, offset: int = 0) -> Iterator[Any]:
    """Paragraphs, or lines where the file has no blank line between texts. `offset`: the byte at which to begin."""
    paragraphs = has_blank_line(source)
    if offset:
        source.begin_at(offset)
    texts: list[bytes] = []
    length = 0
    for line in source.lines():
        if line is None:
            texts, length = [], 0
            yield TOO_LONG
        elif not paragraphs:
            yield from _text([line])
        elif line.strip():
            length += len(line)
            if length <= RECORD_LIMIT:
                texts.append(line.rstrip(b"\r"))
        else:
            yield from [TOO_LONG] if length > RECORD_LIMIT else _text(texts)
            texts, length = [], 0
    yield from [TOO_LONG] if length > RECORD_LIMIT else _text(texts)


def has_blank_line(source: Source) -> bool:
    """Whether a blank line stands between two texts in the file's first MiB."""
    text_before = blank_before = False
    for line in source.lines():
        if line is None or line.strip():
            if blank_before:
                return True
            text_before = True
        elif text_before:
            blank_before = True
        if source.position > _LOOK:
            return False
    return False


def _text(lines: list[bytes]) -> list[Any]:
    """The text that these lines make, as a list of none or one."""
    try:
        text = b"\n".join(lines).decode("utf-8").strip()
    except UnicodeDecodeError:
        return [NOT_UTF8]
    return [text] if text else []


def parquet_rows(source: Source, group: int = 0) -> Iterator[Any]:
    """Rows as objects, from row group `group` on. `source.position` advances by the share of rows read."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(source.file, memory_map=False, pre_buffer=False)
        total = max(1, table.metadata.num_rows)
        done = sum(table.metadata.row_group(before).num_rows for before in range(min(group, table.num_row_groups)))
        groups = list(range(group, table.num_row_groups))
        for batch in table.iter_batches(batch_size=BATCH, row_groups=groups, use_threads=False):
            done += batch.num_rows
            source.position = source.size * done // total
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise bad_data(source.path, f"is not a sound Parquet file ({reason})", "Write it again.") from None
