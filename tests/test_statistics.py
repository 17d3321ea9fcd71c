"""Statistics against other libraries, and against the plainest loops."""

import itertools
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from mcrace.statistics import (
    Interval,
    Margin,
    benjamini_hochberg,
    equivalence_p,
    holm,
    mean_interval,
    permutation_p,
    permuted_slopes,
    slopes_within,
    spearman_within,
)


def rng(seed=0):
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------------------- intervals


def bca(values, resamples, generator):
    """Efron's interval, by its formulas."""
    means = generator.choice(values, (resamples, len(values))).mean(axis=1)
    bias = stats.norm.ppf((means < values.mean()).mean() + (means == values.mean()).mean() / 2)
    left_out = (values.sum() - values) / (len(values) - 1)
    deviations = left_out.mean() - left_out
    skew = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    return np.quantile(means, stats.norm.cdf(bias + z / (1 - skew * z)))


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_a_mean_is_efrons(seed):
    values = rng(seed).exponential(size=60)
    found = mean_interval(values, rng(1))
    low, high = bca(values, 200_000, rng(2))
    assert found.estimate == pytest.approx(values.mean(), rel=1e-14)
    width = high - low
    assert abs(found.low - low) < 0.06 * width and abs(found.high - high) < 0.06 * width
    # skewed data: the interval is not symmetric, as the percentile or the normal one would be
    assert found.high - found.estimate > found.estimate - found.low


def test_the_interval_is_scipys_to_the_bit():
    values = rng(4).normal(size=50)
    found = mean_interval(values, rng(5))
    expected = stats.bootstrap((values,), np.mean, n_resamples=2000, method="BCa", rng=rng(5), batch=100)
    assert (found.low, found.high) == tuple(expected.confidence_interval)
    assert mean_interval(values, rng(5)) == found


def test_the_interval_of_equal_values_is_a_point():
    assert mean_interval(np.full(40, 0.25), rng()) == Interval(0.25, 0.25, 0.25)
    rounded = 1 + 2.0**-52 * np.arange(-20, 20)  # an exact law, in floating point
    found = mean_interval(rounded, rng())
    assert 1 - 1e-14 < found.low <= found.estimate <= found.high < 1 + 1e-14
    assert mean_interval(np.zeros(40), rng()) == Interval(0, 0, 0)


INF = math.inf


@pytest.mark.parametrize("margin, interval, contains, misses", [
    ((0.9, 1.1), (0.95, 1.05), True, False),
    ((0.9, 1.1), (0.9, 1.1), True, False),  # ends count
    ((0.9, 1.1), (0.85, 1.0), False, False),
    ((0.9, 1.1), (1.0, 1.2), False, False),
    ((0.9, 1.1), (0.8, 1.2), False, False),
    ((0.9, 1.1), (0.5, 0.8), False, True),
    ((0.9, 1.1), (0.5, 0.9), False, False),  # touches
    ((0.9, 1.1), (1.2, 1.3), False, True),
    ((0.3, INF), (0.3, 5.0), True, False),
    ((0.3, INF), (0.2, 5.0), False, False),
    ((0.3, INF), (0.1, 0.29), False, True),
    ((-INF, 0.25), (0.0, 0.25), True, False),
    ((-INF, 0.25), (0.26, 0.3), False, True),
    ((0.9, 1.1), (math.nan, math.nan), False, False),
])
def test_margins(margin, interval, contains, misses):
    margin, interval = Margin(*margin), Interval(sum(interval) / 2, *interval)
    assert (margin.contains(interval), margin.misses(interval)) == (contains, misses)


def test_the_scale_and_the_text_of_a_margin():
    assert Margin(0.9, 1.1).scale == pytest.approx(0.1) and str(Margin(0.9, 1.1)) == "1 ± 0.1"
    assert Margin(low=0.3).scale == 0.3 and str(Margin(low=0.3)) == "≥ 0.3"
    assert Margin(high=-0.25).scale == 0.25 and str(Margin(high=-0.25)) == "≤ -0.25"
    assert str(Margin()) == "-"


# ------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("mean", [0.85, 0.95, 1.0, 1.07, 1.3])
def test_equivalence_is_that_of_statsmodels(mean):
    values = rng(7).normal(mean, 0.2, 45)
    expected, _, _ = DescrStatsW(values).ttost_mean(0.9, 1.1)
    assert equivalence_p(values, Margin(0.9, 1.1)) == pytest.approx(expected, rel=1e-10)


