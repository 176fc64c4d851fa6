"""Typed totals are checked, never trusted: each number in a score file that can be computed is computed again. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from engine.contract.rubric import OUT_OF, Rubric
from engine.contract.safe import safe
from engine.contract.verdict import Problem

from .evalfiles import Typed, number

# What a number is called says what it may mean; it is right if it is any of those.
_RAW = {"raw_total", "total_scored", "raw", "total_raw", "sum", "total", "points", "earned", "raw_score", "scored"}
_RAW |= {"total_points"}
_MAX = {"raw_max", "max_possible", "total_possible", "max", "max_total", "possible", "max_points", "max_raw"}
_SCORE = {"normalized_score", "normalised_score", "normalized", "score_out_of_10", "average_score", "average", "avg"}
_SCORE |= {"mean_score", "mean", "rounded_score", "final_score", "overall_score", "score_10", "score", "total_score"}
_PERCENT = {"percent", "percentage", "pct", "percent_score"}
# Parts of a file that speak of another model, or of other things than points.
_ELSEWHERE = re.compile(
    r"previous|history|comparison|baseline|before|delta|improve|phase\d|vs_|loss|config|param|count", re.I
)
_DIMENSION = re.compile(r"(?:d|dim|dimension)[ _-]?(\d{1,2})(?!\d)", re.IGNORECASE)
_COARSEST = Fraction(1, 20)  # a score may be rounded to one decimal; coarser roundings make regressions of nothing
_PERCENT_COARSEST = Fraction(1, 2)
_DEPTH = 30


@dataclass(frozen=True)
class Points:
    """Exact points of something, the most it could have, and how many answers they are of.

    `naive` is what adding the levels up as typed gives; it differs where a criterion is reversed.
    """

    raw: Fraction
    most: Fraction
    answers: int
    naive: Fraction

    @property
    def score(self) -> Fraction:
        return self.raw / self.most * Fraction(OUT_OF) if self.most else Fraction(0)

    def __add__(self, other: Points) -> Points:
        return Points(
            self.raw + other.raw, self.most + other.most, self.answers + other.answers, self.naive + other.naive
        )


NOTHING = Points(Fraction(0), Fraction(0), 0, Fraction(0))


def shown(value: Fraction) -> str:
    """A number as people write it: 44, 2.875."""
    return f"{value.numerator}" if value.denominator == 1 else f"{float(value):.4f}".rstrip("0").rstrip(".")


def fits(typed: Typed, right: Fraction, coarsest: Fraction = _COARSEST) -> bool:
    """Whether `typed` is `right`, rounded to as many decimals as were typed (either way at a tie)."""
    return abs(typed.value - right) <= min(Fraction(1, 2 * 10**typed.decimals), coarsest)


def check_question(name: str, typed: Typed, right: Points) -> Problem | None:
    """The typed total of one answer against its cells."""
    if typed.of is not None:
        ok = fits(Typed(typed.text, typed.value, typed.decimals), right.raw * typed.of / right.most)
    elif typed.percent:
        ok = fits(typed, right.raw / right.most * 100, _PERCENT_COARSEST)
    else:
        ok = fits(typed, right.raw) or fits(typed, right.score)
    if ok:
        return None
    told = (
        f"The typed total of {name} is {_text(typed)}; its cells add up to {shown(right.raw)} of {shown(right.most)}."
    )
    return Problem(id="wrong-total", severity="warning", message=told + _why(typed, right), question=name)


def check_rest(rest: Any, whole: Points, parts: dict[str, Points], rubric: Rubric) -> list[Problem]:
    """Every typed number around the grades: totals of all, and of one dimension where its key names one."""
    problems = []
    for path, value in _numbers(rest):
        dimension = _dimension(path, rubric)
        if dimension and dimension not in parts:
            continue
        points = parts[dimension] if dimension else whole
        right = _meanings(path, points, bool(dimension))
        typed = number(value)
        if typed is None or right is None or not points.most or _right(typed, right):
            continue
        what = f"of {dimension} " if dimension else ""
        where = ".".join(path)
        told = (
            f"The typed total {what}({safe(where, False)}) is {_text(typed)}, which is wrong: "
            f"it is {_right_words(typed, right, points)}."
        )
        problems.append(Problem(id="wrong-total", severity="warning", message=told + _why(typed, points)))
    return problems


def _right(typed: Typed, meanings: dict[str, Fraction]) -> bool:
    plain = Typed(typed.text, typed.value, typed.decimals)
    if typed.of is not None:
        return any(fits(plain, share * typed.of) for share in (meanings["share"],))
    if typed.percent or "percent" in meanings:
        return fits(plain, meanings["share"] * 100, _PERCENT_COARSEST) or fits(plain, meanings["share"])
    return any(fits(plain, value) for name, value in meanings.items() if name != "share")


def _right_words(typed: Typed, meanings: dict[str, Fraction], points: Points) -> str:
    if typed.of is not None:
        return (
            f"{shown(meanings['share'] * typed.of)} of {shown(typed.of)} ({shown(points.raw)} of {shown(points.most)})"
        )
    sums = f"({shown(points.raw)} of {shown(points.most)} points)"
    first = next(value for name, value in meanings.items() if name != "share")  # what its name says in the first place
    return f"{shown(first)} {sums}"


def _meanings(path: tuple[str, ...], points: Points, of_dimension: bool) -> dict[str, Fraction] | None:
    """What a number with this name may rightly be; None where the name says nothing."""
    name = path[-1].casefold().replace("-", "_").replace(" ", "_")
    share = points.raw / points.most if points.most else Fraction(0)
    each = points.raw / points.answers if points.answers else Fraction(0)
    if of_dimension and _DIMENSION.match(name):
        averages = any(word in " ".join(path[:-1]).casefold() for word in ("avg", "average", "mean"))
        return {"share": share, "mean": each} | ({} if averages else {"raw": points.raw, "score": points.score})
    if name in _RAW:
        return {"share": share, "raw": points.raw, "score": points.score}
    if name in _MAX:
        return {"share": share, "max": points.most}
    if name in _SCORE:
        return {"share": share, "score": points.score, "mean": each, "raw": points.raw, "fraction": share}
    if name in _PERCENT:
        return {"share": share, "percent": share * 100}
    return None


def _dimension(path: tuple[str, ...], rubric: Rubric) -> str:
    """The rubric's dimension that a key on the way names, or ""."""
    for key in reversed(path):
        if found := dimension_named(key, rubric):
            return found
    return ""


