"""Which grades belong to which answer, which level every cell means, and what does not fit together. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from engine.contract.grading import stands
from engine.contract.rubric import Rubric, plain
from engine.contract.safe import safe
from engine.contract.sheets import Item
from engine.contract.verdict import Problem

from . import typed
from .evalfiles import Graded, Scores, Spoken, Typed, directions
from .typed import Points

_QUOTED = re.compile(r"(?<!\w)'([^'\n]{3,200})'(?!\w)|\"([^\"\n]{3,200})\"|“([^”\n]{3,200})”|«([^»\n]{3,200})»")


@dataclass
class Match:
    """One answer with what was said of it. `cells` are levels of the rubric, turned where the file counts down."""

    item: Item
    name: str  # as people call it: Q3
    graded: Graded | None = None
    cells: dict[str, int] = field(default_factory=dict)
    naive: int = 0  # points if every level were better the higher it is
    total: tuple[Fraction, Fraction] | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    quotes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        return bool(self.cells) or self.total is not None

    def points(self, by: Rubric) -> Points:
        """What the answer got, exactly."""
        if self.cells:
            most = by.scale.span * len(self.cells)
            return Points(Fraction(by.raw(self.cells)), Fraction(most), 1, Fraction(self.naive))
        return Points(self.total[0], self.total[1], 1, self.total[0]) if self.total else typed.NOTHING


def match(said: list[Spoken], scores: Scores, by: Rubric) -> tuple[list[Match], list[Problem]]:
    """Every answer with its grades. By question, else by id, else in order where neither file names anything."""
    problems: list[Problem] = []
    matches: list[Match] = []
    times: dict[str, int] = {}
    for number, each in enumerate(said, 1):
        question_id = _question_id(each, by) or each.id or f"Q{number}"
        sample = times.get(question_id, 0)
        times[question_id] = sample + 1
        item = Item(
            id=f"i{number}",
            question_id=question_id,
            question=each.question or question_id,
            voice="adapter",
            answer=each.answer,
            sample=0,
            tokens=each.tokens,
            stop=each.stop,  # type: ignore[arg-type]  # one of the three
        )
        matches.append(Match(item, question_id if sample == 0 else f"{question_id} ({sample + 1})"))
    left = _assign(matches, said, scores.graded)
    for graded in left:
        name = safe(graded.id or graded.question, keep_newlines=False)[:60]
        message = f"{name} was scored but has no answer, so its score is left out."
        problems.append(Problem(id="no-answer", severity="warning", message=message, question=name))
    turned = directions(scores.rest)
    for each_match in matches:
        problems += _levels(each_match, by, turned)
    problems += _missing(matches, scores, by)
    return matches, _once(problems)


def _question_id(each: Spoken, by: Rubric) -> str:
    """The rubric's id of this question, by its words."""
    return next((q.id for q in by.questions if plain(q.text) == plain(each.question)), "") if each.question else ""


def _assign(matches: list[Match], said: list[Spoken], graded: list[Graded]) -> list[Graded]:
    """Give every answer its grades; the grades that found none."""
    left = list(graded)

    def take(one: Match, fits: list[Graded]) -> None:
        if fits and one.graded is None:
            one.graded = fits[0]
            left.remove(fits[0])

    for one, each in zip(matches, said, strict=True):
        asked = plain(each.question)
        take(one, [each_graded for each_graded in left if asked and plain(each_graded.question) == asked])
    for one, each in zip(matches, said, strict=True):
        names = {plain(each.id), plain(one.item.question_id)} - {""}
        take(one, [each_graded for each_graded in left if not each_graded.question and plain(each_graded.id) in names])
    for one, each in zip(matches, said, strict=True):
        take(one, [each_graded for each_graded in left if each.id and plain(each_graded.id) == plain(each.id)])
    nameless = not any(each.id or each.question for each in graded) or not any(
        each.id or each.question for each in said
    )
    if nameless and len(left) == len(matches):
        for one, each_graded in zip(matches, list(left), strict=True):
            take(one, [each_graded])
    return left


def _levels(one: Match, by: Rubric, turned: dict[str, bool]) -> list[Problem]:
    """Translate the file's cells into the rubric's; what cannot be a level is left out, with a sentence."""
    graded, problems = one.graded, []
    if graded is None:
        return []

    def say(id: str, message: str) -> None:
        problems.append(Problem(id=id, severity="warning", message=message, question=one.name))

    for key, text in graded.odd.items():
        say("odd-cell", f"{_shown(key)} of {one.name} is {text!r}, which is no number: left out.")
    for key, value in graded.cells.items():
        dimension = typed.dimension_named(key, by)
        if not dimension:
            say("extra-cell", f"{_shown(key)} is no dimension of the rubric {by.name}: left out.")
            continue
        level = level_of(value, by)
        if level is None:
            scale = f"{by.scale.low} to {by.scale.high}"
            say("odd-cell", f"{dimension} of {one.name} is {_shown(value.text)}, not a level from {scale}: left out.")
            continue
        lower = graded.turned.get(key, turned.get(key, turned.get(dimension, turned.get(dimension.lower()))))
        one.naive += level - by.scale.low
        if lower is not None and lower == by.dimension(dimension).higher_is_better:
            say_turned = f"In this file lower is better for {dimension}: its levels were turned before summing."
            problems.append(Problem(id="turned", severity="warning", message=say_turned))
            level = by.scale.low + by.scale.high - level
        one.cells[dimension] = level
    if not one.cells:
        problems += _take_total(one, graded, by)
    elif len(one.cells) < len(by.dimensions):
        absent = ", ".join(each.id for each in by.dimensions if each.id not in one.cells)
        say(
            "missing-cell",
            f"{one.name} has no level for {absent}: its most is {by.scale.span * len(one.cells)} points.",
        )
    for key, text in graded.reasons.items():
        dimension = typed.dimension_named(key, by) if key else ""
        one.reasons[dimension] = text
        one.quotes += [(dimension, words) for words in quoted(text)]
    return problems


