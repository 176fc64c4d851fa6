"""Reading rows: every format, and files that are damaged, hostile or not what their name says."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import resource
import subprocess
import sys
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.errors import MoltingError
from engine.data import source
from engine.data.read import Record, open_records

ROOT = Path(__file__).parents[3]
ROWS = [{"title": "Olá", "content": "café"}, {"title": "b", "content": 'quote " and\nnewline'}, {"n": 1}]


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def values(path: Path) -> list[Any]:
    return [record.value for record in open_records(path)]


def reasons(path: Path) -> dict[str, int]:
    stream = open_records(path)
    list(stream)
    return dict(stream.dropped)


# -- formats


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("array.json", json.dumps(ROWS)),
        ("pretty.json", json.dumps(ROWS, indent=2, ensure_ascii=False)),
        ("keyed.json", json.dumps({"version": 1, "meta": {"rows": [1]}, "tags": ["x"], "data": ROWS})),
        ("lines.json", "\n".join(map(json.dumps, ROWS))),
        ("lines.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("blanks.jsonl", "\r\n\r\n".join(map(json.dumps, ROWS)) + "\r\n"),
        ("array.jsonl", json.dumps(ROWS, indent=1)),
    ],
)
def test_json_in_its_shapes(tmp_path: Path, name: str, text: str) -> None:
    assert values(write(tmp_path / name, text)) == ROWS


def test_a_single_object_is_one_row_even_if_it_holds_turns(tmp_path: Path) -> None:
    row = {"id": 1, "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}

    assert values(write(tmp_path / "one.json", json.dumps(row, indent=2))) == [row]


def test_an_array_of_texts(tmp_path: Path) -> None:
    assert values(write(tmp_path / "t.json", '["a", "b"]')) == ["a", "b"]


def test_csv_and_tsv(tmp_path: Path) -> None:
    comma = write(tmp_path / "a.csv", 'title,content\r\n"a, b","two\nlines ""quoted"""\r\nc,d\r\n')
    semicolon = write(tmp_path / "b.csv", "title;content\na,b;c\n")
    tab = write(tmp_path / "c.tsv", "title\tcontent\na;b\tc\n")

    assert values(comma) == [
        {"title": "a, b", "content": 'two\nlines "quoted"'},
        {"title": "c", "content": "d"},
    ]
    assert values(semicolon) == [{"title": "a,b", "content": "c"}]
    assert values(tab) == [{"title": "a;b", "content": "c"}]


def test_parquet_with_nested_turns(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = [{"messages": [{"role": "user", "content": f"é {i}"}]} for i in range(1000)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=300)

    stream = open_records(tmp_path / "t.parquet")
    records = list(stream)

    assert [record.value for record in records] == rows
    assert 0 < records[0].offset < stream.size == stream.position


def test_text_in_paragraphs_or_in_lines(tmp_path: Path) -> None:
    paragraphs = write(tmp_path / "p.txt", "\n\none\nstill one\n \t\r\ntwo\r\n\n")
    lines = write(tmp_path / "l.txt", "one\ntwo\r\nthree\n")

    assert values(paragraphs) == ["one\nstill one", "two"]
    assert values(lines) == ["one", "two", "three"]


def test_a_record_knows_its_number_and_how_far_the_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "".join(json.dumps({"i": i, "pad": "x" * 100}) + "\n" for i in range(5000)))

    stream = open_records(path)
    records = list(stream)

    assert [record.index for record in records] == list(range(5000))
    assert all(a.offset <= b.offset for a, b in pairwise(records))
    assert records[0].offset < stream.size / 2
    assert records[-1].offset == stream.position == stream.size == path.stat().st_size
    assert [record.value for record in stream] == [record.value for record in records]  # from the beginning again
    assert stream.read == 5000


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ids=lambda name: str(name)
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".txt"])
def test_byte_order_marks(tmp_path: Path, encoding: str, suffix: str) -> None:
    marks = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}
    long = "café 👩‍👩‍👧 " * 9000  # over a chunk, so that a character is cut in two
    texts = {
        ".json": json.dumps([{"text": long}], ensure_ascii=False),
        ".jsonl": json.dumps({"text": long}, ensure_ascii=False) + "\n",
        ".csv": f"text,n\n{long},1\n",
        ".txt": long,
    }
    path = write(tmp_path / f"a{suffix}", (marks.get(encoding, "") + texts[suffix]).encode(encoding))

    (value,) = values(path)

    assert (value if isinstance(value, str) else value["text"]).strip() == long.strip()


# -- what is not read at all


def refused(path: Path, match: str) -> None:
    with pytest.raises(MoltingError, match=match) as caught:
        list(open_records(path))
    assert caught.value.reason == "bad_data"
    assert str(path) in caught.value.message and "\n" not in str(caught.value)


