"""The encoder on real families' templates: the ids of transformers, and exactly the answers learned."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.conversation import Conversation, Turn
from engine.data.encode import EncodedRow, Encoder
from engine.data.template import ChatTemplate, template_source
from tests.support.chat_families import FAMILIES, tokenizer_of

ALL = sorted(FAMILIES)
# Gemma and Mistral refuse a system turn; Mistral v0.3 leaves it out of conversations that end in an answer.
NO_SYSTEM = ("gemma", "mistral", "mistral-v3")
FRAGMENTS = [
    "hello", "Quem é você?", " ", "\n", "\n\n", "\t", "  ", "é", "👩‍👩‍👧", "日本語", "e\u0301", "\u200b", "\u202e", "'",
    "{{ x }}", "<|im_end|>", "<|im_start|>assistant\n", "</s>", "<s>", "<|end|>", "<|assistant|>", "<|user|>\n",
    "[INST]", "[/INST]", "<|eot_id|>", "<end_of_turn>", "<start_of_turn>model\n", "<|endoftext|>", "return a + b",
    "\x00", "\r\n",
]  # fmt: skip
contents = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=5).map("".join)


@functools.cache
def encoder_of(name: str, template: str = "") -> Encoder:
    tokenizer = tokenizer_of(name)
    source = template_source(template, FAMILIES[name].template)
    assert source is not None
    chat = ChatTemplate(source, tokenizer.special_tokens_map)
    return Encoder(tokenizer, chat, eos_ids=[tokenizer.eos_token_id], bos_id=tokenizer.bos_token_id, max_length=10**6)


def conversation(*contents: str, system: str | None = None) -> Conversation:
    turns = [Turn("user" if i % 2 == 0 else "assistant", content) for i, content in enumerate(contents)]
    return Conversation([Turn("system", system), *turns] if system is not None else turns)


def reference_ids(name: str, given: Conversation) -> list[int]:
    """What transformers makes of the conversation, the system prompt merged where the family has no such role."""
    turns = list(given.turns)
    if turns[0].role == "system" and name in NO_SYSTEM:
        system, first, *rest = turns
        turns = [Turn("user", f"{system.content}\n\n{first.content}"), *rest]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    ids: list[int] = tokenizer_of(name).apply_chat_template(messages, tokenize=True, return_dict=False)
    return ids


def learned_texts(name: str, row: EncodedRow) -> list[str]:
    """What each learned run of tokens says."""
    tokenizer: Any = tokenizer_of(name)
    return [tokenizer.decode(row.input_ids[s.start : s.end]) for s in row.spans if s.learned]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("system", [None, "Você é o Cláudio."])
def test_learns_exactly_the_answers_and_their_end(name: str, system: str | None) -> None:
    given = conversation("Quem é você?", "Sou o Cláudio, de Salvador.", "And you?", "I am Molting.", system=system)

    row = encoder_of(name).encode(given)

    end = FAMILIES[name].end
    assert [text.strip() for text in learned_texts(name, row)] == [
        f"Sou o Cláudio, de Salvador.{end}",
        f"I am Molting.{end}",
    ]
    assert row.input_ids == reference_ids(name, given)


@pytest.mark.parametrize("name", ALL)
def test_the_row_begins_with_the_prompt_of_inference_and_stops_where_generation_stops(name: str) -> None:
    encoder = encoder_of(name)
    turns = [Turn("user", "Quem é você?"), Turn("assistant", "Sou o Cláudio.")]

    row = encoder.encode(Conversation(turns))
    prompt = encoder.prompt_ids(turns[:1])

    learned = [span for span in row.spans if span.learned]
    assert row.input_ids[: len(prompt)] == prompt
    assert learned[0].start == len(prompt)
    assert row.input_ids[learned[-1].end - 1] == encoder.stop_ids[0]
    if name != "smollm2":  # whose beginning of text is also the beginning of a turn
        assert row.input_ids.count(tokenizer_of(name).bos_token_id) <= 1


@pytest.mark.parametrize("name", ALL)
@given(
    texts=st.lists(st.tuples(contents, contents), min_size=1, max_size=3), system=st.none() | contents.filter(str.strip)
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_conversation(name: str, texts: list[tuple[str, str]], system: str | None) -> None:
    given = conversation(*(text for pair in texts for text in pair), system=system)

    row = encoder_of(name).encode(given)

    assert row.input_ids == reference_ids(name, given)
    assert [span.start for span in row.spans] == [0, *(span.end for span in row.spans)][:-1]
    assert row.spans[-1].end == len(row.input_ids) == len(row.labels)
    for i, label in enumerate(row.labels):
        assert label in (-100, row.input_ids[i])
    family = FAMILIES[name]
    said = learned_texts(name, row)
    assert len(said) == len(texts)
    for text, (_, answer) in zip(said, texts, strict=True):
        _assert_says(text, answer.strip() if family.trims else answer, family.end, exact=family.kind == "bytes")


def _assert_says(text: str, answer: str, end: str, *, exact: bool) -> None:
    """`text` is the answer and its end; blanks may have merged into a header's token, or into a special one."""
    if not exact:
        text, answer = "".join(text.split()), "".join(answer.split())
        text, answer = text.replace("\u200b", ""), answer.replace("\u200b", "")
    assert text.endswith(end)
    expected = answer + end
    missing = expected.removesuffix(text) if exact else ""
    assert expected.endswith(text) and not missing.strip(), (text, expected)


@pytest.mark.parametrize("name", [name for name in ALL if FAMILIES[name].shipped])
@given(texts=st.lists(contents, min_size=1, max_size=4), prompt=st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_shipped_template_writes_what_the_family_s_own_does(name: str, texts: list[str], prompt: bool) -> None:
    turns = conversation(*texts).turns
    own, shipped = encoder_of(name).template, encoder_of(name, FAMILIES[name].shipped).template
    assert own is not None and shipped is not None

    assert shipped.render(turns, generation_prompt=prompt) == own.render(turns, generation_prompt=prompt)
