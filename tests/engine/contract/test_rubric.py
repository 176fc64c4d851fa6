"""Rubrics: what ships is sound, what is wrong is all named at once, and the arithmetic of levels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import rubric
from engine.contract.errors import MoltingError
from engine.contract.tomlcheck import SpecError

ROOT = Path(__file__).resolve().parents[3]
GOOD = """
name = "a"
bands = [{ name = "low", at_least = 0.0 }, { name = "high", at_least = 5.0 }]
dimensions = [
    { id = "D1", name = "Voice", levels = ["none", "some", "all"] },
    { id = "D2", name = "Errors", levels = ["none", "some", "many"], higher_is_better = false },
]
questions = [{ id = "Q1", text = "Who are you?" }]
"""


@pytest.mark.parametrize("name", ["claudio", "general", "rhea", "zeca"])
def test_what_ships_is_sound(name: str) -> None:
    found = rubric.load(rubric.find(name))
    assert found.name == name and len(found.questions) == 8 and found.most == 10
    assert [found.band(score) for score in (0, 2.99, 3, 4.999, 5, 7, 8.5, 10)] == [
        "non-functional", "non-functional", "poor", "poor", "developing", "good", "excellent", "excellent",
    ]  # fmt: skip
    assert found.calibration and {rule.effect for rule in found.rules} == {"zero", "signal"}


@pytest.mark.parametrize("name", ["rhea", "zeca"])
def test_a_personas_questions_are_not_what_it_is_taught(name: str) -> None:
    folder = ROOT / "data" / "personas" / name
    lines = [line for file in ("rows", "heldout") for line in (folder / f"{file}.jsonl").read_text().splitlines()]
    asked = [turn["content"] for line in lines for turn in json.loads(line)["messages"] if turn["role"] == "user"]
    asked += (folder / "probes.txt").read_text().splitlines()
    assert not rubric.seen([question.text for question in rubric.load(rubric.find(name)).questions], asked)


def test_where_lower_is_better_levels_are_turned_before_they_are_summed() -> None:
    found = rubric.load(GOOD)
    assert found.raw({"D1": 2, "D2": 0}) == 4 and found.raw({"D1": 0, "D2": 2}) == 0
    assert found.no_points("D1") == 0 and found.no_points("D2") == 2


def test_any_edit_changes_the_fingerprint_but_a_comment_does_not() -> None:
    first = rubric.load(GOOD).fingerprint
    assert rubric.load("# a comment\n" + GOOD).fingerprint == first
    for old, new in (("Who", "who"), ('"some", "all"', '"a bit", "all"'), ("false", "true"), ("5.0", "5.5")):
        assert rubric.load(GOOD.replace(old, new)).fingerprint != first


def test_all_that_does_not_fit_together_is_named_with_its_line() -> None:
    text = GOOD.replace('"D2"', '"D1"').replace('["none", "some", "all"]', '["none", "all"]')
    text = text.replace("at_least = 0.0", "at_least = 1.0")
    text += '\n[[rules]]\nid = "r"\neffect = "zero"\ndimension = "D9"\nabout = "x"\ncheck = "headings"\n'
    with pytest.raises(SpecError) as caught:
        rubric.load(text)
    said = str(caught.value)
    for part in ("line 3: The first band", "2 level texts", "The id D1 stands 2 times", "line 13: The rule r names"):
        assert part in said


@pytest.mark.parametrize("extra", ['pattern = "("', 'pattern = "a"\ncheck = "task"', ""])
def test_a_rule_that_cannot_be_meant(extra: str) -> None:
    with pytest.raises(SpecError, match="rules"):
        rubric.load(f'{GOOD}\n[[rules]]\nid = "r"\neffect = "signal"\nabout = "x"\n{extra}\n')


def test_an_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(MoltingError, match="claudio, general, rhea, zeca"):
        rubric.find("nobody")


@given(st.floats(0, 10))
def test_every_score_has_a_band(score: float) -> None:
    assert rubric.load(GOOD).band(score) == ("high" if score >= 5 else "low")


@pytest.mark.parametrize(
    ("name", "stem"), [("rhea", "rhea"), ("rhea-7", "rhea"), ("Zeca 2", "zeca"), ("rheas", "general"), ("", "general")]
)
def test_a_cycle_of_a_persona_is_asked_the_questions_of_that_persona(name: str, stem: str) -> None:
    assert rubric.for_persona(name).stem == stem
