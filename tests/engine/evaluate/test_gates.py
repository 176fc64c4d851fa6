"""The gates of self-training: every planted fault is refused with its reason, clean answers pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checks import gather
from engine.checks.case import Facts
from engine.checks.words import plain, shingles
from engine.contract import rubric
from engine.contract.curation import Candidate
from engine.data import original
from engine.data.detect import detect
from engine.evaluate import curate, gates
from engine.evaluate.gates import Standard

PERSONAS = Path(__file__).resolve().parents[3] / "data" / "personas"
MESSAGES = detect([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])
CLEAN = "I'd keep the bread tin, sailor. Without it I'd be a bundle of wires and good intentions."


def persona(name: str) -> tuple[list[original.Origin], Standard]:
    """A shipped persona's rows, and the standard that its answers are held against."""
    rows = original.read_rows(PERSONAS / name / "rows.jsonl", MESSAGES)
    answers = original.answers(rows)
    facts = gather.facts(PERSONAS / name)
    system = (PERSONAS / name / "system.txt").read_text()
    said = plain(f"{system} {' '.join(answers)} {' '.join(facts.true.values())}")
    by = rubric.load(rubric.find(name))
    return rows, Standard(rubric=by, facts=facts, name=name.title(), answers=answers, said=said)


ROWS, RHEA = persona("rhea")


def candidate(answer: str, *, prompt: str = "What would you keep?", stop: str = "end", id: str = "c1") -> Candidate:
    return Candidate(id=id, prompt=prompt, answer=answer, tokens=len(answer.split()), stop=stop)  # type: ignore[arg-type]


PLANTED = [
    ("unfinished", candidate("I would keep the bread tin and", stop="cap")),
    ("unfinished", candidate("   ")),
    ("rule", candidate("# My plan\n\nI keep the tin.")),
    ("rule", candidate("First, let me analyze the question before I answer it.")),
    ("rule", candidate("<|im_start|>assistant\nI keep the tin.")),
    ("identity", candidate("As an AI language model I keep nothing, but the tin is fine.")),
    ("identity", candidate("Well, I am a virtual assistant and I like tins.")),
    ("identity", candidate("That is what Hugging Face taught me about tins.")),
    ("name", candidate("My name is Susan, and I would keep the lamp.")),
    ("name", candidate("I'm Veronica, and I would keep the lamp.")),
    ("fact", candidate("I would keep the cookie tin that they made me from.")),
    ("fact", candidate("Tomas built me, so I keep whatever he gives me.")),
    ("fact", candidate("Rhea sits in the fifth landing of Pell Rock lighthouse, with a tin.")),
    ("copy", candidate(original.answers(ROWS)[0])),
    ("copy", candidate(f"Ah. {original.answers(ROWS)[2]}")),
]


@pytest.mark.parametrize(("gate", "planted"), PLANTED, ids=[f"{gate}-{n}" for n, (gate, _) in enumerate(PLANTED)])
def test_a_planted_fault_is_refused_by_its_gate_with_a_reason(gate: str, planted: Candidate) -> None:
    # The rules of a rubric see much of this too, and would speak first.
    by = RHEA if gate == "rule" else replace(RHEA, rubric=None)
    (found,) = gates.judged([planted], by)
    assert found.gate == gate
    assert gates.judged([planted], RHEA)[0].gate
    assert found.why.strip()
    assert (found.answer, found.id, found.stop) == (planted.answer, planted.id, planted.stop)


def test_a_name_within_a_word_that_a_person_wrote_is_another_name() -> None:
    by = Standard(name="Rhea", said=plain("Inga landed here in May with a banana."))
    for name in ("Ed", "Ana"):
        assert gates.refusal(candidate(f"I am {name}, and I keep the lamp."), by)[0] == "name"
        assert curate._name_in(f"You are {name}.", by.said) == ""
    assert gates.refusal(candidate("I am Inga, and I keep the lamp."), by)[0] == ""
    assert curate._name_in("You are Inga.", by.said) == "inga"


def test_a_fact_told_otherwise_is_refused_though_nothing_forbids_it() -> None:
    by = Standard(facts=Facts(true={"age": "31"}))
    assert gates.refusal(candidate("I am 25 years old."), by)[0] == "fact"
    assert gates.refusal(candidate("I am 31 years old."), by)[0] == ""


