"""A comparison as lines of text, with a small picture of dots and the interval. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

from engine.contract.verdict import Comparison, Cycle

from .terminal import Terminal, one_line
from .text import fit

_STATES = {"better": "finished", "worse": "failed", "no detectable change": "interrupted"}
_NAME = 34


def lines(found: Comparison, shown: Terminal) -> Iterator[str]:
    """The verdict first, then the numbers behind it, what differs, and what to be careful about."""
    state = _STATES.get(found.verdict, "interrupted")
    yield shown.paint(state, one_line(found.sentence))
    for letter, cycle in (("A", found.a), ("B", found.b)):
        if cycle:
            yield f"  {letter}  {_cycle(cycle)}"
    if found.n:
        yield ""
        yield from _picture(found, shown)
        yield (
            f"  won {found.wins}, tied {found.ties}, lost {found.losses}; detectable with 80 % power: "
            f"{points(found.mdd)}; smallest p that {found.n} questions reach: {found.smallest_p:.4f}"
        )
    if found.dimensions:
        yield ""
        for each in found.dimensions:
            said = "unknown" if each.holm is None else f"{each.holm:.3f}"
            name = fit(one_line(f"{each.id} {each.name}"), _NAME)
            yield f"  {name} {points(each.a)} -> {points(each.b)}   {signed(each.difference)}   p after Holm {said}"
    for title, things in (("instrument", found.differs.instrument), ("treatment", found.differs.treatment)):
        for each_thing in things:
            yield f"  {title}: {one_line(each_thing.what)}: {one_line(each_thing.a)} -> {one_line(each_thing.b)}"
    for warning in found.warnings:
        yield f"  {shown.paint('warning', 'warning')} {one_line(warning)}"
    if found.regrade:
        yield f"  To compare them, grade A's answers by B's rubric: `{one_line(found.regrade)}`"


def _cycle(cycle: Cycle) -> str:
    band = f" {one_line(cycle.band)}" if cycle.band else ""
    who = f"{cycle.voice} of {one_line(cycle.name)}, graded by {one_line(cycle.rater)}"
    return f"{points(cycle.score)} of 10 ({cycle.raw:g}/{cycle.max:g}){band}: {who}"


def _picture(found: Comparison, shown: Terminal) -> Iterator[str]:
    """One row for each question on a common scale from -10 to 10, and the interval of the mean below."""
    width = max(21, min(61, shown.width - _NAME - 14)) | 1
    dot, zero, bar = ("●", "│", "─") if shown.unicode else ("o", "|", "-")

    def at(value: float) -> int:
        return round((max(-10.0, min(10.0, value)) + 10) / 20 * (width - 1))

    for each in found.questions:
        row = [" "] * width
        row[at(0)] = zero
        row[at(each.difference)] = dot
        yield f"  {fit(one_line(f'{each.id} {each.question}'), _NAME)} {''.join(row)} {signed(each.difference)}"
    if found.interval and found.difference is not None:
        row = [" "] * width
        row[at(0)] = zero
        low, high = (at(value) for value in found.interval)
        row[low : high + 1] = bar * (high - low + 1)
        row[at(found.difference)] = dot
        yield f"  {fit('mean, 95 % interval', _NAME)} {''.join(row)} {signed(found.difference)}"


def points(value: float | None) -> str:
    """Two decimals, a half rounded away from zero as people do: 2.625 is 2.63."""
    return "unknown" if value is None else str(_rounded(value))


def signed(value: float) -> str:
    return f"{_rounded(value):+}"


def _rounded(value: float) -> Decimal:
    return Decimal(repr(value)).quantize(Decimal("0.01"), ROUND_HALF_UP)
