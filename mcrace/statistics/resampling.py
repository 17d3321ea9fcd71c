"""Bootstrap intervals (BCa, 2,000 resamples; Efron 1987), with networks, or groups of them, as the unit.

The acceleration comes from the statistic without each network in turn.  For these statistics that takes one pass; SciPy's
own BCa takes the statistic anew each time, which for 10⁶ networks is a matter of hours.

Resampling n numbers spreads their mean as if n - 1 were n and as if the standard deviation were known: at n = 30 a 95 %
interval of normal numbers covers 93.4 %, of exponential ones 92.8 %.  So its level is raised until it reaches as far as
Student's interval would on normal numbers (Hesterberg, The American Statistician 69, 2015): 96.3 % at n = 30, 95.4 % at
100.  Then these two cover 94.2 and 94.6 %.  What it cannot mend are heavy tails: log-normal numbers are covered in
90 % at n = 30 and 92 % at 100, Student's t of five degrees in 92.9 and 94.2 %.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

from mcrace.statistics.equivalence import Interval, equal

RESAMPLES = 2000
BATCH_NUMBERS = 1 << 22  # drawn at once


def mean_interval(values: np.ndarray, rng: np.random.Generator, groups: np.ndarray | None = None) -> Interval:
    """The mean over networks with its 95 % interval.

    Parameters
    ----------
    values : array [network], finite
    rng : numpy.random.Generator
    groups : array [network], optional
        A label for each network; networks of one label share something, one data set say, and are resampled together.
        Thirty groups are as few as thirty networks; of a single one there is no interval (NaN).

    Examples
    --------
    >>> values, shared = np.repeat([0.0, 1.0], 20), np.repeat(np.arange(4), 10)
    >>> wide, narrow = mean_interval(values, np.random.default_rng(0), shared), mean_interval(values, np.random.default_rng(0))
    >>> wide.estimate == narrow.estimate and wide.high - wide.low > 2 * (narrow.high - narrow.low)
    True
    """
    if equal(values):
        return Interval(float(np.mean(values)), float(np.min(values)), float(np.max(values)))
    if groups is None:
        without_one = (values.sum() - values) / (len(values) - 1)
        return _bca(float(np.mean(values)), np.mean, without_one, rng, values)
    which = np.unique(groups, return_inverse=True)[1]
    return ratio_interval(np.bincount(which, values), np.bincount(which).astype(float), rng)


def ratio_interval(top: np.ndarray, bottom: np.ndarray, rng: np.random.Generator) -> Interval:
    """The ratio of two means over the same networks, pairs resampled, with its 95 % interval.

    Parameters
    ----------
    top, bottom : arrays [network], finite
        The mean of the bottom clearly away from 0; else the interval is as wide as that makes it.
    rng : numpy.random.Generator
    """
    ratio = float(np.sum(top) / np.sum(bottom))
    if len(top) < 2:
        return Interval(ratio, np.nan, np.nan)
    if np.abs(top - ratio * bottom).max() <= 1e-12 * np.abs(top).max():
        return Interval(ratio, ratio, ratio)
    without_one = (top.sum() - top) / (bottom.sum() - bottom)
    return _bca(ratio, lambda a, b, axis: a.sum(axis) / b.sum(axis), without_one, rng, top, bottom)


def slope_interval(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Interval:
    """The least-squares slope of y on x over networks, pairs resampled, with its 95 % interval.

    Parameters
    ----------
    x, y : arrays [network], finite
    rng : numpy.random.Generator

    Returns
    -------
    Interval
        NaN where x does not vary.
    """
    if equal(x):
        return Interval(np.nan, np.nan, np.nan)
    slope = float(_slope(x, y, -1))
    u, w = x - x.mean(), y - y.mean()
    if np.abs(w - slope * u).max() <= 1e-12 * np.abs(y).max():
        return Interval(slope, slope, slope)
    share = len(x) / (len(x) - 1)  # without one, the means move away from it
    with np.errstate(all="ignore"):  # no slope without the only one that is unlike the rest
        without_one = ((u * w).sum() - share * u * w) / ((u * u).sum() - share * u * u)
    return _bca(slope, _slope, without_one, rng, x, y)


def _slope(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    x = x - x.mean(axis, keepdims=True)
    return (x * y).sum(axis) / (x * x).sum(axis)


def level(count: int) -> float:
    """The nominal level at which the interval of `count` numbers reaches as far as Student's 95 % interval.

    >>> round(level(30), 4), round(level(1000), 4)
    (0.9625, 0.9504)
    """
    return float(1 - 2 * scipy.stats.norm.sf(scipy.stats.t.ppf(0.975, count - 1) * np.sqrt(count / (count - 1))))


def _bca(estimate: float, statistic: Callable, without_one: np.ndarray, rng: np.random.Generator,
         *columns: np.ndarray) -> Interval:
    """The interval of a statistic of columns [network], given its values without each network in turn."""
    count = len(columns[0])
    resampled = scipy.stats.bootstrap(
        columns, statistic, n_resamples=RESAMPLES, batch=max(1, min(100, BATCH_NUMBERS // count)), method="percentile", rng=rng,
        paired=len(columns) > 1, vectorized=True).bootstrap_distribution
    below = (np.mean(resampled < estimate) + np.mean(resampled <= estimate)) / 2
    off = np.mean(without_one) - without_one
    with np.errstate(all="ignore"):  # all resamples on one side: there is no interval
        bias, acceleration = scipy.special.ndtri(below), np.sum(off**3) / (6 * np.sum(off**2) ** 1.5)
        reach = bias + scipy.special.ndtri((1 - level(count)) / 2) * np.array([1, -1])
        places = scipy.special.ndtr(bias + reach / (1 - acceleration * reach))
    if not np.isfinite(places).all():
        return Interval(estimate, np.nan, np.nan)
    low, high = np.quantile(resampled, places)
    return Interval(estimate, float(low), float(high))