def level_of(value: Typed, by: Rubric) -> int | None:
    """The level that a typed cell means: 1, "2", "1/2", "50 %"; None if it lies between levels or outside."""
    span = Fraction(by.scale.span)
    exact = value.value
    if value.percent:
        exact = by.scale.low + exact / 100 * span
    elif value.of is not None:
        exact = by.scale.low + exact / value.of * span if value.of != by.scale.high else exact
    level = int(exact)
    return level if exact == level and level in by.scale.levels else None


def _take_total(one: Match, graded: Graded, by: Rubric) -> list[Problem]:
    """Shape d: one number for the whole answer."""
    total = graded.total
    if total is None:
        return []
    most = total.of or (graded.of.value if graded.of else Fraction(100 if total.percent else by.most))
    if most > 0 and 0 <= total.value <= most:
        one.total = (total.value, most)
        return []
    message = f"{one.name} has {_shown(total.text)} of {typed.shown(most)} points, which cannot be: left out."
    return [Problem(id="odd-total", severity="warning", message=message, question=one.name)]


def _missing(matches: list[Match], scores: Scores, by: Rubric) -> list[Problem]:
    problems = []
    for each in matches:
        if not each.counts:
            message = f"{each.name} has an answer but no score: it does not count."
            problems.append(Problem(id="no-score", severity="warning", message=message, question=each.name))
    here = {each.item.question_id for each in matches}
    known = [question.id for question in by.questions]
    gone = [name for name in known if name not in here]
    if gone and len(gone) < len(known):
        message = f"{', '.join(gone)} of the rubric {by.name} {'is' if len(gone) == 1 else 'are'} not in these files."
        problems.append(Problem(id="missing-question", severity="warning", message=message))
    if any(each.total is not None for each in matches):
        message = "There are no cells, only one total for each answer: dimensions cannot be compared or checked."
        problems.append(Problem(id="holistic", severity="warning", message=message))
    return problems


def check_matches(matches: list[Match], scores: Scores, by: Rubric) -> list[Problem]:
    """Typed totals against the cells, previews against answers, and quotations against what was said."""
    problems: list[Problem] = []
    counted = [each for each in matches if each.counts]
    for each in counted:
        if each.cells and each.graded and each.graded.total is not None:
            found = typed.check_question(each.name, each.graded.total, each.points(by))
            problems += [found] if found else []
        problems += _preview(each) + _unfounded(each)
    whole = sum((each.points(by) for each in counted), typed.NOTHING)
    parts = {dimension.id: _part(dimension.id, counted, by) for dimension in by.dimensions}
    parts = {name: points for name, points in parts.items() if points.most}
    return problems + typed.check_rest(scores.rest, whole, parts, by)


def _part(dimension: str, counted: list[Match], by: Rubric) -> Points:
    levels = [each.cells[dimension] for each in counted if dimension in each.cells]
    raw = Fraction(sum(by.points(dimension, level) for level in levels))
    return Points(raw, Fraction(by.scale.span * len(levels)), len(levels), raw)


def _preview(each: Match) -> list[Problem]:
    preview = (each.graded.preview if each.graded else "").rstrip(".… ")
    if not preview or plain(each.item.answer).startswith(plain(preview)[: max(1, len(plain(preview)) - 12)]):
        return []
    message = f"The score of {each.name} shows another answer than the one in the file of answers."
    return [Problem(id="other-answer", severity="error", message=message, question=each.name)]


def _unfounded(each: Match) -> list[Problem]:
    """Reasons that cite words which nobody said."""
    said = f"{each.item.answer} {each.item.question}"
    wrong = []
    for _, words in each.quotes:
        parts = [part.strip(" .,;:!?") for part in re.split(r"\.\.\.|…", words)]
        wrong += [words] if not all(stands(part, said) for part in parts if part) else []
    if not wrong:
        return []
    shown = ", ".join(f"'{_shown(words)}'" for words in dict.fromkeys(wrong))
    message = f"A reason for {each.name} quotes {shown}, which does not occur in the answer."
    return [Problem(id="unfounded-quote", severity="warning", message=message, question=each.name)]


def quoted(reason: str) -> list[str]:
    """What a reason puts in quotation marks."""
    return [next(filter(None, found.groups())) for found in _QUOTED.finditer(reason)]


def _once(problems: list[Problem]) -> list[Problem]:
    """Without those that say the same again."""
    return list({problem.message: problem for problem in problems}.values())


def _shown(text: str) -> str:
    return safe(text, keep_newlines=False)[:80]
