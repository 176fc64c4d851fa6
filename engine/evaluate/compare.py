"""The verb `compare`: two graded cycles, or base and adapter of one, and exactly one of five verdicts."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path

from engine.contract import calls, grading, sheets
from engine.contract import summary as runs
from engine.contract.errors import MoltingError
from engine.contract.grading import Grading
from engine.contract.rubric import OUT_OF, Rubric, plain
from engine.contract.rundir import RunDir
from engine.contract.verdict import (
    AnswerScore,
    CompareRequest,
    Comparison,
    Cycle,
    Differs,
    DimensionDifference,
    QuestionDifference,
)

from . import summary
from .differs import Side, differences
from .statistics import ALPHA, Judged, holm, judge, smallest_p


def compare(request: CompareRequest, tell: Callable[[calls.Line], None]) -> Comparison:
    """B against A. MoltingError (code 2) for a run without a complete grading."""
    b = RunDir(Path(request.b))
    if request.base:
        one, two = _side(b, request.rater, "base"), _side(b, request.rater, "adapter")
    else:
        one, two = _side(RunDir(Path(request.a)), request.rater), _side(b, request.rater)
    return compared(one, two, same_run=request.base)


def compared(a: Side, b: Side, *, same_run: bool = False) -> Comparison:
    """The comparison of two counted cycles. Pure."""
    differs, warnings = differences(a, b, same_run=same_run)
    questions = _questions(a.cycle, b.cycle)
    exact = _paired(a.cycle, b.cycle)
    judged = judge(list(exact.values()))
    verdict = "not comparable" if differs.instrument or not judged.n else judged.verdict
    shown = judged if verdict != "not comparable" else judge([])
    if a.cycle.run == b.cycle.run and not same_run:
        warnings.insert(0, "This is one run compared with itself.")
    if judged.n and verdict != "not comparable" and (least := smallest_p(judged.n) or 1.0) > ALPHA:
        warnings.append(f"{judged.n} questions cannot reach p = 0.05 (the smallest is {least:.3g}): grade more.")
    if not judged.exact:
        warnings.append("Too many sign patterns to count: p was drawn with a fixed seed.")
    return Comparison(
        verdict=verdict,
        sentence=_sentence(verdict, shown, differs, a.cycle, b.cycle),
        difference=shown.mean,
        p=shown.p,
        interval=shown.interval,
        mdd=shown.mdd,
        sd=shown.sd,
        n=shown.n,
        smallest_p=smallest_p(shown.n),
        exact=shown.exact,
        wins=sum(each.difference > 0 for each in questions) if shown.n else 0,
        ties=sum(each.difference == 0 for each in questions) if shown.n else 0,
        losses=sum(each.difference < 0 for each in questions) if shown.n else 0,
        differs=differs,
        questions=questions if shown.n else [],
        dimensions=_dimensions(a.cycle, b.cycle, a.rubric) if shown.n else [],
        a=a.cycle,
        b=b.cycle,
        regrade=_regrade(a, b),
        warnings=list(dict.fromkeys(warnings)),
    )


def _side(run: RunDir, rater: str, voice: str = "") -> Side:
    """The last complete grading of a run, counted."""
    found, problems = grading.of_run(run)
    chosen = _chosen(found, voice, rater)
    if chosen is None:
        of_what = f"{f' of its {voice}' if voice else ''}{f' by {rater}' if rater else ''}"
        why = f" {problems[0]}" if problems else ""
        raise MoltingError(
            f"{run.id} has no complete grading{of_what}.{why}", remedy=f"`molting grade {run.id}` makes one.", code=2
        )
    readable, _ = sheets.readable(run)
    sheet = next(each for each in readable if each.sha256 == chosen.opened.sheet_hash)
    cycle = summary.count(run, chosen, readable, summary.trained_questions(run), voice)
    sheet.header.rubric = chosen.opened.rubric  # it may have been graded by another than it was asked for
    spec = runs.load_spec(run) if sheet.header.origin == "own" else None
    return Side(cycle, sheet.header, spec, [each.question for each in cycle.answers])


def _chosen(found: list[Grading], voice: str, rater: str) -> Grading | None:
    if voice:  # base and adapter come from one grading, if there is one that has both
        both = [each for each in found if {"base", "adapter"} <= set(each.opened.voices)]
        return grading.latest(both, voice, rater) or grading.latest(found, voice, rater)
    return grading.latest(found, rater=rater)


def _paired(a: Cycle, b: Cycle) -> dict[str, Fraction]:
    """Question -> b - a in points of 10, exactly; only questions that both have."""
    before, after = summary.by_question(a.answers), summary.by_question(b.answers)
    return {question: after[question] - before[question] for question in before if question in after}


def _questions(a: Cycle, b: Cycle) -> list[QuestionDifference]:
    before, after = summary.by_question(a.answers), summary.by_question(b.answers)
    names = {plain(each.question): (each.question_id, each.question) for each in a.answers}
    return [
        QuestionDifference(
            id=names[question][0],
            question=names[question][1],
            a=float(before[question]),
            b=float(after[question]),
            difference=float(after[question] - before[question]),
        )
        for question in before
        if question in after
    ]


def _dimensions(a: Cycle, b: Cycle, by: Rubric) -> list[DimensionDifference]:
    """Each dimension over the questions that have a level for it in both; p corrected for their number."""
    made: list[DimensionDifference] = []
    for dimension in by.dimensions:
        before, after = _levels(a.answers, dimension.id, by), _levels(b.answers, dimension.id, by)
        common = [question for question in before if question in after]
        judged = judge([after[question] - before[question] for question in common])
        if not judged.n:
            continue
        sums = [sum((side[question] for question in common), Fraction(0)) for side in (before, after)]
        made.append(
            DimensionDifference(
                id=dimension.id,
                name=dimension.name,
                a=float(sums[0] / judged.n),
                b=float(sums[1] / judged.n),
                difference=judged.mean or 0.0,
                p=judged.p,
                holm=None,
                n=judged.n,
                interval=judged.interval,
            )
        )
    for each, corrected in zip(made, holm([each.p if each.p is not None else 1.0 for each in made]), strict=True):
        each.holm = corrected
    return made


def _levels(answers: list[AnswerScore], dimension: str, by: Rubric) -> dict[str, Fraction]:
    """Question -> points of one dimension out of 10, the mean over its samples."""
    found: dict[str, list[int]] = {}
    for each in answers:
        if dimension in each.cells:
            found.setdefault(plain(each.question), []).append(by.points(dimension, each.cells[dimension]))
    whole = int(OUT_OF)
    return {name: Fraction(sum(values) * whole, len(values) * by.scale.span) for name, values in found.items()}


def _sentence(verdict: str, judged: Judged, differs: Differs, a: Cycle, b: Cycle) -> str:
    """The verdict first, then the numbers that it rests on."""
    if verdict == "not comparable":
        why = ", ".join(each.what for each in differs.instrument) or "they have no question in common"
        return f"Not comparable: {why}."
    assert judged.mean is not None and judged.p is not None
    moved = f"{_signed(judged.mean)} points of 10 over {judged.n} questions, p = {judged.p:.3f}"
    interval = (
        f", 95 % interval {_signed(judged.interval[0])} to {_signed(judged.interval[1])}" if judged.interval else ""
    )
    numbers = f"{moved}{interval}"
    if verdict in ("better", "worse"):
        return f"{verdict.capitalize()}: {numbers}."
    if verdict == "no detectable change":
        seen = (
            f"less than {judged.mdd:.2f} could not have been seen"
            if judged.mdd
            else "every question has the same score"
        )
        return f"No detectable change: {numbers}; {seen}."
    seen = f"; {judged.mdd:.2f} would have been needed" if judged.mdd is not None else ""
    return f"Inconclusive: {numbers}{seen}."


def _signed(value: float) -> str:
    """Two decimals, a half rounded away from zero as people do: 2.625 is +2.63."""
    return f"{Decimal(repr(value)).quantize(Decimal('0.01'), ROUND_HALF_UP):+}"


def _regrade(a: Side, b: Side) -> str:
    """Grading the older answers by the newer rubric makes both comparable, where only the rubric differs."""
    if a.cycle.rubric_hash == b.cycle.rubric_hash:
        return ""
    return f"molting grade {a.cycle.run} --rubric-of {b.cycle.run}"
