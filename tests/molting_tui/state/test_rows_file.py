from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.contract.errors import MoltingError
from molting_tui.state.row_form import Part, Shape
from molting_tui.state.row_text import from_text, to_text
from molting_tui.state.rows_file import Row, parse
from molting_tui.state.writing import Writing

SHARE = Shape("sharegpt", {"turns": "conversations", "role": "from", "content": "value"})
CHAT = Shape("messages", {"turns": "messages", "role": "role", "content": "content"})
ROWS = [
    {"id": i, "conversations": [{"from": "human", "value": f"Q{i}?"}, {"from": "gpt", "value": 'Olá, "é"\n.'}]}
    for i in range(5)
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=15)
VALUE = st.recursive(
    TEXT | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)
STYLES = [
    {"indent": 2, "ensure_ascii": False}, {"indent": 4}, {"indent": "\t"}, {}, {"separators": (",", ":")},
    {"ensure_ascii": False},
]  # fmt: skip


@given(rows=st.lists(st.dictionaries(TEXT, VALUE, max_size=3), max_size=6), style=st.sampled_from(STYLES))
def test_an_untouched_array_is_written_byte_for_byte(rows: list[Any], style: dict[str, Any]) -> None:
    data = (json.dumps(rows, **style) + "\n").encode()
    layout, found = parse(data, ".json")
    assert [row.value for row in found] == rows
    if rows:
        assert layout.text(found).encode() == data


@given(
    rows=st.lists(st.dictionaries(TEXT, VALUE, min_size=1, max_size=3), min_size=1, max_size=6),
    breaks=st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"]),
    end=st.booleans(),
)
def test_untouched_lines_are_written_byte_for_byte(rows: list[Any], breaks: str, end: bool) -> None:
    data = (breaks.join(json.dumps(row) for row in rows) + breaks * end).encode()
    layout, found = parse(data, ".jsonl")
    assert [row.value for row in found] == rows
    assert layout.text(found).encode() == data


CELL = st.text(st.sampled_from('ab,;"\n\t é'), max_size=6)


@given(
    rows=st.lists(st.tuples(CELL, CELL.map(lambda text: text + "x")), max_size=6),
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_an_untouched_csv_is_written_byte_for_byte(
    rows: list[tuple[str, str]], delimiter: str, quoting: Any, newline: str
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=newline)
    writer.writerow(["prompt", "completion"])
    writer.writerows(rows)
    data = out.getvalue().encode()
    layout, found = parse(data, ".csv")
    assert [tuple(row.value.values()) for row in found] == rows
    assert layout.text(found).encode() == data
    for row in found:  # one that is written anew says the same
        again = parse(layout.text([layout.row(row.value)]).encode(), ".csv")[1]
        assert [each.value for each in again] == [row.value]


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_an_edited_row_looks_like_its_neighbours(style: dict[str, Any]) -> None:
    layout, rows = parse(json.dumps(ROWS, **style).encode(), ".json")
    writing = Writing(layout, rows)
    parts = SHARE.parts(rows[2].value)
    writing.put(2, layout.row(SHARE.value([parts[0], Part("assistant", "Não.")], rows[2].value), rows[2].lead))
    writing.add(5, layout.row(SHARE.value([Part("user", "Quem?"), Part("assistant", "Eu.")])))
    expected = [dict(row) for row in ROWS]
    expected[2] = {"id": 2, "conversations": [ROWS[2]["conversations"][0], {"from": "gpt", "value": "Não."}]}  # type: ignore[index]
    expected.append({"conversations": [{"from": "human", "value": "Quem?"}, {"from": "gpt", "value": "Eu."}]})
    assert writing.text() == json.dumps(expected, **style)


def test_moved_and_deleted_rows_leave_a_sound_file() -> None:
    layout, rows = parse(json.dumps(ROWS, indent=2).encode(), ".json")
    writing = Writing(layout, rows)
    writing.move(0, 1)
    writing.delete(4)
    moved = [ROWS[1], ROWS[0], ROWS[2], ROWS[3]]
    assert writing.text() == json.dumps(moved, indent=2)
    for _ in moved:
        writing.delete(0)
    assert json.loads(writing.text()) == []


def test_a_mark_at_the_beginning_and_other_keys_stay() -> None:
    text = '\ufeff{"version": 1.0, "rows": [\n {"prompt": "a", "completion": "b"}\n], "more": [1]}'
    layout, rows = parse(text.encode(), ".json")
    assert layout.text(rows) == text
    layout, rows = parse(b"[]\n", ".json")
    assert layout.text([layout.row({"a": 1})]) == '[\n  {"a": 1}\n]\n'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (".json", b'{"one": "object"}'), (".json", b"[" * 20_000), (".json", b'[{"a": 1} {"b": 2}]'), (".json", b"7"),
        (".jsonl", b"\xff\xfe"), (".parquet", b"PAR1"), (".jsonl", b"{}\n" * 5001), (".json", b"[1, 2"),
        (".json", b" " * (9 << 20)),
    ],
    ids=lambda value: str(value)[:24],
)  # fmt: skip
def test_what_cannot_be_edited_is_said_in_one_sentence(name: str, data: bytes) -> None:
    with pytest.raises(MoltingError) as said:
        parse(data, name)
    assert said.value.message.startswith("Rows of this file cannot be edited here: ")


