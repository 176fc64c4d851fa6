"""A stream that is stopped at any row goes on as if it had not been, without reading again what was learned."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.errors import MoltingError
from engine.data import index, stream
from engine.data.indexing import Indexing
from engine.data.prepare import DataOptions
from engine.data.rows import EncodedRow
from engine.data.stream import Position, RowStream
from engine.train.rows import Streamed
from tests.engine.data.test_prepare import encoder

ROWS = 3500
Write = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def records() -> list[dict[str, Any]]:
    """Among them some that make no row."""
    return [{"prompt": f"Question {i}?", "completion": f"Answer {i}." if i % 97 else ""} for i in range(ROWS)]


def as_array(folder: Path) -> Path:
    items = [json.dumps(row) for row in records()]
    items[::500] = ["7"] * len(items[::500])  # damaged ones
    (folder / "rows.json").write_text("[" + ",\n".join(items) + "]", "utf-8")
    return folder / "rows.json"


def as_lines(folder: Path) -> Path:
    lines = [json.dumps(row) for row in records()]
    lines[3::500] = ["{broken"] * len(lines[3::500])
    (folder / "rows.jsonl").write_text("\n\n".join(lines), "utf-8")
    return folder / "rows.jsonl"


def as_csv(folder: Path) -> Path:
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(records())
    return folder / "rows.csv"


def as_parquet(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(records()), folder / "rows.parquet", row_group_size=700)
    return folder / "rows.parquet"


def as_wide_characters(folder: Path) -> Path:
    """No byte of it is a place to begin at, so it is read through."""
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, records())), "utf-16")
    return folder / "rows.jsonl"


def opened(path: Path) -> RowStream:
    return RowStream(DataOptions(train=path, shuffle_buffer=200), encoder("none"))


def counts(stream: RowStream) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(stream.funnel).items() if name != "examples"}


def kept(position: Position) -> Position:
    """As a checkpoint keeps it."""
    return msgspec.json.decode(msgspec.json.encode(position), type=Position)


@pytest.mark.parametrize("write", [as_array, as_lines, as_csv, as_parquet, as_wide_characters])
def test_it_goes_on_with_the_same_rows_in_every_format(tmp_path: Path, write: Write) -> None:
    whole = opened(write(tmp_path))
    every = list(whole)
    assert len(every) > 3000

    for stop in (1, 1500, len(every) - 50, len(every)):
        stopped = opened(whole.options.train)
        rows = iter(stopped)
        assert list(islice(rows, stop)) == every[:stop]
        at = kept(rows.position())
        resumed = opened(whole.options.train)
        assert list(resumed.go_on(at, index.build(whole.options.train))) == every[stop:]
        assert resumed.funnel.read == ROWS
        assert counts(resumed) == counts(whole)


def test_what_is_held_out_is_never_trained_on_and_each_pass_has_an_order_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in records()[1:90]))
    split = RowStream(DataOptions(train=path, heldout_fraction=0.2, shuffle_buffer=20), encoder("none"))

    heldout, passes = split.heldout(), []
    for epoch in (0, 1):
        split.set_epoch(epoch)
        passes.append([tuple(row.input_ids) for row in split])
        assert (split.funnel.trained, split.funnel.heldout) == (len(passes[-1]), len(heldout))
    assert len(heldout) + len(passes[0]) == 89 and 5 < len(heldout) < 40
    assert not {tuple(row.input_ids) for row in heldout} & set(passes[0])
    assert passes[0] != passes[1] and sorted(passes[0]) == sorted(passes[1])
    list(islice(iter(split), 2))
    assert split.funnel.trained == len(passes[0])  # a run that ends early in its third pass has seen all of them


@pytest.mark.parametrize("write", [as_array, as_lines, as_csv, as_parquet])
def test_what_was_learned_is_not_read_again(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path)
    rows = iter(opened(path))
    list(islice(rows, 2900))
    at = rows.position()
    oldest = min([*at.buffer, *at.ready])

    again = opened(path).go_on(at, index.build(path))
    next(again)

    assert oldest > 1500
    assert oldest - index.STEP < again.records.first <= oldest


def test_a_pass_that_was_resumed_can_be_resumed_again(tmp_path: Path) -> None:
    path = as_array(tmp_path)
    every, got = list(opened(path)), list[EncodedRow]()
    rows = iter(opened(path))
    while part := list(islice(rows, 613)):
        got += part
        rows = opened(path).go_on(kept(rows.position()), index.build(path))

    assert got == every


def test_a_buffer_that_is_full_of_text_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER_CHARS", 700)
    path = as_lines(tmp_path)
    every = list(opened(path))
    for stop in (10, 700, 701):
        rows = iter(opened(path))
        list(islice(rows, stop))
        assert len(rows.position().buffer) < 40
        assert list(opened(path).go_on(rows.position(), index.build(path))) == every[stop:]


def test_steps_go_on_across_the_end_of_the_file(tmp_path: Path) -> None:
    path = as_csv(tmp_path)
    whole, stopped = (Streamed(opened(path), 500) for _ in range(2))
    every = [whole(step) for step in range(20)]
    for step in range(11):
        stopped(step)

    resumed = Streamed(opened(path), 500)
    resumed.go_on(11, kept(stopped.position()), index.build(path))

    assert stopped.position().epoch == 1
    assert [resumed(step) for step in range(11, 20)] == every[11:]


def test_a_file_that_lost_its_end_is_named(tmp_path: Path) -> None:
    path = as_lines(tmp_path)
    rows = iter(opened(path))
    list(islice(rows, 3000))
    path.write_text("\n".join(map(json.dumps, records()[:2000])), "utf-8")

    with pytest.raises(MoltingError, match="fewer records than when the run was stopped"):
        opened(path).go_on(rows.position(), index.build(path))


def test_the_index_is_built_beside_the_reading(tmp_path: Path) -> None:
    path = as_array(tmp_path)
    indexing = Indexing(path)
    found = indexing.wait()
    assert (found.count, indexing.count) == (ROWS, ROWS)
    assert index.cached(path) == found

    path.write_text("not rows")
    broken = Indexing(path)
    with pytest.raises(MoltingError, match="not a JSON array"):
        broken.wait()
    assert broken.count is None


def test_the_count_of_records_is_estimated_until_it_is_known(tmp_path: Path) -> None:
    whole = opened(as_array(tmp_path))
    assert whole.estimated() == 0
    list(islice(iter(whole), 2500))
    assert whole.estimated() == pytest.approx(ROWS, rel=0.2)
