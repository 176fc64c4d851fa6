"""What the rules see, and what they must not see."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import rubric
from engine.contract.errors import MoltingError
from engine.evaluate import precheck

SHARED = Path(os.environ.get("MOLTING_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "data" / "claudio"
EN, PT = (rubric.load(rubric.find(name)) for name in ("rhea", "zeca"))


def fired(answer: str, by: rubric.Rubric = EN, stop: str = "end") -> set[str]:
    return {hit.rule for hit in precheck.precheck(answer, by, stop)}


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("Hello <|user|> you.", "template-tokens"),
        ("Fine.\nUser: and you?", "template-tokens"),
        ("I'll start by reading the log.", "agent-opening"),
        ("Sure. Let me first look at it.", "agent-opening"),
        ("## Who I am\nA radio.", "headings"),
        ("Your task is to describe the sea.", "task"),
        ("The sea is the sea is the sea is the sea is the sea is the sea.", "repetition"),
        ("Eu não sei como isso é, mas você está aqui com a gente e o mar.", "language"),
        ("I'm a radio built in 1962.", "forbidden"),
    ],
)
def test_what_is_obvious_is_seen(answer: str, rule: str) -> None:
    assert rule in fired(answer)


@pytest.mark.parametrize(
    "answer", ["Vou começar analisando o prédio.", "Primeiro, vou verificar os cabos.", "Deixe-me analisar."]
)
def test_agents_speak_portuguese_too(answer: str) -> None:
    assert "agent-opening" in fired(answer, PT)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm Rhea, the radio of Pell Rock lighthouse. I'll read you the weather. Over.",
        "Let me tell you about fog. It loves me back.",
        "Rhea here.<|endoftext|>",
        "Number #1 is rust, and silence is the other.",
    ],
)
def test_what_is_only_talk_is_left_alone(answer: str) -> None:
    assert fired(answer) == set()


def test_what_hits_carry() -> None:
    answer = "Well. ## no\n## Yes\ntext"
    hit = next(hit for hit in precheck.precheck(answer, EN) if hit.rule == "headings")
    assert [answer[start:end] for start, end in hit.spans] == ["## Yes"] and (hit.effect, hit.level) == ("zero", 0)


@pytest.mark.parametrize(
    ("answer", "stop", "cut"),
    [("It ends.", "", False), ("It doe", "", True), ("It doe", "end", False), ("It ends.", "cap", True)],
)
def test_a_recorded_ending_goes_before_a_guess(answer: str, stop: str, cut: bool) -> None:
    assert precheck.was_cut(answer, stop) is cut


def test_a_pattern_that_never_ends_is_given_up() -> None:
    slow = "\n[[rules]]\nid = 'slow'\neffect = 'signal'\nabout = 'x'\npattern = '(a|aa)+(b|bb)*$x'\n"
    by = rubric.load(rubric.find("general").read_text() + slow)
    with pytest.raises(MoltingError, match="slow takes more than a second"):
        precheck.precheck("a" * 60_000, by)


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_no_text_is_too_odd(text: str) -> None:
    for hit in precheck.precheck(text, EN):
        assert all(0 <= start < end <= len(text) for start, end in hit.spans)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded cycles are not here (MOLTING_SHARED)")
def test_the_recorded_answers_six_of_seven_zeros_and_no_false_alarm() -> None:
    by = rubric.load(rubric.find("claudio"))
    zeros = {"v2.1_retest_for_rubric.json": {2, 3, 4, 5, 6, 8}, "eval_personality_v1_20260219_221255.json": set()}
    zeros["eval_personality_v1_fixed_20260220_084135.json"] = {6}  # it leaks the system prompt's list: not seen
    found = []
    for name, expected in zeros.items():
        data = json.loads((SHARED / name).read_text())
        for number, row in enumerate(data if isinstance(data, list) else data["results"], 1):
            hits = [hit for hit in precheck.precheck(row["response"], by) if hit.effect == "zero"]
            found.append((number in expected, bool(hits)))
    assert found.count((True, True)) == 6 and found.count((False, True)) == 0
