"""Margins, intervals, and the tests of one against the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Margin:
    """The values that count as agreement, ends included; an end may be infinite.

    >>> Margin(0.9, 1.1).contains(Interval(1.0, 0.95, 1.05)), Margin(0.9, 1.1).misses(Interval(0.5, 0.4, 0.6))
    (True, True)
    >>> str(Margin(0.3, math.inf))
    '≥ 0.3'
    """

    low: float = -math.inf
    high: float = math.inf

    def contains(self, interval: Interval) -> bool:
        """Whether the whole interval lies inside."""
        return self.low <= interval.low and interval.high <= self.high

    def misses(self, interval: Interval) -> bool:
        """Whether no part of the interval lies inside."""
        return interval.high < self.low or interval.low > self.high

    @property
    def scale(self) -> float:
        """Half its width, or the size of its finite end: a quarter of this is what a halved step may change."""
        if math.isinf(self.low) or math.isinf(self.high):
            return abs(self.high if math.isinf(self.low) else self.low)
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        if math.isinf(self.low) and math.isinf(self.high):
            return "-"
        if math.isinf(self.high):
            return f"≥ {self.low:.3g}"
        if math.isinf(self.low):
            return f"≤ {self.high:.3g}"
        return f"{(self.low + self.high) / 2:.3g} ± {self.scale:.3g}"


def equal(values: np.ndarray) -> bool:
    """Whether values are the same but for rounding, so that their spread says nothing."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def equivalence_p(values: np.ndarray, margin: Margin) -> float:
    """The larger of the two one-sided p-values (Student's t) that the mean lies beyond an end of the margin.

    Small where the mean lies clearly inside (Schuirmann 1987); one test where one end is infinite.  Student's t takes the
    mean as normal: on numbers as skewed as exponential ones a mean at the high end has p of at most 0.05 in 9.9 % of
    studies of 30 networks and 6.8 % of 200, one at the low end in 2.3 % and 3.8 %.  Verdicts follow from intervals.

    >>> round(equivalence_p(np.array([0.9, 1.0, 1.1, 1.0]), Margin(0.5, 1.5)), 4)
    0.0006
    """
    if equal(values):
        return 0.0 if margin.low < values[0] < margin.high else 1.0
    return at_both_ends(margin, lambda end, side: scipy.stats.ttest_1samp(values, end, alternative=side).pvalue)


def ratio_p(top: np.ndarray, bottom: np.ndarray, margin: Margin) -> float:
    """The larger of the two one-sided p-values that the ratio of two means over the same networks lies beyond an end.

    By Student's t of top - end·bottom (Fieller 1954), where the mean of the bottom is clearly not 0.

    >>> bottom = np.array([1.0, 2.0, 3.0, 4.0])
    >>> round(ratio_p(2 * bottom + [0.1, -0.1, 0.1, -0.1], bottom, Margin(1.5, 2.5)), 4)
    0.0191
    """
    sign = np.sign(np.sum(bottom))
    beyond = {"greater": Margin(low=0.0), "less": Margin(high=0.0)}
    return at_both_ends(margin, lambda end, side: equivalence_p(sign * (top - end * bottom), beyond[side]))


def slope_p(x: np.ndarray, y: np.ndarray, margin: Margin) -> float:
    """The larger of the two one-sided p-values that the least-squares slope over networks lies beyond an end.

    By Student's t, n - 2 degrees of freedom, with an error that need not be the same for all x (HC3; MacKinnon & White
    1985); NaN where x does not vary.

    >>> x = np.arange(8.0)
    >>> round(slope_p(x, x + 0.1 * (-1) ** x, Margin(0.9, 1.1)), 4)
    0.0022
    """
    if equal(x):
        return math.nan
    x = x - x.mean()
    slope = np.sum(x * y) / np.sum(x * x)
    residual = y - y.mean() - slope * x
    if np.abs(residual).max() <= 1e-12 * np.abs(y).max():
        return 0.0 if margin.low < slope < margin.high else 1.0
    leverage = 1 / len(x) + x**2 / np.sum(x * x)
    error = np.sqrt(np.sum((x * residual / (1 - leverage)) ** 2)) / np.sum(x * x)
    tail = {"greater": scipy.stats.t.sf, "less": scipy.stats.t.cdf}
    return at_both_ends(margin, lambda end, side: tail[side]((slope - end) / error, len(x) - 2))


def at_both_ends(margin: Margin, p_of: Callable[[float, str], float]) -> float:
    """The larger p-value of "greater" than the low end and "less" than the high one; an infinite end needs no test."""
    p = [0.0]
    if not math.isinf(margin.low):
        p.append(p_of(margin.low, "greater"))
    if not math.isinf(margin.high):
        p.append(p_of(margin.high, "less"))
    return float(np.max(p))
