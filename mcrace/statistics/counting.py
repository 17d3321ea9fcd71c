"""Medians and shares of networks: what counting alone says, whatever the law of the numbers."""

from __future__ import annotations

import math

import numpy as np
import scipy

from mcrace.statistics.equivalence import Interval, Margin, at_both_ends


def median_interval(values: np.ndarray) -> Interval:
    """The median over networks with its 95 % interval, two order statistics (Conover 1999).

    It covers at least 95 % for any law; for fewer than six networks there is none (NaN).

    Parameters
    ----------
    values : array [network], finite

    Examples
    --------
    >>> median_interval(np.arange(1.0, 31.0))
    Interval(estimate=15.5, low=10.0, high=21.0)
    """
    found = scipy.stats.quantile_test(values, p=0.5).confidence_interval()
    return Interval(float(np.median(values)), float(found.low), float(found.high))


def median_p(values: np.ndarray, margin: Margin) -> float:
    """The larger of the two one-sided p-values (sign test) that the median lies beyond an end of the margin.

    >>> round(median_p(np.arange(1.0, 31.0), Margin(8, 23)), 4)
    0.0081
    """
    return at_both_ends(margin, lambda end, side: scipy.stats.quantile_test(values, q=end, p=0.5, alternative=side).pvalue)


def share_interval(flags: np.ndarray) -> Interval:
    """The share of networks for which something holds, with its 95 % interval (Wilson 1927).

    Parameters
    ----------
    flags : bool array [network]

    Examples
    --------
    >>> found = share_interval(np.arange(40) < 38)
    >>> found.estimate, round(found.low, 3), round(found.high, 3)
    (0.95, 0.835, 0.986)
    """
    found = scipy.stats.binomtest(int(np.sum(flags)), len(flags))
    ends = found.proportion_ci(0.95, "wilson")
    return Interval(float(found.statistic), float(ends.low), float(ends.high))


def share_p(flags: np.ndarray, margin: Margin) -> float:
    """The larger of the two one-sided exact binomial p-values that the share lies beyond an end of the margin.

    A low end of 0 and a high end of 1 ask for nothing.

    >>> round(share_p(np.arange(40) < 38, Margin(low=0.8)), 4)
    0.0079
    """
    ends = Margin(margin.low if margin.low > 0 else -math.inf, margin.high if margin.high < 1 else math.inf)
    return at_both_ends(ends, lambda end, side: scipy.stats.binomtest(int(np.sum(flags)), len(flags), end, side).pvalue)