def test_equivalence_to_a_half_line_is_one_test():
    values = rng(7).normal(0.4, 0.2, 45)
    assert equivalence_p(values, Margin(low=0.3)) == stats.ttest_1samp(values, 0.3, alternative="greater").pvalue
    assert equivalence_p(values, Margin(high=0.5)) == stats.ttest_1samp(values, 0.5, alternative="less").pvalue


def test_equivalence_of_equal_values():
    assert equivalence_p(np.full(5, 1.0), Margin(0.9, 1.1)) == 0
    assert equivalence_p(np.full(5, 1.1), Margin(0.9, 1.1)) == 1
    assert equivalence_p(np.full(5, 2.0), Margin(0.9, 1.1)) == 1
    assert equivalence_p(1 + 2.0**-52 * np.arange(5), Margin(0.9, 1.1)) == 0


P_VALUES = arrays.arrays(float, st.integers(1, 20), elements=st.floats(0, 1))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(P_VALUES)
def test_corrections_are_those_of_statsmodels(p):
    with mock.patch("gc.collect"):  # which statsmodels calls each time, for a tenth of a second
        expected = multipletests(p, method="holm")[1]
    assert np.allclose(holm(p), expected, rtol=1e-12, atol=0)
    assert np.allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12, atol=0)


def test_nothing_to_correct():
    assert len(holm(np.array([]))) == len(benjamini_hochberg(np.array([]))) == 0


# ------------------------------------------------------------------------------------------------- slopes and ranks


def by_hand(x, y, strata, rank=False):
    """Slope, or rank correlation, of one network with explicit loops."""
    xs, ys = [], []
    for stratum in set(strata):
        of = [a for a in range(len(x)) if strata[a] == stratum and np.isfinite(x[a]) and np.isfinite(y[a])]
        if of:
            u, w = (stats.rankdata(z[of]) if rank else z[of] for z in (x, y))
            xs.extend(u - u.mean())
            ys.extend(w - w.mean())
    xs, ys = np.array(xs), np.array(ys)
    with np.errstate(all="ignore"):
        return (xs @ ys) / (np.sqrt((xs @ xs) * (ys @ ys)) if rank else xs @ xs)


def some_networks(seed, networks=7, neurons=13, ties=False):
    generator = rng(seed)
    x, y = generator.normal(size=(2, networks, neurons))
    if ties:
        x, y = np.round(x), np.round(y)
    x[generator.random(x.shape) < 0.1] = np.nan
    y[generator.random(x.shape) < 0.1] = np.nan
    y[0, 0] = -np.inf  # the logarithm of a norm that vanished
    return x, y, generator.integers(0, 3, x.shape)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ties", [False, True])
def test_slopes_and_ranks_within_strata_are_those_by_hand(seed, ties):
    x, y, strata = some_networks(seed, ties=ties)
    before = x.copy(), y.copy()
    slopes = [by_hand(*row) for row in zip(x, y, strata)]
    assert np.allclose(slopes_within(x, y, strata), slopes, rtol=1e-10, equal_nan=True)
    y[0, 0] = np.nan
    ranks = [by_hand(*row, rank=True) for row in zip(x, y, strata)]
    assert np.allclose(spearman_within(x, y, strata), ranks, rtol=1e-10, equal_nan=True)
    assert np.array_equal(before[0][1:], x[1:], equal_nan=True) and np.array_equal(before[1][1:], y[1:], equal_nan=True)


def test_ranks_in_one_stratum_are_spearmans():
    x, y = rng(3).normal(size=(2, 4, 30))
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x, y)]
    assert np.allclose(spearman_within(x, y, np.zeros((4, 30), int)), expected)


def test_where_x_does_not_vary_there_is_no_slope():
    x, y = np.ones((2, 6)), rng().normal(size=(2, 6))
    x[1, 3:] = 2  # varies, but not within a stratum
    strata = np.array([[0] * 6, [0] * 3 + [1] * 3])
    assert np.isnan(slopes_within(x, y, strata)).all() and np.isnan(spearman_within(x, y, strata)).all()
    assert np.isnan(slopes_within(np.full((1, 4), np.nan), y[:1, :4], np.zeros((1, 4), int))).all()


