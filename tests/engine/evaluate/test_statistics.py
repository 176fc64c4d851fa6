"""The arithmetic agrees with scipy, statsmodels and krippendorff on random inputs, and with recorded references."""

from __future__ import annotations

import math
from fractions import Fraction

import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from engine.evaluate import agreement
from engine.evaluate import statistics as ours

RECORDED = [2, 3, 3, 6, 6, -2, 2, 1]  # cycle 7 - cycle 6, points of 10
small = st.lists(st.integers(-10, 10), min_size=2, max_size=9)
cells = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=5, max_size=80)


def test_the_recorded_cycles() -> None:
    judged = ours.judge(RECORDED)
    assert judged.verdict == "better"
    assert judged.mean == 2.625 and judged.p == 0.0390625
    assert judged.interval == pytest.approx((0.44, 4.81), abs=0.005)
    assert judged.sd == pytest.approx(2.62, abs=0.005)


@pytest.mark.parametrize(("n", "least"), [(8, 0.0078125), (5, 0.0625), (1, 1.0)])
def test_the_smallest_p_is_reached_by_one_sign(n: int, least: float) -> None:
    assert ours.smallest_p(n) == least == ours.sign_flip([1] * n).p


@pytest.mark.parametrize(("n", "expected"), [(8, 3.0), (24, 1.55)])
def test_what_can_be_detected_at_the_observed_spread(n: int, expected: float) -> None:
    assert ours.detectable(2.6, n) == pytest.approx(expected, abs=0.01)


@given(small)
@settings(deadline=None, max_examples=40)
def test_sign_flips_as_scipy_counts_them(values: list[int]) -> None:
    def mean(sample: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(sample, axis=axis)

    reference = stats.permutation_test(
        (np.array(values, float),), mean, permutation_type="samples", n_resamples=math.inf, vectorized=True
    )
    tol = 1e-9
    null = np.abs(reference.null_distribution) >= abs(np.mean(values)) - tol
    assert ours.sign_flip(values).p == pytest.approx(null.mean(), abs=1e-12)


def test_thirds_that_sum_to_the_same_are_the_same() -> None:
    third = Fraction(1, 3)
    assert ours.sign_flip([third, third, -2 * third]).p == 1.0


def test_too_many_sums_are_drawn_with_a_fixed_seed_and_said_so() -> None:
    random = np.random.default_rng(0)
    values = [int(value) for value in random.integers(1, 10**12, 40) * random.choice([-1, 1], 40)]
    drawn = ours.sign_flip(values)
    assert not drawn.exact and drawn == ours.sign_flip(values)
    z = abs(sum(values)) / math.sqrt(sum(value * value for value in values))
    assert drawn.p == pytest.approx(2 * stats.norm.sf(z), abs=0.02)


@given(small)
@settings(deadline=None, max_examples=60)
def test_the_interval_is_students(values: list[int]) -> None:
    assume(len(set(values)) > 1)
    reference = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert ours.mean_interval(values) == pytest.approx((reference.low, reference.high))


@given(st.floats(0.1, 10), st.integers(3, 40))
@settings(deadline=None, max_examples=25)
def test_the_detectable_difference_has_the_power_that_statsmodels_says(sd: float, n: int) -> None:
    effect = ours.detectable(sd, n)
    assert effect is not None
    assert TTestPower().power(effect / sd, n, 0.05) == pytest.approx(0.8, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(deadline=None, max_examples=6)  # statsmodels takes a tenth of a second
def test_holm_as_statsmodels_does_it(ps: list[float]) -> None:
    assert ours.holm(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]))


@given(cells)
@settings(deadline=None)
def test_kappa_and_alpha_as_the_references(pairs: list[tuple[int, int]]) -> None:
    table = np.zeros((3, 3))
    for a, b in pairs:
        table[a, b] += 1
    assume(len({level for pair in pairs for level in pair}) > 1)
    mine = agreement.kappa(pairs, [0, 1, 2])
    with np.errstate(all="ignore"):  # statsmodels divides by a standard error that may be 0
        reference = cohens_kappa(table, wt="quadratic").kappa
    assert (mine is None and math.isnan(reference)) or mine == pytest.approx(reference)
    alpha = krippendorff.alpha(np.array(pairs).T, level_of_measurement="ordinal", value_domain=[0, 1, 2])
    assert agreement.alpha(pairs, [0, 1, 2]) == pytest.approx(alpha)


def test_ac2_does_not_collapse_where_kappa_does() -> None:
    skewed = [(2, 2)] * 38 + [(2, 1), (1, 2)]
    kappa, ac2 = agreement.kappa(skewed, [0, 1, 2]), agreement.ac2(skewed, [0, 1, 2])
    assert kappa is not None and ac2 is not None
    assert agreement.raw(skewed) == 0.95 and kappa < 0 and ac2 > 0.95
    assert agreement.ac2([(0, 0), (1, 1), (2, 2)], [0, 1, 2]) == pytest.approx(1.0)


def test_ac2_by_hand() -> None:
    """Shares 1/2 each of levels 0 and 1 of two; half agree: weights are the identity, chance is 2 x 1/4 x 2 / 2."""
    assert agreement.ac2([(0, 0), (0, 1), (1, 0), (1, 1)], [0, 1]) == pytest.approx((0.5 - 0.5) / 0.5)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([1] * 8, "better"),
        ([-1] * 8, "worse"),
        ([0] * 8, "no detectable change"),
        ([1, -1, 1, -1, 1, -1, 1, -1], "no detectable change"),
        ([3, 4, 5], "inconclusive"),
        ([-3, -4, -5], "inconclusive"),
        ([5], "inconclusive"),
        ([], "not comparable"),
    ],
)
def test_the_verdict_follows_the_rule(differences: list[int], verdict: str) -> None:
    assert ours.judge(differences).verdict == verdict