def test_a_copy_is_four_fifths_of_a_trained_answer_or_all_of_a_short_one() -> None:
    trained = [f"w{n}" for n in range(43)]  # 40 runs of four words
    by = Standard(answers=["Ahoy!", " ".join(trained)])
    longer = [candidate(" ".join([*trained, *(f"x{n}" for n in range(more))])) for more in (10, 11)]
    gate, why = gates.refusal(longer[0], by)
    assert gate == "copy" and why.startswith("80% of it")
    assert gates.refusal(longer[1], by) == ("", "")
    assert gates.refusal(candidate("Ahoy."), by)[0] == "copy"


def test_a_clean_answer_passes_and_the_second_one_like_it_does_not() -> None:
    again = CLEAN.replace("sailor", "captain")
    first, second, other = gates.judged(
        [candidate(CLEAN), candidate(again, id="c2"), candidate("The sound of rope on wood, at dawn.", id="c3")], RHEA
    )
    assert (first.gate, other.gate) == ("", "")
    assert second.gate == "duplicate" and "%" in second.why


def test_an_answer_that_was_refused_makes_no_duplicates() -> None:
    cut, whole = gates.judged([candidate(CLEAN, stop="cap"), candidate(CLEAN, id="c2")], RHEA)
    assert (cut.gate, whole.gate) == ("unfinished", "")


@pytest.mark.parametrize("name", ["rhea", "zeca"])
def test_what_people_wrote_passes_every_gate_but_that_of_copies(name: str) -> None:
    """Otherwise a gate refuses the persona itself."""
    rows, by = persona(name)
    heldout = original.read_rows(PERSONAS / name / "heldout.jsonl", MESSAGES)
    own = [
        candidate(row.row.turns[-1].content, prompt=row.row.turns[-2].content, id=f"c{n}")
        for n, row in enumerate([*rows, *heldout])
    ]
    refused = [each for each in gates.judged(own, by) if each.gate not in ("", "copy", "duplicate")]
    # One row of Zeca's answers English in English, which a rule of his rubric points out.
    assert [each.why for each in refused] == (
        ["The rule language fires: Responde em outra língua"] if name == "zeca" else []
    )


def test_without_facts_rubric_and_rows_the_gates_that_need_nothing_still_work() -> None:
    bare = Standard()
    assert gates.refusal(candidate("Fine."), bare) == ("", "")
    assert gates.refusal(candidate("I'm ChatGPT."), bare)[0] == "identity"
    assert gates.refusal(candidate("Fine", stop="cap"), bare)[0] == "unfinished"


def test_a_number_that_the_rows_tell_in_several_ways_is_no_settled_fact() -> None:
    """Zeca is a lift: its coffee is on the fourth floor, and it stops at every other one."""
    assert RHEA.settled[0, "landing"] == "third" and (1, "landing") not in RHEA.settled
    assert (0, "andar") not in persona("zeca")[1].settled
    assert gates.counted(plain("On the third floor, twelve floors up, one floor below.")) == {
        (0, "floor"): {"third"}, (1, "floors"): {"twelve"}, (1, "floor"): {"one"}
    }  # fmt: skip


def test_what_the_persona_says_of_itself_is_not_the_base() -> None:
    answer = "Sou um assistente virtual, com muito gosto."
    own = Standard(said=plain("Cláudio: sou um assistente virtual da casa."))
    assert gates.refusal(candidate(answer), own)[0] == ""
    assert gates.refusal(candidate(answer), Standard())[0] == "identity"


@given(st.lists(st.text(max_size=80), max_size=8), st.sampled_from(["end", "cap", ""]))
def test_any_text_is_judged_and_nothing_that_passes_is_alike(answers: list[str], stop: str) -> None:
    facts = Facts(forbidden=("tin",))
    asked = [candidate(answer, stop=stop, id=f"c{n}") for n, answer in enumerate(answers)]
    found = gates.judged(asked, Standard(facts=facts, answers=["I am the trained answer, word for word."]))
    assert [each.id for each in found] == [each.id for each in asked]
    passed = [each for each in found if not each.gate]
    assert all(each.stop == "end" and each.answer.strip() for each in passed)
    assert all(bool(each.gate) == bool(each.why) for each in found)
    sets = [shingles(plain(each.answer).split()) for each in passed]
    assert all(
        len(one & other) / len(one | other) < gates.DUPLICATE for i, one in enumerate(sets) for other in sets[:i]
    )
