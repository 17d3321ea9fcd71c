"""Two numbers a network, compared by their differences."""

from __future__ import annotations

import numpy as np
import scipy

from mcrace.compiled import compiled
from mcrace.statistics.equivalence import Interval, Margin, equal, equivalence_p


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b of the networks that have both; arrays [network], NaN for a network without a number."""
    found = np.asarray(a, float) - b
    return found[np.isfinite(found)]


def paired_equivalence_p(a: np.ndarray, b: np.ndarray, margin: Margin) -> float:
    """The larger of the two one-sided p-values (Student's t) that the mean of a - b lies beyond an end of the margin.

    >>> before = np.array([1.0, 2.0, 3.0, np.nan])
    >>> round(paired_equivalence_p(before + [0.1, -0.1, 0.0, 0.0], before, Margin(-0.5, 0.5)), 4)
    0.0065
    """
    return equivalence_p(differences(a, b), margin)


def signed_rank(a: np.ndarray, b: np.ndarray) -> tuple[Interval, float]:
    """The Hodges-Lehmann shift of a against b with its 95 % interval, and the two-sided p-value of Wilcoxon's signed ranks.

    They come together, since the p-value alone does not say how much (THEORY.md, How a verdict is reached).  The shift is
    the median of the means of all pairs of differences, pairs with itself included; the interval's ends are those of them
    that the test would just not reject, by the normal approximation to the ranks: for ten networks or more.  Memory grows
    with the square of the number of networks: 16 MB at 2,000.

    Parameters
    ----------
    a, b : arrays [network]
        A network with a NaN in either is left out.

    Returns
    -------
    Interval
    float
        p-value that the differences lie symmetrically around 0.

    Examples
    --------
    >>> shift, p = signed_rank(np.arange(12.0) ** 1.5 + 1, np.arange(12.0))
    >>> round(shift.estimate, 3), shift.low < shift.estimate < shift.high, p < 0.01
    (10.0, True, True)
    """
    by = differences(a, b)
    count = len(by)
    if count == 0:
        return Interval(np.nan, np.nan, np.nan), np.nan
    if equal(by):
        return Interval(float(np.median(by)), float(by.min()), float(by.max())), _p(by)
    means = np.empty(count * (count + 1) // 2)
    _pair_means(by, means)
    reach = scipy.stats.norm.ppf(0.975) * np.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    first = max(int(np.floor(len(means) / 2 - reach)), 0)
    means = np.partition(means, [first, len(means) - 1 - first, (len(means) - 1) // 2, len(means) // 2])
    middle = (means[(len(means) - 1) // 2] + means[len(means) // 2]) / 2
    return Interval(float(middle), float(means[first]), float(means[len(means) - 1 - first])), _p(by)


def _p(by: np.ndarray) -> float:
    return float(scipy.stats.wilcoxon(by).pvalue) if by.any() else 1.0


@compiled
def _pair_means(values, out):
    at = 0
    for i in range(len(values)):
        for j in range(i, len(values)):
            out[at] = (values[i] + values[j]) / 2
            at += 1
