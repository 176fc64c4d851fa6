from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from engine.host.stream import TextStream
from tests.support.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer().backend_tokenizer


def decode(ids):
    return TOKENIZER.decode(list(ids), skip_special_tokens=False)


def streamed(ids):
    stream = TextStream(decode)
    return [*(stream.push(token) for token in ids), stream.finish()]


@given(st.text())
@example("Olá, Cláudio ☕ 👩‍👩‍👧")
def test_the_pieces_of_a_text_are_the_text(text):
    assert "".join(streamed(TOKENIZER.encode(text, add_special_tokens=False).ids)) == text


@given(st.lists(st.integers(3, 511), max_size=40))
def test_whatever_a_model_says_nothing_is_lost_and_nothing_is_half_a_character(ids):
    pieces = streamed(ids)
    assert "".join(pieces).replace("\ufffd", "") == decode(ids).replace("\ufffd", "")
    for piece in pieces:
        piece.encode("utf-8")


def test_a_character_of_several_tokens_comes_whole():
    ids = TOKENIZER.encode("☕", add_special_tokens=False).ids
    assert len(ids) > 1
    assert streamed(ids)[: len(ids)] == [""] * (len(ids) - 1) + ["☕"]


def test_bytes_that_never_become_a_character_do_not_hold_the_rest_back():
    broken = TOKENIZER.encode("☕", add_special_tokens=False).ids[0]
    pieces = streamed([broken] * 64)
    assert any(pieces[:40])


def test_a_space_that_the_tokenizer_writes_before_words_is_kept():
    words = {1: "▁Hello", 2: "▁world"}
    stream = TextStream(lambda ids: "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" "))
    assert [stream.push(1), stream.push(2)] == ["Hello", " world"]
