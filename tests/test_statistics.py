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
from statsmodels.api import OLS
from statsmodels.duration.survfunc import SurvfuncRight, survdiff
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from mcrace.statistics import (
    Interval,
    Margin,
    benjamini_hochberg,
    differences,
    equivalence_p,
    equivalence_power,
    harrell_c,
    holm,
    log_slopes,
    logrank_p,
    mean_interval,
    median_interval,
    median_p,
    networks_needed,
    paired_equivalence_p,
    partial_spearman_within,
    permutation_p,
    permuted_slopes,
    permuted_statistic,
    ratio_interval,
    ratio_p,
    resampling,
    share_interval,
    share_p,
    shuffled_within,
    signed_rank,
    slope_interval,
    slope_p,
    slopes_within,
    slopes_within_two,
    spearman_within,
    survival,
    top_jaccard,
)

INF = math.inf


def rng(seed=0):
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------------------- intervals


def student(count):
    """The ends of Student's interval of `count` numbers, in units of the spread that resampling gives to their mean."""
    return stats.t.ppf([0.025, 0.975], count - 1) * np.sqrt(count / (count - 1))


def bca(values, resamples, generator):
    """Efron's interval, by its formulas."""
    means = generator.choice(values, (resamples, len(values))).mean(axis=1)
    bias = stats.norm.ppf((means < values.mean()).mean() + (means == values.mean()).mean() / 2)
    left_out = (values.sum() - values) / (len(values) - 1)
    deviations = left_out.mean() - left_out
    skew = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    z = bias + student(len(values))
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


@pytest.mark.parametrize("count", [10, 50, 301])
@pytest.mark.parametrize("sort", ["mean", "ratio", "slope"])
def test_the_interval_is_scipys_but_for_rounding(sort, count):
    """Which takes the statistic anew without each network in turn."""
    x = rng(4).exponential(size=count)
    y = x + rng(6).normal(size=count) ** 3
    interval, statistic, columns = {
        "mean": (mean_interval, np.mean, (x,)),
        "ratio": (ratio_interval, lambda a, b, axis: a.sum(axis) / b.sum(axis), (y, 1 + x)),
        "slope": (slope_interval, lambda a, b, axis: np.sum((a - a.mean(axis, keepdims=True)) * b, axis)
                  / np.sum((a - a.mean(axis, keepdims=True)) ** 2, axis), (x, y)),
    }[sort]
    found = interval(*columns, rng(5))
    expected = stats.bootstrap(columns, statistic, n_resamples=2000, method="BCa", rng=rng(5), batch=100, vectorized=True,
                               paired=len(columns) > 1, confidence_level=1 - 2 * stats.norm.cdf(student(count)[0]))
    np.testing.assert_allclose((found.low, found.high), expected.confidence_interval, rtol=1e-11)
    assert interval(*columns, rng(5)) == found


def test_the_interval_does_not_hang_on_how_many_numbers_are_drawn_at_once(monkeypatch):
    values = rng(4).normal(size=51)
    found = mean_interval(values, rng(5))
    monkeypatch.setattr(resampling, "BATCH_NUMBERS", 51 * 3)
    assert mean_interval(values, rng(5)) == found


def test_the_interval_of_equal_values_is_a_point():
    assert mean_interval(np.full(40, 0.25), rng()) == Interval(0.25, 0.25, 0.25)
    rounded = 1 + 2.0**-52 * np.arange(-20, 20)  # an exact law, in floating point
    found = mean_interval(rounded, rng())
    assert 1 - 1e-14 < found.low <= found.estimate <= found.high < 1 + 1e-14
    assert mean_interval(np.zeros(40), rng()) == Interval(0, 0, 0)


