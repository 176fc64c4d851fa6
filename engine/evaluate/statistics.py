"""The arithmetic that few questions allow. Pure; the unit is the question, whose cells are correlated.

Tests agree with scipy and statsmodels (tests/engine/evaluate/test_statistics.py). Formulas: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy import optimize, stats

from engine.contract.verdict import Verdict

ALPHA = 0.05
POWER = 0.8
FLIPS = 100_000  # drawn where there are too many to count
_SUMS = 200_000  # different sums up to which every sign flip is counted
_SEED = 20_240_229  # of drawn flips: the same files give the same p


def mean_interval(values: Sequence[float], confidence: float = 1 - ALPHA) -> tuple[float, float] | None:
    """Student's t interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * spread(values) / math.sqrt(len(values))
    middle = float(np.mean(values))
    return middle - float(half), middle + float(half)


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1); 0 for equal values, whatever their last digit says."""
    if len(values) < 2 or max(values) == min(values):
        return 0.0
    return float(np.std(values, ddof=1))


@dataclass(frozen=True)
class Flips:
    """Two-sided p of the sign-flip test, and whether every flip was counted."""

    p: float
    exact: bool


def sign_flip(differences: Sequence[Fraction | int]) -> Flips:
    """How often random signs give a mean at least as far from 0 as the one seen.

    All 2^n sign patterns are counted without listing them: the sums that they reach, and how often, are built up one
    difference at a time. Exact arithmetic, so that equal sums are equal. Only where there are too many sums, flips are
    drawn with a fixed seed, and the pattern seen counts as one of them. No difference at all: p = 1.
    """
    whole = _whole_numbers(differences)
    seen = abs(sum(whole))
    ways: dict[int, int] = {0: 1}
    for value in whole:
        following: dict[int, int] = {}
        for total, count in ways.items():
            following[total + value] = following.get(total + value, 0) + count
            following[total - value] = following.get(total - value, 0) + count
        ways = following
        if len(ways) > _SUMS:
            return _drawn(whole, seen)
    as_far = sum(count for total, count in ways.items() if abs(total) >= seen)
    return Flips(float(Fraction(as_far, 2 ** len(whole))), True)


def _whole_numbers(differences: Sequence[Fraction | int]) -> list[int]:
    """The differences times one number that makes all of them whole."""
    fractions = [Fraction(value) for value in differences]
    common = math.lcm(*(value.denominator for value in fractions)) if fractions else 1
    return [int(value * common) for value in fractions]


def _drawn(whole: Sequence[int], seen: int) -> Flips:
    values = np.array([float(value) for value in whole])
    random = np.random.default_rng(_SEED)
    far = 0
    for _ in range(10):
        signs = random.integers(0, 2, size=(FLIPS // 10, len(values))) * 2 - 1
        far += int(np.count_nonzero(np.abs(signs @ values) >= seen * (1 - 1e-12)))
    return Flips((far + 1) / (FLIPS + 1), False)


def smallest_p(n: int) -> float | None:
    """The smallest two-sided p that n questions can reach: both all-plus and all-minus are as far as it goes."""
    return min(1.0, 2.0 ** (1 - n)) if n else None


def detectable(sd: float, n: int, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """The true mean difference that a two-sided t test of n differences with this spread finds with this power.

    By the noncentral t distribution; None for fewer than two differences.
    """
    if n < 2:
        return None
    if sd == 0:
        return 0.0
    limit = stats.t.ppf(1 - alpha / 2, n - 1)

    def missing(shift: float) -> float:
        return float(stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)) - power

    high = 8.0
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0.0, high, xtol=1e-10)) * sd / math.sqrt(n)


def holm(ps: Sequence[float]) -> list[float]:
    """P values corrected for being several, in their order (Holm's step-down method)."""
    corrected = [0.0] * len(ps)
    worst = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = worst
    return corrected


@dataclass(frozen=True)
class Judged:
    """Everything that follows from paired differences, b - a."""

    n: int
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None
    p: float | None
    exact: bool
    mdd: float | None
    verdict: Verdict


def judge(differences: Sequence[Fraction | int]) -> Judged:
    """The verdict by rule: exact p at most 0.05 is better or worse; else a t interval within what could have been
    detected is no detectable change; else inconclusive. Nothing to compare is not comparable."""
    n = len(differences)
    if n == 0:
        return Judged(0, None, None, None, None, True, None, "not comparable")
    values = [float(value) for value in differences]
    mean = float(sum(Fraction(value) for value in differences) / n)
    sd = spread(values) if n > 1 else None
    interval, flips = mean_interval(values), sign_flip(differences)
    mdd = detectable(sd, n) if sd is not None else None
    verdict: Verdict = "inconclusive"
    if flips.p <= ALPHA:
        verdict = "better" if mean > 0 else "worse"
    elif interval and mdd is not None and -mdd <= interval[0] and interval[1] <= mdd:
        verdict = "no detectable change"
    return Judged(n, mean, sd, interval, flips.p, flips.exact, mdd, verdict)