def test_a_shift_of_a_stratum_changes_nothing():
    x, y, strata = some_networks(5)
    y[0, 0] = np.nan
    assert np.allclose(slopes_within(x + 5.0 * strata, y - 3.0 * strata, strata), slopes_within(x, y, strata))
    assert np.allclose(slopes_within(x, 2 * x + strata, strata), 2)


# ------------------------------------------------------------------------------------------------- permutations


def test_shuffles_stay_within_strata():
    """Two neurons in each of three strata: a shuffle swaps or keeps each pair, so eight slopes are equally likely."""
    x, y = rng(2).normal(size=(2, 1, 6))
    strata = np.array([[0, 1, 2, 0, 1, 2]])
    centred_x, centred_y = (z - (z + z[:, [3, 4, 5, 0, 1, 2]]) / 2 for z in (x, y))
    pairs = 2 * centred_x[0, :3] * centred_y[0, :3] / (centred_x**2).sum()
    possible = np.array([sum(s * p for s, p in zip(signs, pairs)) for signs in itertools.product((1, -1), repeat=3)])
    found = permuted_slopes(x, y, strata, rng(3), 8000)
    nearest = np.abs(found[:, None] - possible).argmin(axis=1)
    assert np.abs(found - possible[nearest]).max() < 1e-12
    assert stats.chisquare(np.bincount(nearest, minlength=8)).pvalue > 1e-3


def test_shuffles_of_one_stratum_are_all_orders():
    x, y = rng(4).normal(size=(2, 1, 4))
    x, y = x - x.mean(), y - y.mean()
    orders = np.array([np.dot(p, y[0]) for p in itertools.permutations(x[0])]) / (x**2).sum()
    found = permuted_slopes(x, y, np.zeros((1, 4), int), rng(5), 12_000)
    nearest = np.abs(found[:, None] - orders).argmin(axis=1)
    assert np.abs(found - orders[nearest]).max() < 1e-12
    assert stats.chisquare(np.bincount(nearest, minlength=24)).pvalue > 1e-3


def test_permuted_slopes_have_mean_0_and_the_spread_of_theory():
    x, y, strata = some_networks(8, networks=5, neurons=40)
    y[0, 0] = np.nan
    found = permuted_slopes(x, y, strata, rng(9), 4000)
    variance = 0.0
    for i in range(5):
        square = 0.0
        part = 0.0
        for stratum in range(3):
            of = (strata[i] == stratum) & np.isfinite(x[i] + y[i])
            u, w = x[i, of] - x[i, of].mean(), y[i, of] - y[i, of].mean()
            square += u @ u
            part += (u @ u) * (w @ w) / (of.sum() - 1)
        variance += part / square**2 / 25
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(4000)
    assert found.std() == pytest.approx(np.sqrt(variance), rel=0.05)


def test_shuffling_cannot_see_what_networks_and_strata_differ_in():
    """Between networks and strata x and y are perfectly related, within them not at all."""
    generator = rng(6)
    strata = np.tile([0, 1], (4, 20))
    level = 100.0 * strata + 1000.0 * np.arange(4)[:, None]
    x, y = generator.normal(size=(2, 4, 40))
    inside = permuted_slopes(x, y, strata, rng(1), 200)
    assert np.allclose(permuted_slopes(x + level, y + level, strata, rng(1), 200), inside, atol=1e-9)


def test_networks_without_a_slope_do_not_dilute_the_others():
    x, y, strata = some_networks(11, networks=3)
    y[0, 0] = np.nan
    more_x, more_y = (np.concatenate([np.full((2, 13), np.nan), z]) for z in (x, y))
    more = permuted_slopes(more_x, more_y, np.concatenate([strata[:2], strata]), rng(2), 300)
    assert np.allclose(more, permuted_slopes(x, y, strata, rng(2), 300))


def test_permutation_p():
    permuted = np.array([-0.5, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert permutation_p(0.45, permuted) == pytest.approx(4 / 10)
    assert permutation_p(-0.45, permuted) == pytest.approx(4 / 10)
    assert permutation_p(0.5, permuted) == pytest.approx(4 / 10), "what is as large counts"
    assert permutation_p(7.0, permuted) == pytest.approx(1 / 10), "never 0"
    assert math.isnan(permutation_p(math.nan, permuted)), "nothing observed is no evidence"
