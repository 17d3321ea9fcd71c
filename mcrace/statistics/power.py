"""How many networks a test of equivalence needs."""

from __future__ import annotations

import math

import numpy as np
import scipy

from mcrace.statistics.equivalence import Margin

GRID = (np.arange(2000) + 0.5) / 2000  # quantiles of the standard deviation found, over which the power is averaged
END_LEVEL = 0.025  # at each end: as often as a 95 % interval is to lie inside


def equivalence_power(networks: int, margin: Margin, sd: float, mean: float, level: float = END_LEVEL) -> float:
    """How likely the mean over networks is shown to lie inside a margin.

    Of normal numbers and Student's t at both ends (Schuirmann 1987); exact but for an average over quantiles.

    Parameters
    ----------
    networks : int
        Two at least.
    margin : Margin
    sd : float
        Standard deviation between networks.
    mean : float
        The true mean.
    level : float, optional
        Of the test at each end: 0.025 is a 95 % interval inside the margin, 0.05 is `equivalence_p` of at most 0.05.

    Examples
    --------
    >>> round(equivalence_power(30, Margin(0.9, 1.1), sd=0.15, mean=1.0), 2)
    0.88
    """
    freedom, error = networks - 1, sd / math.sqrt(networks)
    found = error * np.sqrt(scipy.stats.chi2.ppf(GRID, freedom) / freedom)
    reach = scipy.stats.t.ppf(1 - level, freedom) * found
    below, above = ((end - mean) / error for end in (margin.low + reach, margin.high - reach))
    return float(np.mean(np.maximum(scipy.stats.norm.cdf(above) - scipy.stats.norm.cdf(below), 0)))


def networks_needed(margin: Margin, sd: float, mean: float, power: float = 0.9, level: float = END_LEVEL) -> int:
    """The fewest networks with which the mean is shown to lie inside the margin, as likely as `power` says.

    Parameters
    ----------
    margin, sd, mean, level
        As for `equivalence_power`.
    power : float, optional
        Below 1.

    Returns
    -------
    int
        Two at least; a verdict asks for thirty in any case.

    Raises
    ------
    ValueError
        If the mean does not lie inside the margin, where no number of networks is enough.

    Examples
    --------
    >>> networks_needed(Margin(0.9, 1.1), sd=0.15, mean=1.0)
    32
    """
    if not margin.low < mean < margin.high:
        raise ValueError(f"no number of networks shows a mean of {mean:g} to lie inside {margin}")
    if not (0 < power < 1 and 0 < level < 1 and 0 < sd < math.inf):
        raise ValueError("power and level lie between 0 and 1, and the standard deviation above 0")
    enough = lambda networks: equivalence_power(networks, margin, sd, mean, level) >= power
    many = 2
    while not enough(many):
        many *= 2
    few = max(many // 2, 1)
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many
