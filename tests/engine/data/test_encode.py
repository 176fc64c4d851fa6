"""The encoder on plain text, over-long rows, systems and refusals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from engine.contract.errors import MoltingError
from engine.data.conversation import BadRow, Conversation, Turn
from engine.data.encode import EncodedRow, Encoder
from engine.data.template import ChatTemplate, template_source
from tests.support.chat_families import CHATML_SPECIALS, byte_level

TOKENIZER = byte_level((*CHATML_SPECIALS, "<s>"))
END, TURN_END, BOS = 0, 2, 3


def encoder(name: str = "chatml", **options: Any) -> Encoder:
    source = template_source(name, None)
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "<|endoftext|>"}) if source else None
    return Encoder(TOKENIZER, template, eos_ids=[END], **options)


def text_of(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids, skip_special_tokens=False))


def learned(row: EncodedRow) -> str:
    return text_of([label for label in row.labels if label != -100])


def completion(prompt: str, answer: str) -> Conversation:
    return Conversation([Turn("user", prompt), Turn("assistant", answer)], "completion")


def plain(text: str) -> Conversation:
    return Conversation([Turn("assistant", text)], "text")


def test_an_end_token_that_runs_together_with_the_answer_is_no_end() -> None:
    tokenizer = Tokenizer.from_str(TOKENIZER.to_str())
    tokenizer.add_tokens([AddedToken("END", single_word=True)])
    template = ChatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}END\n{% endfor %}", {})
    with_end = Encoder(tokenizer, template, eos_ids=[END])

    whole, torn = with_end.encode_all(
        [Conversation([Turn("user", "Why?"), Turn("assistant", answer)]) for answer in ("Because.", "Because")]
    )
    assert isinstance(whole, EncodedRow) and tokenizer.decode([whole.labels[-2]]) == "END"
    assert isinstance(torn, BadRow) and "runs together" in torn.why


def test_plain_text_learns_every_token_and_the_end_whatever_the_model_s_template() -> None:
    for name in ("none", "chatml"):
        row = encoder(name, bos_id=BOS).encode(plain("Quem é você?"))

        assert text_of(row.input_ids) == "<s>Quem é você?<|endoftext|>"
        assert learned(row) == "Quem é você?<|endoftext|>"
        assert [(span.role, span.learned) for span in row.spans] == [("template", False), ("assistant", True)]


def test_a_text_that_brings_its_own_beginning_and_end_gets_no_second_one() -> None:
    row = encoder("none", bos_id=BOS).encode(plain("<s>Hello<|endoftext|>"))

    assert text_of(row.input_ids) == "<s>Hello<|endoftext|>"
    assert learned(row) == "Hello<|endoftext|>"


def test_a_completion_without_a_template_is_prompt_and_answer_and_end() -> None:
    row = encoder("none").encode(completion("Title\n\n", "The content."))

    assert text_of(row.input_ids) == "Title\n\nThe content.<|endoftext|>"
    assert learned(row) == "The content.<|endoftext|>"


def test_what_joins_title_and_content_is_also_what_a_prompt_ends_with() -> None:
    made = encoder("none", join="\n\n", bos_id=BOS)

    row = made.encode(completion("Title", "The content."))
    prompt = made.prompt_ids([Turn("user", "Title")])

    assert text_of(prompt) == "<s>Title\n\n"
    assert row.input_ids[: len(prompt)] == prompt
    assert learned(row) == "The content.<|endoftext|>"


def test_the_last_space_of_a_prompt_belongs_to_the_answer_as_tokenizers_have_it() -> None:
    made = encoder("none")

    row = made.encode(completion("Say: ", "hello"))
    prompt = made.prompt_ids([Turn("user", "Say: ")])

    assert learned(row) == " hello<|endoftext|>"
    assert row.input_ids[: len(prompt)] == prompt and text_of(prompt) == "Say:"


def test_with_a_template_a_completion_is_a_question_and_its_answer() -> None:
    row = encoder().encode(completion("Title", "The content."))

    assert "<|im_start|>user\nTitle<|im_end|>" in text_of(row.input_ids)
    assert learned(row) == "The content.<|im_end|>"


def test_a_conversation_without_a_template_is_refused_with_what_to_do() -> None:
    chat = Conversation([Turn("user", "Hi"), Turn("assistant", "Hello.")])

    with pytest.raises(MoltingError, match=r"no chat template.*chat_template"):
        encoder("none").encode(chat)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    with pytest.raises(MoltingError, match="never end"):
        Encoder(TOKENIZER, None, eos_ids=[])


def test_the_system_prompt_is_given_to_those_that_have_none() -> None:
    made = encoder(system_prompt="You are Molting.")
    own = Conversation([Turn("system", "You are Rhea."), Turn("user", "Hi"), Turn("assistant", "Hello.")])

    assert "system\nYou are Molting.<|im_end|>" in text_of(made.encode(completion("Hi", "Hello.")).input_ids)
    assert "Molting" not in text_of(made.encode(own).input_ids)
    assert "system\nYou are Molting.<|im_end|>" in text_of(made.prompt_ids([Turn("user", "Hi")]))
    assert "You are Rhea" in text_of(made.prompt_ids([Turn("user", "Hi")], "You are Rhea"))
    assert "system" not in text_of(made.prompt_ids([Turn("user", "Hi")], ""))


def test_a_template_s_own_system_prompt_is_known() -> None:
    assert encoder("smollm2").shape.default_system.startswith("You are a helpful AI assistant named SmolLM")  # type: ignore[union-attr]
    assert encoder("chatml").shape.default_system == ""  # type: ignore[union-attr]
    assert not encoder("gemma").shape.takes_system  # type: ignore[union-attr]


def test_generation_stops_at_the_turn_s_end_and_at_the_text_s() -> None:
    assert encoder().stop_ids == [TURN_END, END]
    assert encoder("none").stop_ids == [END]


def chat(exchanges: int, system: str | None = None, words: int = 6) -> Conversation:
    turns = [
        Turn(role, f"{'question' if role == 'user' else 'answer'} {i} " + "word " * words)  # type: ignore[arg-type]
        for i in range(exchanges)
        for role in ("user", "assistant")
    ]
    return Conversation([Turn("system", system), *turns] if system else turns)


def test_a_long_conversation_loses_its_oldest_exchanges_but_not_the_system_prompt() -> None:
    row = encoder(max_length=220).encode(chat(20, system="You are Molting."))

    text = text_of(row.input_ids)
    assert len(row.input_ids) <= 220
    assert text.startswith("<|im_start|>system\nYou are Molting.<|im_end|>\n<|im_start|>user\nquestion ")
    assert "answer 19" in learned(row) and "answer 0 " not in text
    assert row.truncated_turns > 0 and row.truncated_turns % 2 == 0
    assert row.input_ids.count(TURN_END) == 1 + 40 - row.truncated_turns
    whole = encoder(max_length=10**6).encode(chat(20, system="You are Molting."))
    assert row.lost_tokens == len(whole.input_ids) - len(row.input_ids)


def test_no_more_is_lost_than_must_be() -> None:
    whole = len(encoder().encode(chat(3)).input_ids)

    assert encoder(max_length=whole).encode(chat(3)).truncated_turns == 0
    assert encoder(max_length=whole - 1).encode(chat(3)).truncated_turns == 2


def test_a_long_question_loses_its_beginning_and_the_answer_stays_whole() -> None:
    long = Conversation([Turn("system", "Sys."), Turn("user", "lost " * 200 + "end?"), Turn("assistant", "Yes.")])

    row = encoder(max_length=60).encode(long)

    assert 50 < len(row.input_ids) <= 60
    assert "end?<|im_end|>" in text_of(row.input_ids)
    assert text_of(row.input_ids).startswith("<|im_start|>system\nSys.<|im_end|>")
    assert learned(row) == "Yes.<|im_end|>"
    assert row.lost_tokens > 0


def test_an_answer_that_does_not_fit_is_no_row_rather_than_half_a_one() -> None:
    long = Conversation([Turn("user", "Well?"), Turn("assistant", "word " * 200)])

    with pytest.raises(BadRow, match="longer than 60 tokens even without"):
        encoder(max_length=60).encode(long)
    with pytest.raises(BadRow, match="longer than 60 tokens"):
        encoder("none", max_length=60).encode(Conversation(long.turns, "completion"))


def test_a_long_text_keeps_its_end() -> None:
    row = encoder("none", max_length=30, bos_id=BOS).encode(plain("lost " * 100 + "at last"))

    assert len(row.input_ids) == 30
    assert row.input_ids[0] == BOS and row.labels[0] == -100
    assert learned(row).endswith("at last<|endoftext|>")


def test_a_long_prompt_loses_its_beginning() -> None:
    row = encoder("none", max_length=40, bos_id=BOS).encode(completion("lost " * 100 + "now:", " go"))

    assert len(row.input_ids) == 40 and row.input_ids[0] == BOS
    assert "now: go" in text_of(row.input_ids)
    assert learned(row) == " go<|endoftext|>"


@given(
    exchanges=st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=1, max_size=5),
    system=st.sampled_from([None, "Short.", "A system prompt of some length."]),
    limit=st.integers(16, 120),
    name=st.sampled_from(["chatml", "gemma", "phi3", "none"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_cut_the_end_is_learned_and_the_row_fits(
    exchanges: list[tuple[str, str]], system: str | None, limit: int, name: str
) -> None:
    turns = [Turn(role, text) for pair in exchanges for role, text in zip(("user", "assistant"), pair, strict=True)]
    given = Conversation([Turn("system", system), *turns] if system else turns)
    if name == "none":
        given = Conversation(turns[:2], "completion")

    try:
        row = MADE[name](limit).encode(given)
    except BadRow:
        return

    assert len(row.input_ids) == len(row.labels) <= limit
    last = max(i for i, label in enumerate(row.labels) if label != -100)
    assert row.labels[last] == MADE[name](limit).stop_ids[0]
    assert row.n_learned == sum(label != -100 for label in row.labels) > 0
    assert (row.lost_tokens > 0) or row.truncated_turns == 0


class _Limited:
    """One encoder (and one child process) for every limit."""

    def __init__(self, name: str) -> None:
        self.encoder = encoder(name, bos_id=BOS)

    def __call__(self, limit: int) -> Encoder:
        self.encoder.max_length = limit
        return self.encoder


MADE = {name: _Limited(name) for name in ("chatml", "gemma", "phi3", "none")}


def test_a_batch_gives_the_same_rows_as_one_by_one() -> None:
    made = encoder(max_length=120)
    mixed = [chat(1), plain("A text."), chat(9), completion("Title", "Content."), chat(1, words=300), chat(2, "Sys.")]

    rows = made.encode_all(mixed)

    assert isinstance(rows[4], BadRow)
    for row, conversation in zip(rows[:4] + rows[5:], mixed[:4] + mixed[5:], strict=True):
        assert row == made.encode(conversation)


def test_a_bad_row_among_good_ones_is_told_apart() -> None:
    made = encoder("gemma")
    bad = Conversation([Turn("assistant", "I begin."), Turn("user", "No."), Turn("assistant", "Sorry.")])

    good, refused, again = made.encode_all([chat(1), bad, chat(1)])

    assert good == again and isinstance(good, EncodedRow)
    assert isinstance(refused, BadRow) and "must take turns" in refused.why


def test_rows_beyond_reason_are_told_and_cost_nothing() -> None:
    made = encoder()
    endless = Conversation([Turn("user", "x"), Turn("assistant", "y")] * 501)
    huge = Conversation([Turn("user", "é" * 2_000_000), Turn("assistant", "y")])

    assert [str(row) for row in made.encode_all([endless, huge])] == [
        "more than 1000 turns",
        "longer than 1,048,576 characters",
    ]


def test_many_large_rows_do_not_exhaust_the_template_s_child() -> None:
    large = Conversation([Turn("user", "é " * 400_000), Turn("assistant", "yes")])

    made = encoder(max_length=10**7)

    assert made.template is not None
    texts = made.template.render_all([(large.turns, False)] * 64)
    written = f"<|im_start|>user\n{'é ' * 400_000}<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
    assert len(texts) == 64 and set(texts) == {written}
