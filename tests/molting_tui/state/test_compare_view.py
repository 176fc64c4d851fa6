"""The comparison as lines: the verdict in words, marks that mean something without colour, everything in any width."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from engine.contract.verdict import Comparison, Different, Differs, DimensionDifference, QuestionDifference
from molting_tui.state.compare_view import differs_lines, picture_lines, plain, verdict_lines

QUESTIONS = [(2.0, 8.0), (5.0, 3.0), (4.0, 4.0)]


def found(**about: Any) -> Comparison:
    made = Comparison(
        verdict="better",
        sentence="Better: +2.63 points of 10 over 8 questions, p = 0.039.",
        difference=1.33,
        p=0.039,
        interval=(-9.0, 14.0),
        mdd=3.02,
        sd=2.6,
        n=3,
        smallest_p=0.25,
        exact=True,
        wins=1,
        ties=1,
        losses=1,
        differs=Differs(treatment=[Different(what="method.rank", a="8", b="16"), Different(what="rows", a="x", b="y")]),
        questions=[
            QuestionDifference(id=f"Q{n}", question="Quem é \x1b[2Jvocê?", a=a, b=b, difference=b - a)
            for n, (a, b) in enumerate(QUESTIONS, 1)
        ],
        dimensions=[DimensionDifference(id="D1", name="Identity", a=0, b=6, difference=6.25, p=0.01, holm=0.039, n=3)],
        warnings=["More than one thing changed (method.rank, rows)."],
    )
    return msgspec.structs.replace(made, **about)


def said(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(part for part, _ in line) for line in lines]


def test_before_is_hollow_after_is_filled_and_equal_is_one_mark() -> None:
    rows = {line[:2]: line for line in said(picture_lines(found(), 80))}
    assert rows["Q1"].index("○") < rows["Q1"].index("●") and rows["Q1"].endswith("+6.00")
    assert rows["Q2"].index("●") < rows["Q2"].index("○") and rows["Q2"].endswith("-2.00")
    assert "◆" in rows["Q3"] and rows["Q3"].endswith("+0.00")
    assert rows["D1"].endswith("+6.25 p 0.039")


def test_the_interval_stays_on_its_scale() -> None:
    (mean,) = [line for line in said(picture_lines(found(), 80)) if line.startswith("mean")]
    assert mean.count("├") == mean.count("┤") == 1
    assert mean.index("├") < mean.index("┼") < mean.index("●") < mean.index("┤")


def test_more_than_one_change_is_said_beside_the_verdict() -> None:
    assert said(verdict_lines(found(), 80))[:2] == [found().sentence, "! 2 things changed at once"]
    one = found(differs=Differs(treatment=[Different(what="method.rank", a="8", b="16")]))
    assert len(verdict_lines(one, 80)) == 1
    assert said(differs_lines(one, 40))[:4] == ["What was changed", "method.rank", "  ○ 8", "  ● 16"]


def test_what_cannot_be_compared_has_no_picture_but_says_why_and_what_helps() -> None:
    other = found(
        verdict="not comparable",
        sentence="Not comparable: rubric.",
        n=0,
        differs=Differs(instrument=[Different(what="rubric", a="rhea 1", b="rhea 2")]),
        regrade="molting grade rhea-1 --rubric rhea",
        warnings=[],
    )
    assert picture_lines(other, 80) == []
    text = plain(other)
    assert text.startswith("Not comparable: rubric.")
    assert "The instrument differs, so these are not compared" in text and "molting grade rhea-1" in text


@pytest.mark.parametrize("width", [44, 60, 80, 120, 200])
def test_it_fits_and_nothing_in_it_acts(width: int) -> None:
    every = [*verdict_lines(found(), width), *picture_lines(found(), width), *differs_lines(found(), width)]
    assert all(cell_len(line) <= width for line in said(every))
    assert not any("\x1b" in line for line in said(every))
