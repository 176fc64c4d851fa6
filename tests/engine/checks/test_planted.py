# ruff: noqa: E501 (a table reads better with one fault a line)
"""One fault planted at a time into a sound persona: it is named, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.diagnosed import Rows, chat, diagnose, persona, serious, shipped_rows
from tests.support.tiny import tiny_llama

Change = Callable[[Rows], Any]
CHATML_END = "<|im_end|>"


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"), max_position_embeddings=2048)


def answer(row: dict[str, Any], text: str) -> None:
    row["messages"][-1]["content"] = text


def every(change: Callable[[str], str], rows: Rows) -> Rows:
    for row in rows:
        answer(row, change(row["messages"][-1]["content"]))
    return rows


def added(*rows: dict[str, Any]) -> Change:
    return lambda sound: [*sound, *rows]


def with_answer(text: str, *, count: int = 1) -> Change:
    return lambda sound: [*sound, *(chat(f"Would you tell me about the {name} tide?", text) for name in NAMES[:count])]


NAMES = ["first", "second", "third", "spring", "neap", "evening", "morning", "winter", "summer"]
LONG = "The sea said " + " and ".join(f"wave {name} came in over the rocks" for name in NAMES * 3) + "."
STORY = "Every winter the storm took the same path over the rocks and the boats stayed in the harbour"

ROWS: list[tuple[str, Change, str]] = [
    ("duplicate-rows", lambda rows: [*rows, rows[3]], "1 row of"),
    ("near-duplicates", added(chat("How is winter?", f"{STORY} for days."), chat("How is winter?", f"{STORY} for weeks.")), "nearly the same"),
    ("near-duplicates", added(chat("How is winter?", f"{STORY}."), chat("How is winter?", f"{STORY.replace('path', 'road')}.")), "nearly the same"),
    ("same-answer", lambda rows: [*rows, *(chat(f"What about the {n} gull?", "I never met that gull.") for n in NAMES)], "same answer"),
    ("answers-contradict", added(chat("Which lamp is it?", "It has 40 candles."), chat("Which lamp is it?", "It has 60 candles.")), "contradict"),
    ("facts-contradict", added(chat("Age?", "I am 63 years old."), chat("And now?", "I am 41 years old.")), "age"),
    ("empty-question", added(chat("", "Nobody asked, and I answered.")), "says nothing"),
    ("answer-without-words", added(chat("What do you think of silence?", "...")), "without a single word"),
    ("answer-is-question", added(chat("Do gulls sleep on the wing?", "Do gulls sleep on the wing?")), "repeats the question"),
    ("answer-cut-off", with_answer("It comes in slowly over the rocks, and then it turns and"), "middle of a sentence"),
    ("roles-out-of-order", added({"messages": [{"role": "assistant", "content": "Hello, sailor."}, {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Over."}]}), "alternate"),
    ("damaged-text", with_answer("The cafÃ© by the harbour closes early."), "encoding"),
    ("hidden-characters", with_answer("The tide is \u200b\u202elow today."), "nobody sees"),
    ("length-outliers", with_answer(LONG), "times as long"),
    ("agent-talk", with_answer("I'll start by checking the tide table. Low at six."), "a task instead of"),
    ("agent-talk", with_answer("Vou começar analisando a tabela das marés."), "a task instead of"),
    ("headings-in-answers", with_answer("## Tides\nLow at six."), "headings"),
    ("tool-talk", with_answer("<tool_call>{}</tool_call> Low at six."), "tools"),
    ("other-identity", with_answer("I am an AI language model, sailor."), "another assistant"),
    ("other-identity", with_answer("I was trained by OpenAI, sailor."), "another assistant"),
    ("placeholders", with_answer("Low at six. TODO: ask [NAME]."), "placeholder"),
    ("placeholders", with_answer("Lorem ipsum dolor sit amet."), "placeholder"),
    ("secrets-in-rows", with_answer("The key is hf_abcdefghijklmnopqrstuvwxyz."), "secret"),
    ("private-paths", with_answer("It stands in /home/maria/tides.txt, sailor."), "folder"),
    ("private-paths", with_answer(r"It stands in C:\Users\maria\tides.txt, sailor."), "folder"),
    ("language-mix", with_answer("A maré está baixa hoje, e o mar não quer conversa com ninguém que tem pressa."), "not in English"),
    ("foreign-end", lambda rows: every(lambda text: f"{text}<|endoftext|>", rows), "another model"),
    ("foreign-end", lambda rows: every(lambda text: f"{text}</s>", rows), "</s>"),
    ("end-written-twice", lambda rows: every(lambda text: text + CHATML_END, rows), "written twice"),
    ("template-tokens-in-rows", with_answer("<|im_start|>assistant\nLow at six."), "template"),
    ("roles-in-turn", with_answer("User: When?\nAssistant: At six."), "dialogue"),
    ("system-differs", added(chat("Who sleeps?", "Not I.", system="You are Lyra.")), "another system prompt"),
    ("rows-dropped", added({"messages": [{"role": "user", "content": "Who answers?"}]}), "not used"),
    ("placeholders", with_answer("Good evening, {user_name}, low at six."), "1 row holds a placeholder"),
    ("other-identity", with_answer("As of my last knowledge update the lamp was lit."), "another assistant"),
    ("repeats-itself", with_answer("I hear " + "the sea, " * 40 + "and the gulls."), 'row 61: "the sea"'),
    ("answers-labelled", lambda rows: every(lambda text: f"Rhea: {text}", rows), "60 rows of 60 begin"),
    ("answers-labelled", lambda rows: [*every(lambda text: f"Assistant: {text}", rows[:4]), *rows[4:]], "4 rows of 60"),
    ("placeholder-rows", added(chat("Replace this row.", "Replace this row with your own.")), "molting init"),
]  # fmt: skip


@pytest.mark.parametrize(("id", "change", "said"), ROWS, ids=[f"{id}-{i}" for i, (id, *_) in enumerate(ROWS)])
def test_a_fault_in_the_rows_is_named(model: Path, tmp_path: Path, id: str, change: Change, said: str) -> None:
    found = serious(diagnose(persona(tmp_path, model, change(shipped_rows()))))
    assert said in found.get(id, ""), found
    assert found.keys() - {id, "placeholders"} == set()


def test_rows_that_repeat_another_are_counted_once(model: Path, tmp_path: Path) -> None:
    """What repeats word for word is one question with one answer, not many with the same."""
    row = chat("What about the first gull?", "I never met that gull.")
    found = diagnose(persona(tmp_path / "twins", model, [*shipped_rows(), *[row] * 12]))
    assert "11 rows of 72 repeat" in found["duplicate-rows"].message and "same-answer" not in found
    others = [chat(f"What about the {name} gull?", "I never met that gull.") for name in NAMES]
    found = diagnose(persona(tmp_path / "both", model, [*shipped_rows(), *[row] * 12, *others[1:]]))
    assert "11 rows of 80 repeat" in found["duplicate-rows"].message
    assert found["same-answer"].message == "9 of 69 different questions have the same answer."


def test_all_rows_are_accounted_for(model: Path, tmp_path: Path) -> None:
    rows = [*shipped_rows(), chat("A question."), chat("Another.")]
    found = diagnose(persona(tmp_path, model, rows, data={"heldout_fraction": 0.1}))
    assert found["rows-dropped"].message == "2 of 62 rows are not used; 53 are trained on, 7 held out."


SPECS: list[tuple[str, dict[str, dict[str, Any]], str]] = [
    ("few-steps", {"training": {"accumulation": 8}}, "only 10 optimizer steps"),
    ("many-repeats", {"training": {"epochs": 40}}, "seen 40 times"),
    ("long-warmup", {"training": {"warmup": 0.9}}, "rises for"),
    ("odd-rate", {"training": {"learning_rate": 0.1}}, "high for lora"),
    ("odd-rate", {"training": {"learning_rate": 1e-6}}, "low for lora"),
    ("low-rank", {"method": {"rank": 1}}, "rank of 1"),
    ("target-missing", {"method": {"target_modules": ["query_key_value"]}}, "No layer of this model is called query_key_value"),
    ("target-missing", {"method": {"target_modules": ["q_proj", "Wqkv"]}}, "called Wqkv"),
    ("wild-answers", {"generation": {"temperature": 4.0}}, "temperature = 4"),
    ("wild-answers", {"generation": {"repetition_penalty": 3.0}}, "repetition_penalty = 3"),
    ("odd-alpha", {"method": {"rank": 8, "alpha": 512.0}}, "alpha"),
    ("blind-stopping", {"training": {"early_stopping": 3}, "data": {"heldout_fraction": 0.0}}, "early_stopping"),
    ("rope-needless", {"model": {"rope": {"type": "linear", "factor": 4.0}}}, "stretched 4-fold"),
    ("no-room-for-answers", {"data": {"max_length": 290}}, "no room for their answer"),
    ("template-of-another-model", {"model": {"chat_template": "zephyr"}}, "<|assistant|>"),
    ("end-token-unknown", {"model": {"chat_template": "llama3"}}, "<|eot_id|>"),
    ("end-token-unknown", {"model": {"chat_template": "gemma"}}, "<end_of_turn>"),
    ("padding-waste", {"training": {"packing": False, "batch": 16, "epochs": 20}, "data": {"system": "Rhea."}}, "padding"),
]  # fmt: skip


@pytest.mark.parametrize(("id", "sections", "said"), SPECS, ids=[f"{id}-{i}" for i, (id, *_) in enumerate(SPECS)])
def test_a_fault_in_the_spec_is_named(model: Path, tmp_path: Path, id: str, sections: Any, said: str) -> None:
    rows = shipped_rows()
    if id == "padding-waste":
        rows = [
            chat(f"Tell me of the {n} wave, number {i}.", LONG if i % 12 == 0 else "No.")
            for i in range(8)
            for n in NAMES
        ]
    found = serious(diagnose(persona(tmp_path, model, rows, **sections)))
    assert said in found.get(id, ""), found
    if id != "padding-waste":
        also = {"template-of-another-model"} if id == "end-token-unknown" else {"rows-cut", "few-steps"}
        assert found.keys() - {id} <= also


def test_targets_that_some_layer_has(model: Path, tmp_path: Path) -> None:
    """An error only where nothing would be trained; the end of a full name is a name, as PEFT has it."""
    names = ["q_proj", "self_attn.v_proj", "model.layers.0.mlp.up_proj", "lm_head"]
    assert serious(diagnose(persona(tmp_path / "all", model, shipped_rows(), method={"target_modules": names}))) == {}
    some = diagnose(persona(tmp_path / "some", model, shipped_rows(), method={"target_modules": ["q_proj", "Wqkv"]}))
    none = diagnose(persona(tmp_path / "none", model, shipped_rows(), method={"target_modules": ["Wqkv"]}))
    assert (some["target-missing"].severity, none["target-missing"].severity) == ("warning", "error")
    assert none["target-missing"].fix[0].value == "all-linear"


@pytest.mark.parametrize(
    "text",
    [
        "Tick tock, tick tock, tick tock, tick tock, says the clock.",
        "Ha ha ha ha ha ha!",
        "I'll read you the log of the night.",
    ],
)
def test_a_clock_may_tick(model: Path, tmp_path: Path, text: str) -> None:
    rows = [*shipped_rows(), chat("What do you hear?", text), chat("Orders?", "Note: the boat is late. Over.")]
    assert serious(diagnose(persona(tmp_path, model, rows))) == {}


def test_what_is_sound_stays_quiet(model: Path, tmp_path: Path) -> None:
    assert serious(diagnose(persona(tmp_path, model, shipped_rows()))) == {}


def test_texts_with_the_prompt_in_every_row(model: Path, tmp_path: Path) -> None:
    prompt = "[SYSTEM] You are Rhea, the radio of Pell Rock. Answer shortly and kindly.\n"
    rows = [
        {"text": f"{prompt}[USER] {row['messages'][0]['content']}\n[ASSISTANT] {row['messages'][1]['content']}"}
        for row in shipped_rows()
    ]
    found = serious(diagnose(persona(tmp_path, model, rows)))
    assert "of the loss tokens are the same" in found["constant-learned"]
    assert "before the answer" in found["handmade-format"]


def test_questions_without_answers(model: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{row['messages'][0]['content'].rstrip('?.!')}?"} for row in shipped_rows()]
    found = diagnose(persona(tmp_path, model, rows))
    assert found["only-questions"].severity == "error" and "without answers" in found["only-questions"].message
    empty = [{"prompt": row["messages"][0]["content"], "completion": ""} for row in shipped_rows()]
    assert diagnose(persona(tmp_path / "b", model, empty))["answers-empty"].severity == "error"


def test_no_token_left_to_learn(model: Path, tmp_path: Path) -> None:
    found = diagnose(persona(tmp_path, model, shipped_rows(), data={"max_length": 32}))
    assert found["no-rows"].severity == "error" and "loss 0.0" in found["no-rows"].why
    room = next(change.value for change in found["no-rows"].fix if change.key == "data.max_length")
    assert serious(diagnose(persona(tmp_path, model, shipped_rows(), data={"max_length": room}))) == {}


def test_a_system_prompt_only_in_the_rows(model: Path, tmp_path: Path) -> None:
    rows = shipped_rows()
    for row in rows:
        row["messages"].insert(0, {"role": "system", "content": "You are Rhea."})
    found = diagnose(persona(tmp_path, model, rows, data={"system": ""}))
    assert list(serious(found)) == ["system-only-in-rows"]
    assert [(change.key, change.value) for change in found["system-only-in-rows"].fix] == [
        ("data.system", "You are Rhea.")
    ]


def test_a_template_that_never_closes_a_turn(model: Path, tmp_path: Path) -> None:
    rows = [chat("Hi.", "Hello.", "Who is it?", "Rhea."), *shipped_rows()]
    open_ended = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}assistant:"
    found = diagnose(persona(tmp_path, model, rows, model={"chat_template": open_ended}))
    assert found["end-not-learned"].severity == "error" and 1 in found["end-not-learned"].rows


def test_a_beginning_that_is_written_twice(model: Path, tmp_path: Path) -> None:
    twice = (
        "{{ bos_token + bos_token }}" + "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
    )
    found = serious(diagnose(persona(tmp_path, model, shipped_rows(), model={"chat_template": twice})))
    assert "twice" in found["double-bos"]


def test_probes_exact_and_nearly(model: Path, tmp_path: Path) -> None:
    spec = persona(tmp_path, model, shipped_rows(), evaluation={"probes": "probes.txt"})
    (tmp_path / "probes.txt").write_text("who are YOU\nWhy is rust scaring you?\nDo fish sing?\n")
    said = serious(diagnose(spec))["probe-in-rows"]
    assert said.startswith("2 of 3") and "row" in said


def test_facts_against_prompt_and_rows(model: Path, tmp_path: Path) -> None:
    spec = persona(tmp_path, model, shipped_rows())
    table = {"builder": "Inga Fisk", "built": "1958", "boat": "a red dinghy"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    (tmp_path / "facts.toml").write_text('forbidden = ["bread tin"]\n[facts]\n' + "\n".join(lines) + "\n")
    found = serious(diagnose(spec))
    assert "a red dinghy" in found["fact-not-taught"] and "bread tin" in found["forbidden-said"]
    assert "facts-contradict" in found


def test_a_prompt_that_tells_another_story(model: Path, tmp_path: Path) -> None:
    rows = [*shipped_rows(), chat("Quem é o João?", "João é meu parceiro. Ele é desenvolvedor frontend.")]
    prompt = "You are Rhea. João is a full-stack developer."
    found = serious(diagnose(persona(tmp_path, model, rows, data={"system": prompt})))
    assert "full-stack" in found["facts-contradict"] and "frontend" in found["facts-contradict"]


def test_a_huge_file_of_which_little_is_seen(model: Path, tmp_path: Path) -> None:
    lines = "".join(
        json.dumps({"title": f"Book {i}", "content": f"A story of {i} and the sea."}) + "\n" for i in range(20_000)
    )
    spec = persona(tmp_path, model, lines, data={"stream": True}, training={"max_steps": 100, "batch": 1})
    found = serious(diagnose(spec))
    assert "100 steps" in found["steps-capped"] and "0.5" in found["steps-capped"]


def test_too_few_steps_of_a_stream_ask_for_more_steps_and_not_for_more_rows(model: Path, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"title": f"Book {i}", "content": f"A story of {i}."}) + "\n" for i in range(300))
    spec = persona(tmp_path, model, lines, data={"stream": True}, training={"max_steps": 20, "batch": 1})
    found = diagnose(spec)["few-steps"]
    assert "20" in found.evidence and "0 rows" not in found.evidence
    assert [(each.key, each.value) for each in found.fix] == [("training.max_steps", 120)]


def test_a_held_out_row_that_is_trained(model: Path, tmp_path: Path) -> None:
    rows = shipped_rows()
    spec = persona(tmp_path, model, rows, data={"heldout": "heldout.jsonl"})
    (tmp_path / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    assert "3 of 3 held-out rows" in serious(diagnose(spec))["heldout-in-rows"]
