"""A comparison as lines: the verdict first, then dots and intervals, then what differs. Pure.

Before is hollow and muted, after is filled and bright, as base and adapter are everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.contract.safe import safe
from engine.contract.verdict import Comparison, Cycle, Different

from .. import text
from ..verdicts import points, signed
from .lines import Line

BEFORE, AFTER, SAME = "○", "●", "◆"
_ROLE = {"worse": "error", "not comparable": "warning"}
_NOTHING = "Nothing differs that was recorded."
_LABEL = (16, 40)  # least and most cells of a row's name
_NUMBERS = 17  # cells at the right
_SCORES, _DIFFERENCES = (0.0, 10.0), (-10.0, 10.0)


def verdict_lines(found: Comparison, width: int) -> list[Line]:
    """The sentence, and who is compared with whom."""
    role = _ROLE.get(found.verdict, "bold")
    lines: list[Line] = [[(line, role)] for line in text.wrap(_plain(found.sentence), width)]
    for mark, style, cycle in ((BEFORE, "dim", found.a), (AFTER, "answer", found.b)):
        if cycle:
            first, *more = text.wrap(_cycle(cycle), width - 2)
            lines += [[(f"{mark} ", style), (first, "")], *([("  " + line, "")] for line in more)]
    changed = len(found.differs.treatment)
    if found.n and changed > 1:
        lines.append([("! ", "warning"), (f"{changed} things changed at once", "warning")])
    return lines


def picture_lines(found: Comparison, width: int) -> list[Line]:
    """Every question's points before and after, then the differences with their intervals, then the numbers."""
    if not found.n:
        return []
    label = max(_LABEL[0], min(_LABEL[1], (width - _NUMBERS) * 2 // 5))
    scale = max(11, width - label - _NUMBERS) | 1
    lines: list[Line] = [[("points of 10", "dim")], _axis(label, scale, _SCORES)]
    for question in found.questions:
        row = _dots(question.a, question.b, scale)
        lines.append(_row(f"{question.id} {question.question}", row, signed(question.difference), label))
    lines += [[], [("difference, 95 % interval", "dim")], _axis(label, scale, _DIFFERENCES)]
    mean = _interval(found.difference or 0.0, found.interval, scale)
    lines.append(_row("mean", mean, signed(found.difference or 0.0), label))
    for each in found.dimensions:
        holm = "p unknown" if each.holm is None else f"p {each.holm:.3f}"
        drawn = _interval(each.difference, each.interval, scale)
        lines.append(_row(f"{each.id} {each.name}", drawn, f"{signed(each.difference)} {holm}", label))
    return [*lines, [], *_numbers(found, width)]


def _numbers(found: Comparison, width: int) -> list[Line]:
    """What the verdict rests on; p of the dimensions above is after Holm's correction."""
    exact = "exact p" if found.exact else "p, drawn with a fixed seed,"
    p = "unknown" if found.p is None else f"{found.p:.4f}"
    least = "unknown" if found.smallest_p is None else f"{found.smallest_p:.4f}"
    said = [
        f"{exact} {p}; the smallest that {text.plural(found.n, 'question')} can reach is {least}",
        f"with 80 % power a difference of {points(found.mdd)} is seen; won {found.wins}, tied {found.ties}, "
        f"lost {found.losses}; p of the dimensions is after Holm's correction",
    ]
    return [[(line, "dim")] for each in said for line in text.wrap(each, width)]


def differs_lines(found: Comparison, width: int) -> list[Line]:
    """What forbids a comparison, what was changed on purpose, what to be careful about, what would help."""
    lines = list(_things("The instrument differs, so these are not compared", found.differs.instrument, width))
    lines += _things("What was changed", found.differs.treatment, width)
    if not lines:
        one_run = found.a and found.b and found.a.run == found.b.run and found.a.voice != found.b.voice
        said = "The training, and nothing else: both answered the same sheet." if one_run else _NOTHING
        lines += [[(line, "dim")] for line in text.wrap(said, width)]
    for warning in found.warnings:
        first, *more = text.wrap(_plain(warning), width - 2)
        lines += [[("! ", "warning"), (first, "")], *([("  " + line, "")] for line in more)]
    if found.regrade:
        lines += [[], [("g grades the first by the rubric of the second; in a shell:", "bold")]]
        lines += [[(line, "")] for line in text.wrap(_plain(found.regrade), width)]
    return lines


def _things(title: str, things: Sequence[Different], width: int) -> Iterator[Line]:
    if not things:
        return
    for line in text.wrap(title, width):
        yield [(line, "bold")]
    for each in things:
        for line in text.wrap(_plain(each.what), width):
            yield [(line, "")]
        for mark, role, value in ((BEFORE, "dim", each.a), (AFTER, "answer", each.b)):
            first, *more = text.wrap(_plain(value), width - 4)
            yield [("  ", ""), (f"{mark} ", role), (first, role)]
            for line in more:
                yield [("    " + line, role)]
    yield []


def plain(found: Comparison, width: int = 80) -> str:
    """All of it as text, to copy."""
    parts = [verdict_lines(found, width), picture_lines(found, width), differs_lines(found, width)]
    return "\n\n".join("\n".join("".join(said for said, _ in line).rstrip() for line in lines) for lines in parts)


def _cycle(cycle: Cycle) -> str:
    band = f" {cycle.band}" if cycle.band else ""
    score = f"{points(cycle.score)} of 10 ({cycle.raw:g}/{cycle.max:g}){band}"
    return _plain(f"{cycle.name}, {cycle.voice}: {score}, graded by {cycle.rater}")


def _dots(a: float, b: float, scale: int) -> Line:
    """`○──●` on a scale from 0 to 10; one mark where both are the same."""
    one, two = _at(a, _SCORES, scale), _at(b, _SCORES, scale)
    cells: list[tuple[str, str]] = [(" ", "")] * scale
    for place in range(min(one, two), max(one, two)):
        cells[place] = ("─", "dim")
    cells[one], cells[two] = (BEFORE, "dim"), (AFTER, "answer")
    if one == two:
        cells[one] = (SAME, "answer")
    return cells


def _interval(middle: float, interval: tuple[float, float] | None, scale: int) -> Line:
    """`├──●──┤` around the zero of a scale from -10 to 10, `┼` where it crosses it; an end beyond the scale stands at
    its edge."""
    cells: list[tuple[str, str]] = [(" ", "")] * scale
    zero = _at(0.0, _DIFFERENCES, scale)
    cells[zero] = ("│", "dim")
    if interval:
        low, high = (_at(each, _DIFFERENCES, scale) for each in interval)
        for place in range(low, high + 1):
            cells[place] = ("┼" if place == zero else "─", "answer")
        cells[low], cells[high] = ("├", "answer"), ("┤", "answer")
    cells[_at(middle, _DIFFERENCES, scale)] = (AFTER, "answer")
    return cells


def _axis(label: int, scale: int, ends: tuple[float, float]) -> Line:
    low, middle, high = (f"{value:g}" for value in (ends[0], sum(ends) / 2, ends[1]))
    half = scale // 2
    drawn = f"{low:<{half - len(middle) // 2}}{middle}"
    return [(" " * (label + 1), ""), (drawn + f"{high:>{scale - len(drawn)}}", "dim")]


def _row(name: str, drawn: Line, number: str, label: int) -> Line:
    return [(text.fit(_plain(name), label), ""), (" ", ""), *drawn, (f" {number}", "")]


def _at(value: float, ends: tuple[float, float], scale: int) -> int:
    share = (min(ends[1], max(ends[0], value)) - ends[0]) / (ends[1] - ends[0])
    return round(share * (scale - 1))


def _plain(said: str) -> str:
    return safe(" ".join(said.split()), keep_newlines=False)