def test_a_damaged_line_is_kept_as_it_is() -> None:
    data = b'{"prompt": "a", "completion": "b"}\n{broken\n'
    layout, rows = parse(data, ".jsonl")
    assert rows[1].value is None
    assert layout.text(rows).encode() == data


def test_paragraphs_stay_paragraphs() -> None:
    data = b"\nOne.\nStill one.\n\n\nTwo.\n"
    layout, rows = parse(data, ".txt")
    assert [row.value for row in rows] == ["One.\nStill one.", "Two."]
    assert layout.text(rows).encode() == data
    with pytest.raises(MoltingError, match="blank line"):
        layout.row("Three.\n\nFour.")


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        (SHARE, ROWS[0]),
        (CHAT, {"messages": [{"role": "user", "content": "a", "weight": 1}, {"role": "assistant", "content": "b"}]}),
        (Shape("alpaca", {"instruction": "instruction", "input": "input", "output": "output"}),
         {"instruction": "a", "output": "b", "source": 7}),
        (Shape("prompt_completion", {"prompt": "pergunta", "completion": "resposta"}),
         {"pergunta": "a", "resposta": 12, "system": "s"}),
        (Shape("title_content", {"title": "title", "content": "body"}), {"title": "a", "body": "b"}),
        (Shape("text", {"text": "text"}), {"text": "a", "more": None}),
    ],
)  # fmt: skip
def test_a_row_whose_parts_did_not_change_did_not_change(shape: Shape, row: dict[str, Any]) -> None:
    assert shape.value(shape.parts(row), row) == row
    changed = [Part(part.role, f"{part.text}!") for part in shape.parts(row)]
    assert [part.text for part in shape.parts(shape.value(changed, row))] == [part.text for part in changed]
    assert shape.parts(shape.value(shape.empty())) == shape.empty()


PARTS = st.lists(
    st.builds(
        Part,
        st.sampled_from(["system", "user", "assistant"]),
        st.text(st.sampled_from("a#\\ \né"), max_size=20) | st.just("### user\n\\### x"),
    ),
    min_size=1,
    max_size=4,
)


@given(parts=PARTS)
def test_a_row_survives_the_way_through_an_editor(parts: list[Part]) -> None:
    assert from_text(to_text(parts), ("system", "user", "assistant")) == parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello\n### user\nx\n", "Line 1 stands before"),
        ("### user\nx\n### usr\n", "Line 3: there is no role 'usr'"),
        ("\n", "no turn"),
    ],
)
def test_what_an_editor_gives_back_is_checked(text: str, words: str) -> None:
    with pytest.raises(MoltingError, match=words):
        from_text(text, ("user", "assistant"))


class Undoing(RuleBasedStateMachine):
    """Whatever was done, undo and redo walk along the very states that were passed."""

    def __init__(self) -> None:
        super().__init__()
        layout, rows = parse(json.dumps(ROWS).encode(), ".json")
        self.writing = Writing(layout, rows)
        self.past = [list(self.writing.rows)]
        self.at = self.saved = 0
        self.made = 0

    def changed(self) -> None:
        if self.writing.rows == self.past[self.at]:
            return
        if self.saved > self.at:
            self.saved = -1
        del self.past[self.at + 1 :]
        self.past.append(list(self.writing.rows))
        self.at += 1

    def new(self) -> Row:
        self.made += 1
        return Row(f'"{self.made}"', str(self.made))

    @rule(at=st.integers(0, 8))
    def add(self, at: int) -> None:
        self.writing.add(at, self.new())
        self.changed()

    @rule(at=st.integers(0, 8))
    def put(self, at: int) -> None:
        if self.writing.rows:
            self.writing.put(at % len(self.writing.rows), self.new())
            self.changed()

    @rule(at=st.integers(0, 8))
    def delete(self, at: int) -> None:
        if self.writing.rows:
            self.writing.delete(at % len(self.writing.rows))
            self.changed()

    @rule(at=st.integers(0, 8), by=st.sampled_from([-1, 1]))
    def move(self, at: int, by: int) -> None:
        if self.writing.rows:
            self.writing.move(at % len(self.writing.rows), by)
            self.changed()

    @rule()
    def undo(self) -> None:
        assert (self.writing.undo() is not None) == (self.at > 0)
        self.at = max(0, self.at - 1)

    @rule()
    def redo(self) -> None:
        assert (self.writing.redo() is not None) == (self.at < len(self.past) - 1)
        self.at = min(len(self.past) - 1, self.at + 1)

    @rule()
    def save(self) -> None:
        self.writing.saved()
        self.saved = self.at

    @invariant()
    def stands_where_it_should(self) -> None:
        assert self.writing.rows == self.past[self.at]
        assert self.writing.dirty == (self.at != self.saved)
        assert isinstance(json.loads(self.writing.text()), list)


TestUndoing = Undoing.TestCase
