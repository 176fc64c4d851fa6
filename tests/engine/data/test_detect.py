"""Formats: detected, overridden, and what a row becomes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.errors import MoltingError
from engine.data.conversation import BadRow, Turn
from engine.data.convert import Mapping, to_conversation
from engine.data.detect import FORMATS, detect

SHAREGPT = {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}
MESSAGES = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}


@pytest.mark.parametrize(
    ("row", "format"),
    [
        (SHAREGPT, "sharegpt"),
        ({"conversations": MESSAGES["messages"]}, "messages"),
        (MESSAGES, "messages"),
        ({"chat": MESSAGES["messages"]}, "messages"),
        ({"conversation": SHAREGPT["conversations"], "id": 7}, "sharegpt"),
        ({"instruction": "Q", "input": "", "output": "A"}, "alpaca"),
        ({"instruction": "Q", "output": "A"}, "alpaca"),
        ({"instruction": "Q", "context": "C", "response": "A", "category": "x"}, "alpaca"),
        ({"prompt": "Q", "completion": "A"}, "prompt_completion"),
        ({"Question": "Q", "Answer": "A"}, "prompt_completion"),
        ({"pergunta": "Q", "resposta": "A"}, "prompt_completion"),
        ({"title": "Q", "content": "A"}, "title_content"),
        ({"title": "Q", "text": "A"}, "title_content"),
        ({"text": "A"}, "text"),
        ("A", "text"),
    ],
)
def test_each_format_is_detected_with_its_evidence(row: Any, format: str) -> None:
    mapping = detect([row] * 5)

    assert (mapping.format, mapping.fits, mapping.samples) == (format, 5, 5)
    assert mapping.describe().startswith(f"{format} (") and "5 of 5" in mapping.describe()
    conversation = to_conversation(row, mapping)
    assert conversation.turns[-1] == Turn("assistant", "A")
    if format != "text":
        assert conversation.turns[0].content.startswith("Q")


def test_the_format_that_most_rows_fit_wins() -> None:
    mapping = detect([{"text": "a"}, *[{"prompt": "q", "completion": "a"}] * 3, {"prompt": "", "completion": "a"}])

    assert (mapping.format, mapping.fits, mapping.samples) == ("prompt_completion", 3, 5)


def test_the_user_s_word_overrules() -> None:
    row = {"headline": "Q", "body": "A", "text": "other"}

    assert detect([row], format="text").format == "text"
    mapping = detect([row], fields={"title": "headline", "content": "text"})
    assert to_conversation(row, mapping).turns == (Turn("user", "Q"), Turn("assistant", "other"))
    assert detect([{"q": "Q", "a": "A"}], format="prompt_completion", fields={"prompt": "q", "completion": "a"})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"format": "xml"}, "no data format 'xml'.*title_content"),
        ({"fields": {"titel": "headline"}}, "titel, the parts of no format.*title_content: title, content"),
        ({"fields": {"title": "nope"}}, "None of 1 sampled rows fit.*title = 'nope'.*'headline'"),
        ({"format": "messages"}, "the format messages; their fields are 'headline'"),
        ({"title_template": "no place"}, "does not contain"),
    ],
)
def test_what_cannot_be_is_said(options: dict[str, Any], match: str) -> None:
    with pytest.raises(MoltingError, match=match) as caught:
        detect([{"headline": "x"}], **options)
    assert caught.value.reason == "bad_data"


def test_nothing_to_detect() -> None:
    with pytest.raises(MoltingError, match="None of 1 sampled rows fit any known format; their fields are 'x'"):
        detect([{"x": 1}])
    with pytest.raises(MoltingError, match="fields are none"):
        detect([" "])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": []}, "no list of turns"),
        ({"messages": "hello"}, "no list of turns"),
        ({}, "no list of turns"),
        ({"messages": ["hello"]}, "a turn is not an object"),
        ({"messages": [{"role": "user", "content": "Q"}]}, "no assistant turn"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "an empty assistant turn"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role is not"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "role is not"),
        ({"messages": [{"role": "assistant", "content": {"a": 1}}]}, "'content' is not text"),
        ({"messages": [{"role": "assistant", "content": [{"type": "image_url"}]}]}, "something other than text"),
        ({"messages": [{"role": "assistant", "content": "half \ud83d"}]}, "lone surrogate"),
        ("bare", "a bare text"),
    ],
)
def test_a_bad_row_says_why(row: Any, why: str) -> None:
    with pytest.raises(BadRow, match=why):
        to_conversation(row, detect([MESSAGES]))


@pytest.mark.parametrize("missing", [None, "", "  ", float("nan"), Decimal("NaN"), [], {"a": 1}, True, b"x"])
def test_an_answer_that_is_none_is_no_row(missing: Any) -> None:
    with pytest.raises(BadRow, match="'completion' is"):
        to_conversation({"prompt": "q", "completion": missing}, detect([{"prompt": "q", "completion": "a"}]))


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (2.5, "2.5"), (Decimal("3.10"), "3.10"), (2**63, str(2**63))])
def test_numbers_are_text(value: Any, text: str) -> None:
    row = {"prompt": "q", "completion": value}

    assert to_conversation(row, detect([row])).turns[-1].content == text


def test_parts_of_text_are_joined_and_roles_translated() -> None:
    row = {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "S"}]},
            {"role": "Human", "content": ["Q", {"type": "text", "text": "2"}]},
            {"role": "model", "content": "A"},
        ]
    }

    assert to_conversation(row, detect([row])).turns == (
        Turn("system", "S"),
        Turn("user", "Q2"),
        Turn("assistant", "A"),
    )


def test_a_row_s_own_system_prompt_is_kept() -> None:
    row = {"system": "Be brief.", "prompt": "Q", "completion": "A"}
    named = {"persona": "Be Rhea.", **MESSAGES}

    assert to_conversation(row, detect([row])).turns[0] == Turn("system", "Be brief.")
    assert to_conversation(named, detect([named])).turns[0].role == "user"
    assert to_conversation(named, detect([named], fields={"system": "persona"})).turns[0].content == "Be Rhea."


def test_an_alpaca_input_belongs_to_the_question() -> None:
    row = {"instruction": "Translate", "input": "olá", "output": "hello"}

    assert to_conversation(row, detect([row])).turns[0].content == "Translate\n\nolá"


def test_a_title_template_frames_the_title() -> None:
    row = {"title": "{title} %s", "content": "A"}
    plain, framed = detect([row]), detect([row], title_template="Describe: {title}\n")

    assert to_conversation(row, plain).turns[0].content == "{title} %s"
    assert plain.join == "\n\n"
    assert to_conversation(row, framed).turns[0].content == "Describe: {title} %s"
    assert framed.join == "\n"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=8,
)
NAMES = ["messages", "conversations", "instruction", "output", "prompt", "completion", "title", "content", "text"]


@given(st.dictionaries(st.sampled_from(NAMES), json_values), st.sampled_from(FORMATS))
def test_any_row_is_a_conversation_or_a_reason(row: dict[str, Any], format: str) -> None:
    fields = {name: name for name in ("instruction", "input", "output", "prompt", "completion", "title", "content")}
    mapping = Mapping(format=format, fields=fields | {"turns": "messages", "role": "role", "text": "text"})

    try:
        conversation = to_conversation(row, mapping)
    except BadRow as bad:
        assert bad.why
    else:
        assert any(turn.role == "assistant" and turn.content.strip() for turn in conversation.turns)