def test_files_that_are_no_files(tmp_path: Path) -> None:
    loop, fifo = tmp_path / "loop.json", tmp_path / "fifo.json"
    loop.symlink_to(loop)
    os.mkfifo(fifo)
    (tmp_path / "dir.json").mkdir()

    refused(tmp_path / "missing.json", "does not exist")
    refused(loop, "cannot be opened: Too many levels of symbolic links")
    refused(fifo, "is not a regular file")
    refused(tmp_path / "dir.json", "is a folder.*file of rows inside")
    refused(Path("/dev/zero"), "is not a regular file")
    with pytest.raises(MoltingError, match="cannot be opened"):
        open_records("a\0b.json")


def test_empty_files(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.json", b""), "is empty")
    refused(write(tmp_path / "b.json", b"  \n "), "is not a JSON array or object")
    assert values(write(tmp_path / "c.json", b"[]")) == []
    assert values(write(tmp_path / "d.jsonl", b"\n\n")) == []
    assert values(write(tmp_path / "e.csv", b"a,b\n")) == []


def test_archives_and_pickles_are_not_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> Any:
            return (canary.touch, ())

    refused(write(tmp_path / "a.json.gz", gzip.compress(b"[" + b" " * 10**7)), "is a gzip archive.*gunzip")
    refused(write(tmp_path / "b.json", gzip.compress(b"0" * 10**7)), "is a gzip archive")
    refused(write(tmp_path / "c.xlsx", b"PK\x03\x04rest"), "zip archive or a spreadsheet")
    refused(write(tmp_path / "d.pkl", pickle.dumps(Bomb())), "can run code")
    refused(write(tmp_path / "e.json", pickle.dumps(Bomb())), "pickle")
    refused(write(tmp_path / "f.json", '[{"a": 1}]'.encode("utf-16-le")), "zero bytes.*UTF-16")
    refused(write(tmp_path / "g.dat", b"[1]"), "does not say what it is.*\\.jsonl")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b'[{"a": 1}, {"a": 2', "breaks off in the middle"),
        (b'[{"a": 1}, {"a": 2}', "is not valid JSON after 2 complete rows"),
        (b'[{"a": 1}, oops]', "is not valid JSON after 1 complete rows, near byte"),
        (b'[{"a": "\xff\xfe"}]', "not valid JSON.*UTF-?8"),
        (b'[{"a": 1}] trailing]', "is not valid JSON"),
        (b'"just a text"', "not a JSON array or object"),
        (b'{"a": [{"b": 1}, }', "not valid JSON"),
    ],
)
def test_a_broken_array_is_refused_where_it_breaks(tmp_path: Path, text: bytes, match: str) -> None:
    refused(write(tmp_path / "a.json", text), match)


def test_damaged_parquet(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.parquet", b"PAR1" + b"\x00" * 100 + b"PAR1"), "not a sound Parquet file")
    refused(write(tmp_path / "b.parquet", b"not parquet"), "not a sound Parquet file")


def test_csv_without_a_usable_header(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.csv", "a,a\n1,2\n"), "no usable header")
    refused(write(tmp_path / "b.csv", "\n1,2\n"), "no usable header")


# -- rows that are damaged, counted and told


def test_damaged_lines_are_dropped_one_by_one(tmp_path: Path) -> None:
    lines = [
        b'{"ok": 1}',
        b"not json",
        b'{"a": "\xff"}',
        b"[1, 2]",
        b"7",
        b"null",
        b"true",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"deep":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"score": NaN, "big": 9223372036854775808, "huge": 1e400}',
        b'{"twice": 1, "twice": 2}',
        b'"a bare text"',
    ]
    stream = open_records(write(tmp_path / "a.jsonl", b"\n".join(lines)))

    records = list(stream)

    assert [record.index for record in records] == [0, 9, 10, 11]
    assert records[1].value["big"] == 2**63
    assert records[2].value == {"twice": 2}
    assert stream.dropped == {
        "not valid JSON": 1,
        "not UTF-8 text": 1,
        "the row is a list where an object or a text was expected": 1,
        "the row is a number where an object or a text was expected": 1,
        "the row is null where an object or a text was expected": 1,
        "the row is true or false where an object or a text was expected": 1,
        "nested too deeply": 1,
        "nested more than 64 levels deep": 1,
    }
    assert stream.read == len(lines) == len(records) + stream.dropped.total()
    assert [example.index for example in stream.examples] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_an_array_s_odd_rows(tmp_path: Path) -> None:
    deep = b'{"deep":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    text = b'[{"a": 9223372036854775808, "b": 2.5}, ' + deep + b', 3, {"a": 1, "a": 2}, "text", null]'
    stream = open_records(write(tmp_path / "a.json", text))

    records = list(stream)

    assert [record.index for record in records] == [0, 3, 4]
    assert records[0].value["a"] == 2**63
    assert records[1].value == {"a": 2}
    assert stream.dropped.total() == 3


def test_not_a_number_does_not_cost_an_array_its_rows(tmp_path: Path) -> None:
    rows = [{"text": f"row {i}", "score": float("nan") if i == 700 else i} for i in range(1000)]

    read = values(write(tmp_path / "a.json", json.dumps(rows)))

    assert [row["text"] for row in read] == [row["text"] for row in rows]


def test_csv_rows_with_other_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"a,b\n1,2\n3\n4,5,6\n\n\xff,8\na\rb,c\n9,10\n")

    assert values(path) == [{"a": "1", "b": "2"}, {"a": "9", "b": "10"}]
    assert reasons(path) == {"does not have the 2 columns of the header": 2, "not UTF-8 text": 1, "not valid CSV": 1}


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "café\nok\n".encode("latin-1"))

    assert values(path) == ["ok"]
    assert reasons(path) == {"not UTF-8 text": 1}


