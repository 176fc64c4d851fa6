"""From file to rows: nothing lost without a word, the held-out rows stay held out, streams in bounded memory."""

from __future__ import annotations

import functools
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.errors import MoltingError
from engine.data.encode import Encoder
from engine.data.prepare import DataOptions, Prepared, hold_out, prepare
from engine.data.stream import RowStream
from engine.data.template import ChatTemplate, template_source
from tests.support.chat_families import CHATML_SPECIALS, byte_level

ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("MOLTING_SHARED", ROOT.parent / "shared"))


@functools.cache
def encoder(name: str = "chatml", max_length: int = 512) -> Encoder:
    source = template_source(name, None)
    template = ChatTemplate(source, {"eos_token": "</s>"}) if source else None
    return Encoder(byte_level((*CHATML_SPECIALS, "</s>")), template, eos_ids=[0], max_length=max_length)


def row(i: int) -> dict[str, Any]:
    return {"prompt": f"question {i}", "completion": f"answer {i}"}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def adds_up(prepared: Prepared) -> bool:
    funnel = prepared.funnel
    assert funnel.trained == len(prepared.train) and funnel.heldout == len(prepared.heldout)
    assert funnel.tokens == sum(len(row.input_ids) for row in prepared.train)
    assert funnel.learned_tokens == sum(row.n_learned for row in prepared.train)
    return funnel.read == sum(funnel.dropped.values()) + funnel.heldout + funnel.trained


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    rows = [row(i) for i in range(30)]
    path = write(
        tmp_path / "a.jsonl", [*rows, {"prompt": "q"}, {"x": 1}, [1], {"prompt": "q", "completion": "w " * 999}]
    )
    path.write_text(path.read_text() + "broken\n")

    prepared = prepare(DataOptions(train=path), encoder())

    assert adds_up(prepared)
    assert prepared.funnel.read == 35
    assert prepared.funnel.dropped == {
        "'completion' is missing or empty": 1,
        "'prompt' is missing or empty": 1,
        "the row is a list where an object or a text was expected": 1,
        "longer than 512 tokens even without earlier turns and the question": 1,
        "not valid JSON": 1,
    }
    assert {example.index for example in prepared.funnel.examples} == {30, 31, 32, 33, 34}
    assert "35 rows read, 5 dropped (1 " in prepared.funnel.describe()


def test_added_rows_move_no_row_to_the_other_side(tmp_path: Path) -> None:
    few = prepare(DataOptions(train=write(tmp_path / "a.jsonl", [row(i) for i in range(100)])), encoder())
    more = prepare(DataOptions(train=write(tmp_path / "b.jsonl", [row(i) for i in range(-50, 150)])), encoder())
    other = prepare(DataOptions(train=tmp_path / "a.jsonl", seed=7), encoder())

    held = {tuple(row.input_ids) for row in few.heldout}
    assert 2 <= len(held) <= 25
    assert held <= {tuple(row.input_ids) for row in more.heldout}
    assert held != {tuple(row.input_ids) for row in other.heldout}
    assert few.train + few.heldout and not held & {tuple(row.input_ids) for row in few.train}


def test_rows_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    prepared = prepare(
        DataOptions(train=write(tmp_path / "a.jsonl", [row(i) for i in range(9)]), heldout_fraction=0.0), encoder()
    )

    decode = encoder().tokenizer.decode
    assert ["question %d" % i in decode(row.input_ids) for i, row in enumerate(prepared.train)] == [True] * 9  # noqa: UP031


@given(st.lists(st.floats(0, 1, exclude_max=True), max_size=60), st.floats(0, 1))
def test_some_are_held_out_and_never_all(shares: list[float], fraction: float) -> None:
    taken = hold_out(shares, fraction)

    assert len(taken) < len(shares) or not shares
    if fraction > 0 and len(shares) >= 10:
        assert taken
    if fraction == 0:
        assert not taken


def test_a_held_out_file_is_read_whole_and_none_is_taken_from_training(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [row(i) for i in range(40)])
    heldout = write(tmp_path / "heldout.jsonl", [row(100), {"prompt": "no answer"}, row(101)])

    prepared = prepare(DataOptions(train=train, heldout=heldout, heldout_fraction=0.5), encoder())

    assert adds_up(prepared)
    assert (len(prepared.train), len(prepared.heldout), prepared.funnel.read) == (40, 2, 43)


def test_no_row_at_all_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    broken = tmp_path / "a.jsonl"
    broken.write_text("broken\n" * 5)
    long = write(tmp_path / "b.jsonl", [{"prompt": "q", "completion": "word " * 999}] * 3)

    with pytest.raises(MoltingError, match=r"No row of .*a.jsonl.*5 read.*5 not valid JSON"):
        prepare(DataOptions(train=broken), encoder())
    with pytest.raises(MoltingError, match=r"3 read, 0 held out, dropped: 3 longer than 512 tokens"):
        prepare(DataOptions(train=long), encoder())
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(MoltingError, match="0 read"):
        prepare(DataOptions(train=tmp_path / "c.json"), encoder())