def test_the_interval_of_groups_is_efrons_of_groups():
    """Whole groups are drawn, so that the number of networks differs between resamples."""
    generator = rng(6)
    groups = generator.permutation(np.repeat(np.arange(40), generator.integers(1, 6, 40)))
    values = generator.exponential(size=40)[groups] + 0.1 * generator.normal(size=len(groups))
    found = mean_interval(values, rng(1), groups)
    members = [values[groups == g] for g in range(40)]
    drawn = rng(2).integers(0, 40, (20_000, 40))
    sums, sizes = np.array([m.sum() for m in members]), np.array([len(m) for m in members])
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    left_out = np.array([np.concatenate(members[:g] + members[g + 1:]).mean() for g in range(40)])
    deviations = left_out.mean() - left_out
    skew = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    bias = stats.norm.ppf((means < values.mean()).mean())
    z = bias + student(40)
    low, high = np.quantile(means, stats.norm.cdf(bias + z / (1 - skew * z)))
    assert found.estimate == pytest.approx(values.mean())
    assert abs(found.low - low) < 0.06 * (high - low) and abs(found.high - high) < 0.06 * (high - low)
    alone = mean_interval(values, rng(1))
    assert found.high - found.low > 1.5 * (alone.high - alone.low), "networks of a group say little more than one"


