from __future__ import annotations

import csv
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract.errors import MoltingError
from engine.data import array_scan, index
from engine.data.index import Index, build, cached, open_at
from engine.data.read import Record, open_records


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def read_from(found: Index, n: int) -> Iterator[Record]:
    """The rows from number `n` on, as a resumed stream comes to them."""
    first, stream = open_at(found, n)
    return (Record(first + row.index, row.value, row.offset) for row in stream if first + row.index >= n)


TEXT = st.text(st.sampled_from('ab"\\[]{},:\n\té\U0001f600'), max_size=12)
LEAF = TEXT | st.integers() | st.booleans() | st.none()
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
ARRAY = st.lists(VALUE, max_size=30)
STYLE = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=ARRAY, style=STYLE, step=st.integers(1, 7), block=st.integers(1, 40))
def test_marks_of_an_array_are_where_its_items_begin(
    tmp_path_factory: pytest.TempPathFactory, items: list[Any], style: dict[str, Any], step: int, block: int
) -> None:
    text = " " + json.dumps(items, **style) + "\n"
    file = tmp_path_factory.getbasetemp() / "array.json"
    file.write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch, file.open("rb") as opened:
        patch.setattr(array_scan, "_BLOCK", block)
        count, offsets = array_scan.array_marks(opened, 0, step, lambda done: None)
    assert count == len(items)
    assert len(offsets) == -(-len(items) // step)
    raw = text.encode()
    for i, offset in enumerate(offsets):
        rest = raw[offset:].decode().lstrip()
        assert json.JSONDecoder().raw_decode(rest)[0] == items[i * step]


def rows(count: int) -> list[dict[str, Any]]:
    draw = random.Random(7)
    return [{"question": f"No {i}?", "answer": 'a "b" \\, [x]\n' * draw.randrange(1, 4) + "é"} for i in range(count)]


def written(folder: Path, kind: str, count: int = 2500) -> Path:
    file = folder / f"rows.{kind}"
    made = rows(count)
    if kind == "json":
        file.write_text(json.dumps(made, indent=1), "utf-8")
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" + "\n" * (i % 5 == 0) for i, row in enumerate(made)), "utf-8")
    elif kind == "csv":
        with file.open("w", newline="", encoding="utf-8-sig") as out:
            writer = csv.DictWriter(out, ["question", "answer"], delimiter=";")
            writer.writeheader()
            writer.writerows(made)
    elif kind == "txt":
        file.write_text("\n\n".join(f"Line one of {i}\nline two" for i in range(count)) + "\n", "utf-8")
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(made), file, row_group_size=300)
    return file


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "txt", "parquet"])
def test_reading_from_any_row_gives_what_reading_all_gives(tmp_path: Path, kind: str) -> None:
    file = written(tmp_path, kind)
    every = [(record.index, record.value) for record in open_records(file)]
    found = build(file, step=100)
    assert found.count == len(every) == 2500
    assert len(found.offsets) > 5
    for n in (0, 1, 99, 100, 101, 1234, 2400, 2499, 2500, 9999):
        assert [(record.index, record.value) for record in read_from(found, n)] == every[n:]


def test_damaged_lines_keep_their_numbers(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join('{"text": "x"}' if i % 10 else "{broken" for i in range(500)) + "\n")
    every = [(record.index, record.value) for record in open_records(file)]
    found = build(file, step=50)
    assert found.count == 500
    assert [(record.index, record.value) for record in read_from(found, 333)] == [row for row in every if row[0] >= 333]


def test_an_array_under_a_key_is_read_through(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"version": 1, "rows": rows(50)}))
    found = build(file)
    assert (found.kind, found.count, found.offsets) == ("other", 50, [])
    assert [record.index for record in read_from(found, 40)] == list(range(40, 50))


def test_the_cache_is_used_until_the_file_changes(tmp_path: Path) -> None:
    file = written(tmp_path, "jsonl", 300)
    first = build(file, step=100)
    assert cached(file) == first
    stored = index._cache_file(file)
    assert stored.stat().st_mode & 0o077 == 0
    with file.open("a") as out:
        out.write('{"question": "new", "answer": "row"}\n')
    assert cached(file) is None
    assert build(file, step=100).count == 301
    stored.write_text("[[[[")
    assert cached(file) is None


def test_a_file_of_the_same_size_and_time_but_other_text_is_another(tmp_path: Path) -> None:
    file = written(tmp_path, "jsonl", 300)
    before = file.stat()
    build(file)
    file.write_text(file.read_text("utf-8").replace("No 1?", "No 7?", 1), "utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cached(file) is None


def test_a_change_far_from_its_beginning_is_seen_by_its_time(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = ['{"question": "a", "answer": "b"}\n'] * 300
    file.write_text("".join(rows))
    before, count = file.stat(), build(file).count
    file.write_text("".join([*rows[:-2], rows[0].rstrip() + " " * len(rows[0]) + "\n"]))
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert cached(file) is None and build(file).count == count - 1


def test_progress_can_end_it(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"text": "x" * 1000}] * 9000))

    def stop(done: int, total: int) -> None:
        assert 0 < done <= total == file.stat().st_size
        raise InterruptedError

    with pytest.raises(InterruptedError):
        build(file, stop)
    assert cached(file) is None


def test_what_is_no_file_of_rows_is_refused_with_a_sentence(tmp_path: Path) -> None:
    for name, content in (("a.json", b"7"), ("b.pkl", b"x"), ("c.json", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MoltingError):
            list(read_from(build(tmp_path / name), 0))


def test_a_big_array_is_scanned_far_faster_than_it_is_parsed(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    row = json.dumps({"title": "A title of a story", "content": "Some words of a story, and \\ more. " * 4})
    file.write_text("[" + ", ".join([row] * 200_000) + "]")
    began = time.process_time()
    found = build(file)
    scanned = time.process_time() - began
    began = time.process_time()
    assert sum(1 for _ in read_from(found, 0)) == found.count == 200_000
    assert time.process_time() - began > 1.5 * scanned
    assert next(read_from(found, 199_999)).index == 199_999