def test_truncated_rows_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [row(0), {"prompt": "long " * 999, "completion": "a"}])

    prepared = prepare(DataOptions(train=path, heldout_fraction=0.0), encoder())

    assert prepared.funnel.truncated == 1
    assert max(len(row.input_ids) for row in prepared.train) <= 512


def test_a_stream_of_reasons_is_counted_in_bounded_memory(tmp_path: Path) -> None:
    from engine.data.funnel import MAX_REASONS, Funnel

    funnel = Funnel()
    for i in range(1000):
        funnel.drop(i, f"reason {i}")

    assert len(funnel.dropped) <= MAX_REASONS + 1 and sum(funnel.dropped.values()) == 1000
    assert Funnel().dropped == {}  # counts are not shared between funnels


def test_title_and_content_without_a_template_join_alike_in_rows_and_prompts(tmp_path: Path) -> None:
    from engine.data.conversation import Turn

    path = write(tmp_path / "a.jsonl", [{"title": f"Lamp {i}", "content": f"It shines {i}."} for i in range(3)])
    made = encoder("none")

    prepared = prepare(DataOptions(train=path, heldout_fraction=0.0), made)

    prompt = made.prompt_ids([Turn("user", "Lamp 0")])
    assert prepared.train[0].input_ids[: len(prompt)] == prompt
    assert made.tokenizer.decode(prepared.train[0].input_ids) == "Lamp 0\n\nIt shines 0."


def test_the_real_persona_of_79_rows() -> None:
    path = SHARED / "data" / "claudio" / "dataset_personality_v1.json"
    if not path.exists():
        pytest.skip(f"the real dataset is not here ({path}); set MOLTING_SHARED to the folder that holds data/claudio")
    made = encoder("zephyr", max_length=4096)

    prepared = prepare(DataOptions(train=path), made)

    assert (prepared.mapping.format, prepared.mapping.fits, prepared.funnel.read) == ("sharegpt", 79, 79)
    assert adds_up(prepared) and not prepared.funnel.dropped and prepared.heldout
    rows = json.loads(path.read_text())
    answers = {turn["value"] for row in rows for turn in row["conversations"] if turn["from"] == "gpt"}
    decode = functools.partial(made.tokenizer.decode, skip_special_tokens=False)
    learned = {
        decode(row.input_ids[span.start : span.end])
        for row in prepared.train + prepared.heldout
        for span in row.spans
        if span.learned
    }
    assert learned == {f"{answer}</s>" for answer in answers}


# -- streams


def array(tmp_path: Path, records: int) -> Path:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from read_array import write_array
    finally:
        sys.path.pop(0)
    path = tmp_path / "array.json"
    write_array(path, records)
    return path


def test_a_stream_gives_the_rows_of_prepare_in_the_seed_s_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*(row(i) for i in range(300)), {"prompt": "no answer"}])
    options = DataOptions(train=path, shuffle_buffer=50)
    prepared, stream = prepare(options, encoder()), RowStream(options, encoder())

    first, again = list(stream), list(stream)
    stream.set_epoch(1)
    second = list(stream)

    assert first == again != second
    assert first != prepared.train
    for rows in (first, second):
        assert sorted(row.input_ids for row in rows) == sorted(row.input_ids for row in prepared.train)
    assert stream.funnel == prepared.funnel
    assert stream.heldout() == prepared.heldout
    assert stream.position == stream.size == path.stat().st_size


def test_a_stream_starts_at_once_and_says_where_it_is(tmp_path: Path) -> None:
    stream = RowStream(DataOptions(train=array(tmp_path, 30_000), shuffle_buffer=500), encoder("none"))

    rows = iter(stream)
    next(rows)
    early = stream.position
    heldout = stream.heldout(20)
    for _ in range(10_000):
        next(rows)

    assert 0 < early < stream.size / 10
    assert early < stream.position < stream.size
    assert stream.funnel.trained == 10_001
    assert len(heldout) == 20


def test_a_stream_holds_no_more_than_its_buffer(tmp_path: Path) -> None:
    stream = RowStream(DataOptions(train=array(tmp_path, 6_000), shuffle_buffer=100), encoder("none"))

    tracemalloc.start()
    count = sum(1 for _ in stream)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == stream.funnel.trained > 5_000
    assert peak < stream.size


@given(st.lists(st.integers(0, 5), max_size=50), st.integers(1, 10))
@settings(deadline=None)
def test_shuffling_loses_and_doubles_nothing(lengths: list[int], size: int) -> None:
    import random

    from engine.data.conversation import Conversation, Turn
    from engine.data.stream import Shuffled

    items = [(i, Conversation([Turn("user", "x" * length)])) for i, length in enumerate(lengths)]

    assert sorted(i for i, _ in Shuffled(items, size, random.Random(0))) == list(range(len(items)))