def test_groups_of_one_network_are_networks():
    values = rng(7).normal(size=50)
    plain, grouped = mean_interval(values, rng(1)), mean_interval(values, rng(1), np.arange(50))
    assert (grouped.low, grouped.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
    named = mean_interval(values, rng(1), np.array([f"data {k:02}" for k in range(50)]))
    assert named == grouped, "a label may be anything"


def test_one_group_has_no_interval():
    found = mean_interval(rng().normal(size=40), rng(), np.zeros(40))
    assert math.isnan(found.low) and math.isnan(found.high) and math.isfinite(found.estimate)
    assert not Margin(-9, 9).contains(found) and not Margin(5, 9).misses(found)
    assert mean_interval(np.ones(40), rng(), np.arange(40) % 2) == Interval(1, 1, 1)


def linear(seed=0, count=60, slope=2.0, noise=0.5):
    generator = rng(seed)
    x = 3 + generator.exponential(size=count)
    return x, 1 + slope * x + noise * x * generator.normal(size=count)


@pytest.mark.parametrize("interval, statistic", [
    (ratio_interval, lambda x, y: y.mean() / x.mean()), (slope_interval, lambda x, y: np.polyfit(x, y, 1)[0])])
def test_pairs_are_drawn_together(interval, statistic):
    x, y = linear()
    found = interval(y, x, rng(1)) if interval is ratio_interval else interval(x, y, rng(1))
    expected = stats.bootstrap((x, y), statistic, paired=True, vectorized=False, n_resamples=4000, rng=rng(2),
                               confidence_level=1 - 2 * stats.norm.cdf(student(60)[0]))
    low, high = expected.confidence_interval
    assert found.estimate == pytest.approx(statistic(x, y))
    assert abs(found.low - low) < 0.1 * (high - low) and abs(found.high - high) < 0.1 * (high - low)


def test_exact_ratios_and_slopes_are_points():
    x = rng(1).exponential(size=40)
    assert ratio_interval(x / 3, x, rng()).low == ratio_interval(x / 3, x, rng()).high == pytest.approx(1 / 3)
    found = slope_interval(x, x / 3 + 0.7, rng())
    assert found.low == found.high == pytest.approx(1 / 3)
    assert ratio_p(x / 3, x, Margin(0.3, 0.4)) < 1e-4 and ratio_p(x / 3, x, Margin(0.4, 0.5)) > 0.999
    assert slope_p(x, x / 3 + 0.7, Margin(0.3, 0.4)) == 0 and slope_p(x, x / 3 + 0.7, Margin(0.4, 0.5)) == 1
    assert math.isnan(slope_interval(np.ones(40), x, rng()).low) and math.isnan(slope_p(np.ones(40), x, Margin(0, 1)))


@pytest.mark.parametrize("count", [5, 6, 30, 31, 100])
def test_the_interval_of_a_median_is_between_order_statistics(count):
    values = rng(count).exponential(size=count)
    found, ordered = median_interval(values), np.sort(values)
    assert found.estimate == np.median(values)
    covers = [1 - 2 * stats.binom.cdf(k, count, 0.5) for k in range(count // 2)]  # from the (k+1)th smallest on
    narrowest = [k for k in range(count // 2) if covers[k] >= 0.95]
    if not narrowest:
        assert math.isnan(found.low) and math.isnan(found.high)
    else:
        assert (found.low, found.high) == (ordered[narrowest[-1]], ordered[count - 1 - narrowest[-1]])


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(1, 300), st.floats(0, 1))
def test_the_interval_of_a_share_is_that_of_statsmodels(count, share):
    flags = np.arange(count) < round(share * count)
    found = share_interval(flags)
    expected = proportion_confint(flags.sum(), count, method="wilson")
    assert found.estimate == flags.mean()
    assert (found.low, found.high) == pytest.approx((max(expected[0], 0), min(expected[1], 1)), abs=1e-12)


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


@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.07, 0.4])
def test_paired_equivalence_is_that_of_statsmodels(shift):
    a, b = rng(8).normal(size=(2, 50))
    a = b + shift + 0.1 * a
    expected = ttost_paired(a, b, -0.1, 0.1)[0]
    assert paired_equivalence_p(a, b, Margin(-0.1, 0.1)) == pytest.approx(expected, rel=1e-9)
    more = np.r_[a, np.nan, 1.0], np.r_[b, 1.0, np.nan]
    assert paired_equivalence_p(*more, Margin(-0.1, 0.1)) == pytest.approx(expected, rel=1e-9), "half a pair is none"
    assert np.array_equal(differences(*more), a - b)


@pytest.mark.parametrize("margin", [(1.8, 2.2), (-INF, 2.2), (1.8, INF), (2.5, 3.0)])
def test_slopes_are_tested_as_by_statsmodels(margin):
    x, y = linear(3)
    fit = OLS(y, np.column_stack([np.ones_like(x), x])).fit(cov_type="HC3", use_t=True)
    t = [(fit.params[1] - end) / fit.bse[1] for end in margin]
    expected = max(stats.t.sf(t[0], 58), stats.t.cdf(t[1], 58))
    assert slope_p(x, y, Margin(*margin)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("margin", [(1.8, 2.6), (-INF, 2.6), (1.8, INF), (3.0, 4.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_ratios_are_tested_by_fiellers_differences(margin, sign):
    x, y = (sign * z for z in linear(4))
    t = [sign * (y - end * x).mean() / stats.sem(y - end * x) if np.isfinite(end) else -end for end in margin]
    assert ratio_p(y, x, Margin(*margin)) == pytest.approx(max(stats.t.sf(t[0], 59), stats.t.cdf(t[1], 59)), rel=1e-8)


def test_medians_are_tested_by_signs():
    values = rng(9).exponential(size=41)
    above, below = (values > 0.4).sum(), (values < 1.2).sum()
    expected = [stats.binom.sf(k - 1, 41, 0.5) for k in (above, below)]
    assert median_p(values, Margin(0.4, 1.2)) == pytest.approx(max(expected))
    assert median_p(values, Margin(low=0.4)) == pytest.approx(expected[0])
    assert median_p(values, Margin(high=1.2)) == pytest.approx(expected[1])


def test_shares_are_tested_by_counts():
    flags = np.arange(50) < 44
    low, high = stats.binom.sf(43, 50, 0.8), stats.binom.cdf(44, 50, 0.95)
    assert share_p(flags, Margin(0.8, 0.95)) == pytest.approx(max(low, high))
    assert share_p(flags, Margin(low=0.8)) == share_p(flags, Margin(0.8, 1.0)) == pytest.approx(low)
    assert share_p(flags, Margin(high=0.95)) == share_p(flags, Margin(0.0, 0.95)) == pytest.approx(high)
    assert share_p(np.ones(50, bool), Margin(low=1.0)) == 1, "no count shows that a share is no less than 1"


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(2, 45), st.integers(0, 99), st.booleans())
def test_the_shift_is_hodges_and_lehmanns(count, seed, ties):
    by = rng(seed).exponential(size=count) - 0.5
    by = np.round(by, 1) + 0.01 if ties else by
    means = [(by[i] + by[j]) / 2 for i in range(count) for j in range(i, count)]
    shift, p = signed_rank(by + 5.0, np.full(count, 5.0))
    assert shift.estimate == pytest.approx(np.median(means), abs=1e-12)
    assert min(means) - 1e-12 <= shift.low <= shift.estimate <= shift.high <= max(means) + 1e-12
    assert p == pytest.approx(stats.wilcoxon(by).pvalue, rel=1e-6)


@pytest.mark.parametrize("count", [10, 30, 47, 100])
def test_the_interval_of_the_shift_is_what_wilcoxon_does_not_reject(count):
    by = rng(count).exponential(size=count)
    shift, _ = signed_rank(by, np.zeros(count))
    reject = lambda by_how_much: stats.wilcoxon(by - by_how_much).pvalue
    step = 1e-9
    assert reject(shift.low - step) < 0.06 and reject(shift.high + step) < 0.06
    assert reject(shift.low + step) > 0.045 and reject(shift.high - step) > 0.045


def test_shifts_of_few_or_equal_networks():
    assert signed_rank(np.array([2.0, np.nan]), np.array([1.0, 0.0]))[0] == Interval(1, 1, 1)
    same, p = signed_rank(np.ones(40), np.ones(40))
    assert same == Interval(0, 0, 0) and p == 1
    moved, p = signed_rank(np.full(40, 1.5), np.ones(40))
    assert moved == Interval(0.5, 0.5, 0.5) and p < 1e-6
    nothing, p = signed_rank(np.full(3, np.nan), np.ones(3))
    assert math.isnan(nothing.low) and math.isnan(p)


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


def test_rounding_is_no_variation():
    """The mean of seven times 0.3 is not 0.3 in floating point, and a slope on the difference would be anything."""
    x, y = np.full((1, 7), 0.3), rng().normal(size=(1, 7))
    zeros = np.zeros((1, 7), int)
    for value in (0.1, 0.3, 1e-9, 1e9 / 7):
        x[:] = value
        assert np.isnan(slopes_within(x, y, zeros)).all() and np.isnan(spearman_within(x, y, zeros)).all()
    barely = 0.3 + 1e-12 * np.arange(7.0)[None]
    assert slopes_within(barely, 5 * barely, zeros) == pytest.approx([5.0], rel=1e-3), "what varies a little does vary"


def stack(*columns):
    """What is left of columns of one network centred within strata, as lists of rows without a hole."""
    *columns, strata = columns
    whole = np.isfinite(np.sum(columns, axis=0))
    rows = []
    for stratum in set(strata[whole]):
        of = whole & (strata == stratum)
        rows.append([c[of] - c[of].mean() for c in columns])
    return [np.concatenate(c) for c in zip(*rows)]


SIZES = (st.integers(1, 6), st.integers(3, 30), st.integers(0, 999))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(*SIZES)
def test_two_regressors_are_least_squares(networks, neurons, seed):
    x1, y, strata = some_networks(seed, networks, neurons)
    x2 = rng(seed + 1).normal(size=x1.shape) + 0.7 * np.nan_to_num(x1)
    first, second = slopes_within_two(x1, x2, y, strata)
    for i in range(networks):
        u1, u2, w = stack(x1[i], x2[i], y[i], strata[i]) if np.isfinite(x1[i] + y[i]).any() else np.zeros((3, 0))
        if np.linalg.matrix_rank(np.column_stack([u1, u2]), tol=1e-9) < 2:
            continue
        expected = np.linalg.lstsq(np.column_stack([u1, u2]), w, rcond=None)[0]
        found = (first[i], second[i])
        if not np.isnan(found).any():
            assert found == pytest.approx(tuple(expected), rel=1e-5, abs=1e-8)
        else:
            assert abs(stats.pearsonr(u1, u2).statistic) > 1 - 1e-9


def test_neurons_without_a_stratum_are_left_out():
    x, y, strata = some_networks(23, networks=6, neurons=20)
    y[0, 0], z = np.nan, rng(24).normal(size=x.shape)
    out = strata == 2
    bare = [np.where(out, np.nan, column) for column in (x, y, z)]
    strata[out] = -1
    for statistic, columns in ((slopes_within, 2), (spearman_within, 2), (slopes_within_two, 3), (partial_spearman_within, 3)):
        found, expected = statistic(*(x, y, z)[:columns], strata), statistic(*bare[:columns], np.where(out, 0, strata))
        assert np.array_equal(found, expected, equal_nan=True)
    assert np.array_equal(top_jaccard(x, y, strata, 0.3), top_jaccard(*bare[:2], np.where(out, 0, strata), 0.3))


def test_a_second_regressor_is_held_fixed():
    generator = rng(12)
    x1, noise = generator.normal(size=(2, 20, 200))
    x2, strata = x1 + noise, generator.integers(0, 2, x1.shape)
    y = 1.0 * x1 - 0.5 * x2 + 10 * strata
    first, second = slopes_within_two(x1, x2, y, strata)
    assert np.allclose(first, 1) and np.allclose(second, -0.5)
    assert np.allclose(slopes_within(x1, y, strata).mean(), 0.5, atol=0.05), "alone, x1 takes part of what x2 does"
    for other in (np.ones_like(x1), 2 * x1 + strata, np.full_like(x1, np.nan)):
        assert np.isnan(slopes_within_two(x1, other, y, strata)).all()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(*SIZES, st.booleans())
def test_partial_rank_correlation_is_that_of_residuals(networks, neurons, seed, ties):
    x, y, strata = some_networks(seed, networks, neurons, ties)
    y[0, 0] = np.nan
    given_ = rng(seed + 1).normal(size=x.shape)
    found = partial_spearman_within(x, y, given_, strata)
    for i in range(networks):
        ranked = np.full((3, neurons), np.nan)
        for stratum in range(3):
            of = (strata[i] == stratum) & np.isfinite(x[i] + y[i])
            ranked[:, of] = [stats.rankdata(z[i, of]) for z in (x, y, given_)] if of.any() else np.zeros((3, 0))
        if not np.isfinite(ranked).any():
            assert np.isnan(found[i])
            continue
        u, w, g = stack(*ranked, strata[i])
        residuals = [z - g * (z @ g) / (g @ g) if g.any() else z for z in (u, w)]
        sizes = [r @ r for r in residuals]
        if min(sizes) < 1e-9 or not g.any():
            assert np.isnan(found[i])
        else:
            assert found[i] == pytest.approx(residuals[0] @ residuals[1] / np.sqrt(sizes[0] * sizes[1]), abs=1e-8)


def test_a_rank_correlation_that_comes_from_a_third_number_is_taken_out():
    generator = rng(13)
    cause = generator.normal(size=(10, 400))
    x, y = cause + 0.5 * generator.normal(size=(2, 10, 400))
    strata = np.zeros(cause.shape, int)
    assert spearman_within(x, y, strata).min() > 0.6
    assert abs(partial_spearman_within(x, y, cause, strata).mean()) < 0.1
    assert np.isnan(partial_spearman_within(x, y, x**3, strata)).all(), "given x, nothing of x is left"


@settings(derandomize=True, deadline=None, max_examples=60)
@given(*SIZES, st.floats(0.01, 1))
def test_overlap_of_the_top_is_that_of_sets(networks, neurons, seed, share):
    a, b, strata = some_networks(seed, networks, neurons, ties=seed % 2 == 0)
    found = top_jaccard(a, b, strata, share)
    for i in range(networks):
        tops = [set(), set()]
        for stratum in range(3):
            of = [k for k in range(neurons) if strata[i, k] == stratum and not np.isnan(a[i, k] + b[i, k])]
            take = max(1, math.floor(share * len(of) + 0.5))
            for top, z in zip(tops, (a, b)):
                top.update(sorted(of, key=lambda k: (-z[i, k], k))[:take])
        union = tops[0] | tops[1]
        assert found[i] == pytest.approx(len(tops[0] & tops[1]) / len(union)) if union else np.isnan(found[i])


def test_overlap_of_what_is_the_same_and_of_what_is_not():
    a, strata = rng(14).normal(size=(200, 100)), np.tile([0, 1], (200, 50))
    assert (top_jaccard(a, 3 * a + 1, strata, 0.1) == 1).all() and (top_jaccard(a, -a, strata, 0.5) == 0).all()
    by_chance = top_jaccard(a, rng(15).normal(size=a.shape), strata, 0.1).mean()
    assert by_chance == pytest.approx(0.1 / 1.9, abs=0.01)
    at_level = top_jaccard(a + 100 * strata, a, strata, 0.1)
    assert (at_level == 1).all(), "each stratum has its own top"


def test_exponents_over_settings_are_polyfits():
    x, y = np.array([0.01, 0.02, 0.08, 0.1]), np.exp(rng(16).normal(size=(30, 4)))
    expected = [np.polyfit(np.log(x), np.log(row), 1)[0] for row in y]
    assert np.allclose(log_slopes(x, y), expected)
    assert np.allclose(log_slopes(x, 3 * x**-1.5 * np.ones((5, 1))), -1.5)
    y[3, 1], y[4, 0], y[5, 2] = np.nan, 0, -1
    found = log_slopes(x, y)
    assert np.isnan(found[3:6]).all() and np.allclose(np.delete(found, [3, 4, 5]), np.delete(expected, [3, 4, 5]))


# ------------------------------------------------------------------------------------------------- times to an event


def concordance(predicted, observed, event):
    """Harrell's C of one network, by its definition."""
    agree = pairs = 0.0
    for (p, t, e), (q, u, f) in itertools.combinations(zip(predicted, observed, event), 2):
        if np.isnan(p + t) or np.isnan(q + u):
            continue
        if (u, not f) < (t, not e):  # at equal times, events come first
            p, t, e, q, u, f = q, u, f, p, t, e
        if e and (t < u or not f):
            pairs += 1
            agree += 1.0 if p < q else 0.5 if p == q else 0.0
    return agree / pairs if pairs else math.nan


@settings(derandomize=True, deadline=None, max_examples=80)
@given(*SIZES, st.booleans())
def test_concordance_is_that_of_all_pairs(networks, neurons, seed, ties):
    predicted, observed, _ = some_networks(seed, networks, neurons, ties)
    predicted[0, 0], observed[0, 0] = np.inf, 0.0
    event = rng(seed).random(predicted.shape) < 0.6
    found = harrell_c(predicted, observed, event)
    assert np.allclose(found, [concordance(*row) for row in zip(predicted, observed, event)], rtol=1e-14, equal_nan=True)


@pytest.mark.parametrize("seed", range(5))
def test_concordance_without_censoring_is_somers(seed):
    predicted, observed = np.round(rng(seed).normal(size=(2, 1, 40)), 1)
    expected = (stats.somersd(observed[0], predicted[0]).statistic + 1) / 2
    assert harrell_c(predicted, observed, np.ones((1, 40), bool)) == pytest.approx([expected])


def test_concordance_of_a_law_and_of_none():
    t = rng(17).exponential(size=(50, 80))
    end = np.quantile(t, 0.7, axis=1, keepdims=True)
    seen, event = np.minimum(t, end), t <= end
    assert (harrell_c(t, seen, event) == 1).all() and (harrell_c(-t, seen, event) == 0).all()
    assert (harrell_c(np.ones_like(t), seen, event) == 0.5).all()
    assert harrell_c(rng(18).normal(size=t.shape), seen, event).mean() == pytest.approx(0.5, abs=0.03)
    assert np.isnan(harrell_c(t, seen, np.zeros_like(event))).all()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(2, 60), st.integers(0, 99), st.booleans())
def test_survival_is_that_of_statsmodels(count, seed, ties):
    times, until = rng(seed).exponential(size=(2, count)) + 0.1
    times, until = (np.round(z, 1) for z in (times, until)) if ties else (times, until)
    seen, event = np.minimum(times, until), times <= until
    found = survival(np.r_[seen, np.nan], np.r_[event, True])
    if not event.any():
        assert (found.share == 1).all() and (found.times == np.unique(seen)).all()
        return
    expected = SurvfuncRight(seen, event.astype(int))
    at = np.isin(found.times, expected.surv_times)
    assert np.allclose(found.share[at], expected.surv_prob)
    inner = (found.share > 0) & (found.share < 1)
    assert (found.low[inner] <= found.share[inner]).all() and (found.share[inner] <= found.high[inner]).all()
    inner = at & inner
    share, error = found.share[inner], expected.surv_prob_se[np.isin(expected.surv_times, found.times[inner])]
    power = np.exp(1.959964 * error / (share * np.log(share)))
    assert np.allclose(found.low[inner], share ** (1 / power), atol=1e-6)
    assert np.allclose(found.high[inner], share**power, atol=1e-6)


def test_nothing_survives_of_nothing():
    assert all(len(z) == 0 for z in vars(survival(np.full(3, np.nan), np.ones(3, bool))).values())


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_two_laws_of_times_are_told_apart_as_by_statsmodels(factor):
    times, until = rng(19).exponential(size=(2, 80))
    times[40:] *= factor
    seen, event, group = np.minimum(times, 2 * until), times <= 2 * until, np.arange(80) < 40
    found = logrank_p(seen[group], event[group], seen[~group], event[~group])
    assert found == pytest.approx(survdiff(seen, event.astype(int), group)[1], rel=1e-6)


# ------------------------------------------------------------------------------------------------- power


@pytest.mark.parametrize("networks, sd, level", [(30, 0.2, 0.05), (10, 0.5, 0.025), (200, 1.0, 0.025)])
def test_power_of_one_side_is_that_of_the_noncentral_t(networks, sd, level):
    for mean in (0.2, 0.3, 0.4, 0.5):
        effect = (mean - 0.3) / sd * math.sqrt(networks)
        expected = stats.nct.sf(stats.t.isf(level, networks - 1), networks - 1, effect)
        assert equivalence_power(networks, Margin(low=0.3), sd, mean, level) == pytest.approx(expected, abs=1e-4)
        assert equivalence_power(networks, Margin(high=-0.3), sd, -mean, level) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("networks, mean", [(5, 1.0), (12, 1.0), (20, 1.03), (40, 1.1)])
def test_power_is_how_often_equivalence_is_found(networks, mean):
    values = rng(20).normal(mean, 0.15, (20_000, networks))
    error, t = stats.sem(values, axis=1), stats.t.isf(0.05, networks - 1)
    found = (values.mean(axis=1) - t * error > 0.9) & (values.mean(axis=1) + t * error < 1.1)
    assert [equivalence_p(v, Margin(0.9, 1.1)) < 0.05 for v in values[:50]] == found[:50].tolist()
    expected = equivalence_power(networks, Margin(0.9, 1.1), 0.15, mean, 0.05)
    assert stats.binomtest(found.sum(), 20_000, expected).pvalue > 1e-3


@pytest.mark.parametrize("margin, sd, mean, power", [
    ((0.9, 1.1), 0.15, 1.0, 0.9), ((0.9, 1.1), 0.5, 1.05, 0.8), ((0.3, INF), 0.1, 0.9, 0.9), ((0.9, 1.1), 0.01, 1.09, 0.99)])
def test_as_many_networks_as_are_needed(margin, sd, mean, power):
    count = networks_needed(Margin(*margin), sd, mean, power)
    assert equivalence_power(count, Margin(*margin), sd, mean) >= power
    assert count == 2 or equivalence_power(count - 1, Margin(*margin), sd, mean) < power
    assert networks_needed(Margin(*margin), sd, mean, power, level=0.05) <= count


def test_no_number_of_networks_is_enough_at_the_margin():
    for mean in (0.9, 1.2, math.nan):
        with pytest.raises(ValueError, match=r"no number of networks shows a mean of .* to lie inside 1 ± 0.1"):
            networks_needed(Margin(0.9, 1.1), 0.1, mean)
    for wrong in ({"power": 1.0}, {"level": 0.0}, {"sd": math.inf}, {"sd": -1.0}):
        with pytest.raises(ValueError, match="between 0 and 1"):
            networks_needed(**{"margin": Margin(0.9, 1.1), "sd": 0.1, "mean": 1.0, **wrong})


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


def test_any_statistic_is_permuted_within_strata():
    x, y, strata = some_networks(21, networks=4, neurons=30)
    y[0, 0] = np.nan
    x[np.isnan(y)] = np.nan  # the same neurons are shuffled by both
    slow = permuted_statistic(lambda shuffled: float(slopes_within(shuffled, y, strata).mean()), x, strata, rng(1), 2000)
    fast = permuted_slopes(x, y, strata, rng(2), 2000)
    assert stats.ks_2samp(slow, fast).pvalue > 1e-3


def test_a_shuffle_moves_numbers_within_strata_alone():
    x, _, strata = some_networks(22, networks=5, neurons=40)
    before, shuffled = x.copy(), shuffled_within(x, strata, rng(3))
    assert np.array_equal(x, before, equal_nan=True) and np.array_equal(np.isnan(x), np.isnan(shuffled))
    assert (x == shuffled).mean() < 0.5
    for i, stratum in itertools.product(range(5), range(3)):
        of = strata[i] == stratum
        assert np.array_equal(np.sort(x[i, of]), np.sort(shuffled[i, of]), equal_nan=True)
    assert np.array_equal(shuffled, shuffled_within(x, strata, rng(3)), equal_nan=True)
