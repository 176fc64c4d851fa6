"""How far two raters agree, over the cells that both filled. Pure; tests agree with statsmodels and krippendorff."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from engine.contract.grading import Grading
from engine.contract.verdict import Agreement, PairsResult

ENOUGH = 20  # cells under which an agreement says nothing

Pair = tuple[int, int]


def agreement(one: Grading, two: Grading) -> Agreement:
    """Agreement of two gradings of the same slots by rubrics of the same fingerprint."""
    pairs = common_cells(one, two)
    levels = list(one.opened.rubric.scale.levels)
    return Agreement(
        one=one.opened.rater,
        two=two.opened.rater,
        cells=len(pairs),
        agreement=raw(pairs),
        kappa=kappa(pairs, levels),
        alpha=alpha(pairs, levels),
        ac2=ac2(pairs, levels),
        enough=len(pairs) >= ENOUGH,
    )


def common_cells(one: Grading, two: Grading) -> list[Pair]:
    """The own levels of both raters, wherever both gave one to the same answer (by its key)."""
    theirs = {
        (slot.key, name): level
        for slot in two.slots
        if slot.kind != "duplicate" and two.grade(slot.id).counts
        for name, level in two.grade(slot.id).cells.items()
    }
    return [
        (level, theirs[slot.key, name])
        for slot in one.slots
        if slot.kind != "duplicate" and one.grade(slot.id).counts
        for name, level in one.grade(slot.id).cells.items()
        if (slot.key, name) in theirs
    ]


def raw(pairs: Sequence[Pair]) -> float | None:
    """Share of equal cells."""
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def kappa(pairs: Sequence[Pair], levels: Sequence[int]) -> float | None:
    """Cohen's kappa with quadratic weights; None where chance alone explains everything."""
    table = _table(pairs, levels)
    if table is None:
        return None
    distance = _distances(len(levels))
    expected = np.outer(table.sum(1), table.sum(0))
    by_chance = float((distance * expected).sum())
    return None if by_chance == 0 else 1 - float((distance * table).sum()) / by_chance


def ac2(pairs: Sequence[Pair], levels: Sequence[int]) -> float | None:
    """Gwet's AC2 with quadratic weights, which does not collapse where nearly all cells are alike.

    Gwet, Handbook of Inter-Rater Reliability, 4th ed., chapter 5: the chance term is the sum of weights over q (q - 1),
    times the sum of p (1 - p) over the mean shares p of the q levels.
    """
    table = _table(pairs, levels)
    if table is None:
        return None
    q = len(levels)
    weights = 1 - _distances(q)
    shares = (table.sum(0) + table.sum(1)) / 2
    by_chance = float(weights.sum() / (q * (q - 1)) * (shares * (1 - shares)).sum())
    return None if by_chance == 1 else (float((weights * table).sum()) - by_chance) / (1 - by_chance)


def alpha(pairs: Sequence[Pair], levels: Sequence[int]) -> float | None:
    """Krippendorff's alpha for ordinal levels and two raters; None where only one level occurs."""
    table = _table(pairs, levels)
    if table is None:
        return None
    coincidences = (table + table.T) * len(pairs)
    counts = coincidences.sum(0)
    n = counts.sum()
    ranks = np.cumsum(counts) - counts / 2
    distance = (ranks[:, None] - ranks[None, :]) ** 2  # sum of counts between, each end by half
    expected = float((np.outer(counts, counts) * distance).sum())
    return None if expected == 0 else 1 - float((n - 1) * (coincidences * distance).sum()) / expected


def _table(pairs: Sequence[Pair], levels: Sequence[int]) -> np.ndarray | None:
    """Shares [level of the one, level of the other]."""
    if not pairs:
        return None
    table = np.zeros((len(levels), len(levels)))
    for a, b in pairs:
        table[levels.index(a), levels.index(b)] += 1
    return table / len(pairs)


def _distances(q: int) -> np.ndarray:
    steps = np.arange(q)
    return ((steps[:, None] - steps[None, :]) / (q - 1)) ** 2


def judged_pairs(grading: Grading) -> PairsResult:
    """Wins of either side, and the exact sign test over the pairs that had a winner."""
    counts = {name: list(grading.duels.values()).count(name) for name in ("one", "two", "tie", "bad")}
    decided = counts["one"] + counts["two"]
    p = float(stats.binomtest(counts["two"], decided).pvalue) if decided else None
    return PairsResult(
        rater=grading.opened.rater,
        sides=list(grading.opened.voices),
        one=counts["one"],
        two=counts["two"],
        ties=counts["tie"],
        bad=counts["bad"],
        p=None if p is None or math.isnan(p) else p,
        complete=grading.complete,
    )