def dimension_named(key: str, rubric: Rubric) -> str:
    """The dimension that a file means by `key`: by its id, by d1, d2 … in order, or by its name. "" for none."""
    plain = " ".join(re.findall(r"[^\W_]+", key.casefold()))
    for dimension in rubric.dimensions:
        if plain in (dimension.id.casefold(), " ".join(re.findall(r"[^\W_]+", dimension.name.casefold()))):
            return dimension.id
        if re.match(rf"{re.escape(dimension.id.casefold())}(?![^\W_])", plain):
            return dimension.id
    found = _DIMENSION.match(key)
    if found and 1 <= int(found[1]) <= len(rubric.dimensions):
        return rubric.dimensions[int(found[1]) - 1].id
    return ""


def _numbers(rest: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path of keys, value) of the numbers that may be totals."""
    if not isinstance(rest, dict) or len(path) > _DEPTH:
        return
    for key, value in rest.items():
        if _ELSEWHERE.search(key):
            continue
        if isinstance(value, dict):
            yield from _numbers(value, (*path, key))
        elif number(value) is not None:
            yield (*path, key), value


def _why(typed: Typed, points: Points) -> str:
    """The likeliest cause of a wrong total, where one can be seen."""
    if points.naive != points.raw and typed.value in (points.naive, points.naive / points.most * Fraction(OUT_OF)):
        return " It adds a criterion in which lower is better as if higher were."
    if typed.of is None and not typed.percent and 0 < abs(typed.value - points.score) < Fraction(1, 2):
        return f" Unrounded the score is {shown(points.score)}; one point is {shown(Fraction(OUT_OF) / points.most)}."
    return ""


def _text(typed: Typed) -> str:
    return safe(typed.text, keep_newlines=False)[:30]