def test_thousands_of_damaged_rows_take_no_memory(tmp_path: Path) -> None:
    stream = open_records(write(tmp_path / "a.jsonl", b"broken\n" * 50_000))

    assert list(stream) == []
    assert stream.dropped == {"not valid JSON": 50_000} and len(stream.examples) <= 20


# -- bounds


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """A record limit of 256 KiB, so that the tests need no gigabytes."""
    from engine.data import read_json, read_text

    for module in (source, read_json, read_text):
        monkeypatch.setattr(module, "RECORD_LIMIT", 256 << 10)
    return 256 << 10


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".csv", ".json"])
def test_a_line_without_end_is_read_in_bounded_memory(tmp_path: Path, small_limit: int, suffix: str) -> None:
    begin = {".jsonl": '{"a": 1}\n{"a": "', ".txt": "first\n", ".csv": "a\n", ".json": '[{"a": 1}, {"a": "'}[suffix]
    end = {".jsonl": '"}\n{"a": 3}\n', ".txt": "\nlast\n", ".csv": "\nx\n", ".json": '"}]'}[suffix]
    path = tmp_path / f"a{suffix}"
    with path.open("wb") as file:
        file.write(begin.encode())
        for _ in range(20):
            file.write(b"x" * small_limit)
        file.write(end.encode())

    tracemalloc.start()
    if suffix in (".csv", ".json"):
        with pytest.raises(MoltingError, match=r"longer than|without a complete row after row 1"):
            values(path)
    else:
        assert len(values(path)) == 2
        assert sum(reasons(path).values()) == 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 * small_limit


def test_an_open_quote_in_csv_is_told(tmp_path: Path, small_limit: int) -> None:
    path = write(tmp_path / "a.csv", 'a,b\n1,"2\n' + "3,4\n" * 100_000)

    refused(path, r"field longer than.*quote")


def test_one_huge_object_is_refused(tmp_path: Path, small_limit: int) -> None:
    refused(write(tmp_path / "a.json", '{"a": "' + "x" * 3 * small_limit + '"}'), "without an array of rows")


def test_a_big_array_streams_in_bounded_memory_and_starts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "array.json"
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from read_array import write_array
    finally:
        sys.path.pop(0)
    write_array(path, 40_000)

    start = time.perf_counter()
    assert isinstance(next(iter(open_records(path))), Record)
    first = time.perf_counter() - start
    start = time.perf_counter()
    count = sum(1 for _ in open_records(path))
    total = time.perf_counter() - start

    assert count == 40_000
    assert first < total / 10
    code = (
        "import resource, sys\nfrom engine.data.read import open_records\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"for record in open_records({str(path)!r}): pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert int(grown) * 1024 < path.stat().st_size / 2


def test_files_are_closed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n' * 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        for _ in range(400):
            rows = iter(open_records(path))
            next(rows)
            rows.close()  # type: ignore[attr-defined]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@given(st.lists(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=4)))
@settings(max_examples=60, deadline=None)
def test_any_rows_come_back_from_array_and_lines(tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    ascii_only = all(key.isascii() for row in rows for key in row)
    array = write(folder / "a.json", json.dumps(rows, ensure_ascii=not ascii_only))
    lines = write(folder / "a.jsonl", "\n".join(json.dumps(row) for row in rows) or "\n")

    assert values(array) == rows
    assert values(lines) == rows


@given(st.binary(min_size=1, max_size=400), st.sampled_from([".json", ".jsonl", ".csv", ".txt", ".parquet"]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_rows_or_a_sentence(tmp_path_factory: Any, data: bytes, suffix: str) -> None:
    path = write(tmp_path_factory.mktemp("bytes") / f"a{suffix}", data)

    try:
        stream = open_records(path)
        rows = list(stream)
    except MoltingError as error:
        assert str(path) in error.message
    else:
        assert stream.read == len(rows) + stream.dropped.total()
