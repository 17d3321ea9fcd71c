"""Resampling, with networks as the unit; arrays [network, neuron] are reduced to one number a network first."""

from __future__ import annotations

import numpy as np
from scipy import stats

from mcrace.compiled import compiled
from mcrace.statistics.equivalence import Interval, equal

RESAMPLES = 2000


def mean_interval(values: np.ndarray, rng: np.random.Generator) -> Interval:
    """The mean over networks with its 95 % bootstrap interval (BCa, 2,000 resamples; Efron 1987).

    Parameters
    ----------
    values : array [network], finite
    rng : numpy.random.Generator
    """
    mean = float(np.mean(values))
    if equal(values):
        return Interval(mean, float(np.min(values)), float(np.max(values)))
    found = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, batch=100, method="BCa", rng=rng)
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def slopes_within(x: np.ndarray, y: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Least-squares slope of y on x in each network, both centred within strata.

    Parameters
    ----------
    x, y : float arrays [network, neuron]
        Neurons with a NaN in either are left out.
    strata : int array [network, neuron]
        Stratum of each neuron, from 0 on.

    Returns
    -------
    array [network]
        NaN where x does not vary.
    """
    x, y = _centred(x, y, strata)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nansum(x * y, axis=1) / np.nansum(x * x, axis=1)


def spearman_within(x: np.ndarray, y: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Rank correlation of each network, ranks taken and centred within strata; arguments as for `slopes_within`."""
    x, y = np.where(np.isnan(x + y), np.nan, [x, y])
    ranks_x, ranks_y = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
    for i in range(len(x)):
        for stratum in np.unique(strata[i]):
            of = (strata[i] == stratum) & np.isfinite(x[i])
            ranks_x[i, of], ranks_y[i, of] = stats.rankdata(x[i, of]), stats.rankdata(y[i, of])
    x, y = _centred(ranks_x, ranks_y, strata)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nansum(x * y, axis=1) / np.sqrt(np.nansum(x * x, axis=1) * np.nansum(y * y, axis=1))


def _centred(x: np.ndarray, y: np.ndarray, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Copies with the mean of each stratum of each network taken out, NaN where either is."""
    bad = ~np.isfinite(x) | ~np.isfinite(y)
    x, y = np.where(bad, np.nan, x), np.where(bad, np.nan, y)
    _centre(x, strata)
    _centre(y, strata)
    return x, y


@compiled
def _centre(x, strata):
    for i in range(len(x)):
        for stratum in range(strata[i].max() + 1):
            total, count = 0.0, 0
            for a in range(x.shape[1]):
                if strata[i, a] == stratum and not np.isnan(x[i, a]):
                    total += x[i, a]
                    count += 1
            for a in range(x.shape[1]):
                if strata[i, a] == stratum and count:
                    x[i, a] -= total / count


@compiled
def _permuted(x, y, strata, state, out):
    """Mean over networks of the slopes, with x shuffled within (network, stratum) for each entry of out."""
    networks, neurons = x.shape
    index, values = np.empty(neurons, np.int64), np.empty(neurons)
    used = 0
    for i in range(networks):
        square = 0.0
        for a in range(neurons):
            if not np.isnan(x[i, a]):
                square += x[i, a] * x[i, a]
        if square == 0:
            continue
        used += 1
        for k in range(len(out)):
            total = 0.0
            for stratum in range(strata[i].max() + 1):
                count = 0
                for a in range(neurons):
                    if strata[i, a] == stratum and not np.isnan(x[i, a]):
                        index[count], values[count] = a, x[i, a]
                        count += 1
                for a in range(count - 1, -1, -1):
                    state ^= state << np.uint64(13)
                    state ^= state >> np.uint64(7)
                    state ^= state << np.uint64(17)
                    b = int(((state >> np.uint64(32)) * np.uint64(a + 1)) >> np.uint64(32))
                    values[a], values[b] = values[b], values[a]
                    total += values[a] * y[i, index[a]]
            out[k] += total / square
    for k in range(len(out)):
        out[k] /= max(used, 1)


def permuted_slopes(x: np.ndarray, y: np.ndarray, strata: np.ndarray, rng: np.random.Generator, count: int = 999) -> np.ndarray:
    """The mean slope under `count` shuffles of x within (network, stratum); arguments as for `slopes_within`."""
    x, y = _centred(x, y, strata)
    out = np.zeros(count)
    _permuted(x, y, strata, np.uint64(rng.integers(1, 2**63)), out)
    return out


def permutation_p(observed: float, permuted: np.ndarray) -> float:
    """Two-sided p-value of a permutation test, never 0 (Phipson & Smyth 2010); NaN if nothing was observed.

    >>> permutation_p(3.0, np.array([0.1, -0.2, 0.3]))
    0.25
    """
    if np.isnan(observed):
        return np.nan
    return float((1 + np.sum(np.abs(permuted) >= abs(observed))) / (1 + len(permuted)))
