"""What forbids a comparison, what is only a warning, and what the numbers are of."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from engine.contract import rubric
from engine.contract.sheets import Decoding, Header
from engine.contract.spec import Data, Model, Spec
from engine.contract.verdict import AnswerScore, Comparison, Cycle
from engine.evaluate.compare import compared
from engine.evaluate.differs import Side

BY = rubric.load(rubric.find("general"))


def side(raws: list[int], run: str = "a", **about: Any) -> Side:
    """A cycle of one answer to each question, with `raws` points of ten and all of them in whole dimensions."""
    answers = []
    for number, raw in enumerate(raws, 1):
        levels = [min(2, max(0, raw - 2 * place)) for place in range(5)]
        answers.append(
            AnswerScore(
                slot=f"i{number}",
                question_id=f"Q{number}",
                question=f"Question {number}?",
                voice="adapter",
                sample=0,
                answer=f"{run} {number}",
                stop="end",
                raw=raw,
                max=10,
                score=raw,
                seen=False,
                cells=dict(zip(["D1", "D2", "D3", "D4", "D5"], levels, strict=True)),
            )
        )
    cycle = Cycle(
        run=run, name=run, rater="Ana", kind="person", blind=True, origin="own", rubric=BY.name,
        rubric_hash=BY.fingerprint, sheet="s", voice="adapter", grades="g", raw=sum(raws), max=10 * len(raws),
        score=sum(raws) / len(raws), band="", interval=None, dimensions=[], answers=answers, seen=None, unseen=None,
        cut=0, cut_recorded=True, rule_hits={},
    )  # fmt: skip
    given = {"adapter": run, "base": "b", "template": "t", "system": "s"} | about
    decoding = Decoding(max_new_tokens=80, temperature=0.0, repetition_penalty=1.0)
    header = Header(name="s", run=run, rubric=BY, t=0.0, **({"decoding": decoding} | given))
    spec = Spec(model=Model(base="demo"), data=Data(train="x", sha256="1"))
    return Side(cycle, header, spec, [each.question for each in answers])


def test_dimensions_say_which_way_they_moved_and_their_p_are_corrected_for_being_several() -> None:
    found = compared(side([1] * 8), side([5] * 8, "b")).dimensions
    assert [(each.a, each.b, each.difference) for each in found] == [
        (5, 10, 5), (0, 10, 10), (0, 5, 5), (0, 0, 0), (0, 0, 0)
    ]  # fmt: skip
    assert [each.p for each in found] == pytest.approx([2 / 256] * 3 + [1.0] * 2)
    assert [each.holm for each in found] == pytest.approx([5 * 2 / 256] * 3 + [1.0] * 2)
    back = compared(side([5] * 8), side([1] * 8, "b")).dimensions
    assert [each.difference for each in back] == [-each.difference for each in found]


def test_eight_better_answers_are_better() -> None:
    found = compared(side([3] * 8), side([5] * 8, "b"))
    assert found.verdict == "better" and found.difference == 2 and (found.wins, found.ties, found.losses) == (8, 0, 0)
    assert not found.differs.instrument and not found.differs.treatment and found.warnings == []
    assert compared(side([5] * 8), side([3] * 8, "b")).verdict == "worse"


@pytest.mark.parametrize(
    "what", ["rubric", "questions", "max_new_tokens", "adapter weights are identical"]
)  # fmt: skip
def test_another_instrument_is_not_compared(what: str) -> None:
    a, b = side([3] * 8), side([5] * 8, "b")
    if what == "rubric":
        b.cycle.rubric_hash = "other"
    elif what == "questions":
        b.questions[0] = b.cycle.answers[0].question = "Another one?"
    elif what == "max_new_tokens":
        b.header.decoding = msgspec.structs.replace(b.header.decoding, max_new_tokens=200)
    else:
        b.header.adapter = a.header.adapter
    found = compared(a, b)
    assert found.verdict == "not comparable" and [each.what for each in found.differs.instrument] == [what]
    assert found.difference is found.p is found.interval is found.mdd is None and found.questions == []
    if what == "questions":
        assert found.differs.instrument[0].b == "8, 1 only here: “Another one?”"
    assert what in found.sentence and bool(found.regrade) == (what == "rubric")


def test_what_was_not_recorded_is_a_warning() -> None:
    found = compared(side([3] * 8), side([5] * 8, "b", decoding=Decoding(), adapter="", system=None, base=""))
    assert found.verdict == "better"
    said = " ".join(found.warnings)
    for part in ("max_new_tokens", "system prompt", "weights were not recorded"):
        assert part in said


def test_who_graded_which_cycle_is_told_by_their_names() -> None:
    a, b = side([3] * 8, "rhea"), side([5] * 8, "rhea-two")
    b.cycle.rater, b.cycle.kind, b.cycle.blind = "Bo", "model", None
    said = compared(a, b).warnings
    assert "Different raters: Ana graded rhea, Bo graded rhea-two." in said
    assert "Not known to be graded blind: rhea-two." in said
    b.cycle.name, b.cycle.voice = "rhea", "base"
    assert "Different raters: Ana graded adapter, Bo graded base." in compared(a, b).warnings


def test_more_than_one_change_cannot_be_told_apart() -> None:
    a, b = side([3] * 8), side([5] * 8, "b", system="other")
    assert not any("More than one" in warning for warning in compared(a, b).warnings)
    b.spec = Spec(model=Model(base="demo"), data=Data(train="x", sha256="2"))
    found = compared(a, b)
    assert [each.what for each in found.differs.treatment] == ["system prompt", "rows"]
    assert any("More than one thing changed (system prompt, rows)" in warning for warning in found.warnings)


def test_the_same_answers_compare_gradings_not_models() -> None:
    a, b = side([3] * 8), side([5] * 8, "b")
    for mine, theirs in zip(a.cycle.answers, b.cycle.answers, strict=True):
        theirs.answer = mine.answer
    assert any("word for word" in warning for warning in compared(a, b).warnings)


def test_few_questions_say_that_they_are_few() -> None:
    found = compared(side([3] * 4), side([9] * 4, "b"))
    assert found.verdict == "inconclusive" and any("cannot reach p = 0.05" in warning for warning in found.warnings)


def test_samples_of_one_question_are_one_observation() -> None:
    a, b = side([3] * 8), side([5] * 8, "b")
    for each in (a, b):
        more = copy.deepcopy(each.cycle.answers)
        for answer in more:
            answer.sample = 1
        each.cycle.answers += more
    assert compared(a, b).n == 8


def test_a_comparison_survives_the_way_to_the_app() -> None:
    found = compared(side([3] * 8), side([5] * 8, "b"))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Comparison) == found
