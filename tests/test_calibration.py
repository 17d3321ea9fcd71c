"""The statistics themselves, over many studies: false alarms, coverage and power are what they should be.

Every judgement is at the level 1e-3, so that a right program fails here in one of some hundred choices of seeds.
"""

import numpy as np
import pytest
from scipy import stats

from mcrace.statistics import (
    Margin,
    equivalence_p,
    mean_interval,
    permutation_p,
    permuted_slopes,
    slopes_within,
)

pytestmark = pytest.mark.calibration
LEVEL = 1e-3
STUDIES = 1000


def consistent(hits, trials, least, most):
    """Whether a count agrees with a probability between two values."""
    return stats.binom.cdf(hits, trials, least) > LEVEL and stats.binom.sf(hits - 1, trials, most) > LEVEL


def synthetic(rng, effect=0.0, networks=8, neurons=16):
    """x and y [network, neuron] with strata that differ in both, related by a slope within the strata, or not at all.

    The noise is skewed, and its size differs between networks and strata.
    """
    strata = rng.integers(0, 2, (networks, neurons))
    x = rng.normal(size=strata.shape) + 3 * strata
    noise = rng.exponential(size=strata.shape) * rng.uniform(0.5, 2, (networks, 1)) * (1 + strata)
    x[:, 0] = np.nan  # a neuron that is left out
    return x, effect * x + noise - 5 * strata, strata


def p_of(rng, effect=0.0):
    x, y, strata = synthetic(rng, effect)
    observed = float(np.nanmean(slopes_within(x, y, strata)))
    return permutation_p(observed, permuted_slopes(x, y, strata, rng, 199))


def test_permutation_p_values_are_uniform_where_nothing_is_related():
    rng = np.random.default_rng(1)
    p = np.array([p_of(rng) for _ in range(STUDIES)])
    # p takes the values 1/200 ... 1; spread over their cells they are uniform
    spread = p - rng.uniform(0, 1 / 200, STUDIES)
    assert stats.kstest(spread, "uniform").pvalue > LEVEL
    assert 0.036 <= (p <= 0.05).mean() <= 0.065, "THEORY.md, How a verdict is reached"


@pytest.mark.parametrize("effect, least", [(0.4, 0.4), (1.0, 0.95), (-1.0, 0.95)])
def test_permutation_p_values_are_small_where_an_effect_is_planted(effect, least):
    rng = np.random.default_rng(2)
    hits = sum(p_of(rng, effect) <= 0.05 for _ in range(200))
    assert consistent(hits, 200, least, 1.0)


def test_shuffling_across_strata_would_be_seen_here():
    """The same test without strata cries wolf: strata differ in x and y, so the check above can fail."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(100):
        x, y, strata = synthetic(rng)
        one = np.zeros_like(strata)
        observed = float(np.nanmean(slopes_within(x, y, one)))
        hits += permutation_p(observed, permuted_slopes(x, y, one, rng, 199)) <= 0.05
    assert hits > 50


@pytest.mark.parametrize("law", ["normal", "skewed", "heavy tails"])
def test_the_interval_of_a_mean_covers_it(law):
    """Between 93 and 97 % of the intervals, for 60 networks."""
    rng = np.random.default_rng(4)
    draw = {"normal": rng.normal, "skewed": lambda size: rng.gamma(4, size=size) - 4,
            "heavy tails": lambda size: rng.standard_t(5, size=size)}[law]
    inside = 0
    for _ in range(STUDIES):
        found = mean_interval(draw(size=60), rng)
        inside += found.low <= 0 <= found.high
    assert consistent(inside, STUDIES, 0.93, 0.97)


def test_intervals_miss_on_both_sides_alike():
    rng = np.random.default_rng(5)
    found = [mean_interval(rng.normal(size=60), rng) for _ in range(STUDIES)]
    below, above = sum(i.high < 0 for i in found), sum(i.low > 0 for i in found)
    assert consistent(below, STUDIES, 0.015, 0.035) and consistent(above, STUDIES, 0.015, 0.035)


@pytest.mark.parametrize("margin, mean", [
    (Margin(0.9, 1.1), 0.9), (Margin(0.9, 1.1), 1.1), (Margin(low=0.3), 0.3), (Margin(high=0.25), 0.25)])
def test_equivalence_is_claimed_at_the_margin_as_often_as_its_level(margin, mean):
    """Two-sided margins are claimed a little less often than 5 %: the other end must hold as well."""
    rng = np.random.default_rng(6)
    p = np.array([equivalence_p(rng.normal(mean, 0.1, 40), margin) for _ in range(STUDIES)])
    assert consistent((p <= 0.05).sum(), STUDIES, 0.03, 0.05)


def test_equivalence_is_not_claimed_outside_and_is_claimed_inside():
    rng = np.random.default_rng(7)
    outside = sum(equivalence_p(rng.normal(1.15, 0.2, 40), Margin(0.9, 1.1)) <= 0.05 for _ in range(300))
    inside = sum(equivalence_p(rng.normal(1.0, 0.2, 40), Margin(0.9, 1.1)) <= 0.05 for _ in range(300))
    assert outside <= 3 and consistent(inside, 300, 0.85, 1.0)
