"""Tests by permutation of neurons within strata of a network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mcrace.compiled import compiled
from mcrace.statistics.within import centred

SHUFFLES = 999


def permuted_slopes(
    x: np.ndarray, y: np.ndarray, strata: np.ndarray, rng: np.random.Generator, count: int = SHUFFLES
) -> np.ndarray:
    """The mean slope under `count` shuffles of x within (network, stratum); arguments as for `slopes_within`."""
    x, y = centred(strata, x, y)
    out = np.zeros(count)
    _permuted(x, y, strata, _state(rng), out)
    return out


def shuffled_within(x: np.ndarray, strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of x [network, neuron] shuffled within (network, stratum); a NaN stays where it is.

    >>> x = np.array([[1.0, 2.0, 30.0, 40.0, np.nan]])
    >>> shuffled_within(x, np.array([[0, 0, 1, 1, 1]]), np.random.default_rng(0)).tolist()
    [[2.0, 1.0, 30.0, 40.0, nan]]
    """
    out = np.array(x, float)
    _shuffle_within(out, strata, _state(rng))
    return out


def permuted_statistic(
    statistic: Callable[[np.ndarray], float], x: np.ndarray, strata: np.ndarray, rng: np.random.Generator,
    count: int = SHUFFLES,
) -> np.ndarray:
    """Any statistic of x under `count` shuffles of x within (network, stratum); of slopes `permuted_slopes` is faster."""
    return np.array([statistic(shuffled_within(x, strata, rng)) for _ in range(count)])


def permutation_p(observed: float, permuted: np.ndarray) -> float:
    """Two-sided p-value of a permutation test, never 0 (Phipson & Smyth 2010); NaN if nothing was observed.

    >>> permutation_p(3.0, np.array([0.1, -0.2, 0.3]))
    0.25
    """
    if np.isnan(observed):
        return np.nan
    return float((1 + np.sum(np.abs(permuted) >= abs(observed))) / (1 + len(permuted)))


def _state(rng: np.random.Generator) -> np.uint64:
    """Where the shuffles of compiled code start."""
    return np.uint64(rng.integers(1, 2**63))


@compiled
def _shuffle(values, state):
    """Shuffle in place (Fisher and Yates, numbers by Marsaglia's xorshift); the state afterwards."""
    for a in range(len(values) - 1, -1, -1):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        b = int(((state >> np.uint64(32)) * np.uint64(a + 1)) >> np.uint64(32))
        values[a], values[b] = values[b], values[a]
    return state


@compiled
def _shuffle_within(x, strata, state):
    index, values = np.empty(x.shape[1], np.int64), np.empty(x.shape[1])
    for i in range(len(x)):
        for stratum in range(strata[i].max() + 1):
            count = 0
            for a in range(x.shape[1]):
                if strata[i, a] == stratum and not np.isnan(x[i, a]):
                    index[count], values[count] = a, x[i, a]
                    count += 1
            state = _shuffle(values[:count], state)
            for a in range(count):
                x[i, index[a]] = values[a]


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
                state = _shuffle(values[:count], state)
                for a in range(count - 1, -1, -1):
                    total += values[a] * y[i, index[a]]
            out[k] += total / square
    for k in range(len(out)):
        out[k] /= max(used, 1)
