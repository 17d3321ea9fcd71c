"""Many neurons to one number a network: slopes, rank correlations and overlaps within strata, exponents over settings.

Arrays are [network, neuron]; strata are numbers from 0 on.  A neuron with a NaN in any of its numbers, or with a negative
stratum, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcrace.compiled import compiled


def slopes_within(x: np.ndarray, y: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Least-squares slope of y on x in each network, both centred within strata.

    Parameters
    ----------
    x, y : float arrays [network, neuron]
        Neurons with a NaN or an infinite number in either are left out.
    strata : int array [network, neuron]
        Stratum of each neuron, from 0 on; negative ones are left out.

    Returns
    -------
    array [network]
        NaN where x does not vary.

    Examples
    --------
    >>> slopes_within(np.array([[0.0, 1.0, 0.0, 1.0]]), np.array([[0.0, 2.0, 7.0, 9.0]]), np.array([[0, 0, 1, 1]])).tolist()
    [2.0]
    """
    x, y = centred(strata, x, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nansum(x * y, axis=1) / np.nansum(x * x, axis=1)


def slopes_within_two(
    x1: np.ndarray, x2: np.ndarray, y: np.ndarray, strata: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of y on two regressors in each network, all centred within strata; arguments as for `slopes_within`.

    Racing from unbalanced starts is log a_T on log H with log a_0 as the second regressor (THEORY.md, racing).

    Returns
    -------
    first, second : arrays [network]
        The coefficients of x1 and of x2; NaN where one of them does not vary, or follows from the other.

    Examples
    --------
    >>> x1, x2 = np.array([[0.0, 1.0, 2.0, 3.0]]), np.array([[1.0, 0.0, 0.0, 1.0]])
    >>> [float(b.round(12)[0]) for b in slopes_within_two(x1, x2, 3 * x1 - x2, np.zeros((1, 4), int))]
    [3.0, -1.0]
    """
    x1, x2, y = centred(strata, x1, x2, y)
    s11, s12, s22, s1y, s2y = (np.nansum(a * b, axis=1) for a, b in ((x1, x1), (x1, x2), (x2, x2), (x1, y), (x2, y)))
    determinant = s11 * s22 - s12**2
    determinant = np.where(determinant > 1e-10 * s11 * s22, determinant, np.nan)
    return (s22 * s1y - s12 * s2y) / determinant, (s11 * s2y - s12 * s1y) / determinant


def slopes_within_many(regressors: Sequence[np.ndarray], y: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Least squares of y on several regressors in each network, all centred within strata; arguments as for `slopes_within`.

    Parameters
    ----------
    regressors : sequence of float arrays [network, neuron]

    Returns
    -------
    array [regressor, network]
        The coefficients; NaN for a network in which a regressor does not vary, or follows from the others.

    Examples
    --------
    >>> x = np.array([[[0.0, 1.0, 2.0, 3.0]], [[1.0, 0.0, 0.0, 1.0]], [[0.0, 0.0, 1.0, 0.0]]])
    >>> slopes_within_many(x, 3 * x[0] - x[1] + 2 * x[2], np.zeros((1, 4), int)).round(9).ravel().tolist()
    [3.0, -1.0, 2.0]
    """
    *columns, y = centred(strata, *regressors, y)
    products = np.array([[np.nansum(a * b, axis=1) for b in (*columns, y)] for a in columns])
    lengths = np.sqrt(np.einsum("iin->in", products[:, :-1]))
    good = (lengths > 0).all(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.moveaxis(products[:, :-1] / (lengths[:, None] * lengths[None]), 2, 0)
        right = (products[:, -1] / lengths).T[:, :, None]
    good[good] = np.linalg.eigvalsh(cosines[good])[:, 0] > 1e-10
    out = np.full((len(columns), len(y)), np.nan)
    out[:, good] = np.linalg.solve(cosines[good], right[good])[:, :, 0].T / lengths[:, good]
    return out


def spearman_within(x: np.ndarray, y: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Rank correlation of each network, ranks taken and centred within strata; arguments as for `slopes_within`.

    An infinite number has a rank like any other.
    """
    return _correlations(*_centred_ranks(strata, x, y))


def partial_spearman_within(x: np.ndarray, y: np.ndarray, given: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Rank correlation of x and y with the ranks of a third number held fixed; arguments as for `slopes_within`.

    What a score says of the end beyond what the size at the time says already (THEORY.md, depth-transfer).

    Returns
    -------
    array [network]
        NaN where one of the three does not vary, or the third says all of another.
    """
    x, y, given = _centred_ranks(strata, x, y, given)
    xy, xg, yg = _correlations(x, y), _correlations(x, given), _correlations(y, given)
    free = (1 - xg**2) * (1 - yg**2)
    return (xy - xg * yg) / np.sqrt(np.where(free > 1e-12, free, np.nan))


def top_jaccard(a: np.ndarray, b: np.ndarray, strata: np.ndarray, share: float) -> np.ndarray:
    """Overlap of the neurons with the highest a and those with the highest b, a share of each stratum.

    The winners of a network are those of all its strata together (the top 10 % of each sign: THEORY.md,
    winner-stability); of equal neurons the first wins.

    Parameters
    ----------
    a, b : float arrays [network, neuron]
    strata : int array [network, neuron]
    share : float
        Between 0 and 1; at least one neuron of each stratum is taken.

    Returns
    -------
    array [network]
        Number in both sets over the number in either; NaN for a network without a neuron.

    Examples
    --------
    >>> a, b = np.array([[4.0, 3.0, 2.0, 1.0]]), np.array([[4.0, 1.0, 2.0, 3.0]])
    >>> top_jaccard(a, b, np.zeros((1, 4), int), 0.5).round(3).tolist()
    [0.333]
    """
    a, b = _complete(strata, a, b)
    both = np.zeros((2, len(a)))
    _tops(a, b, strata, share, both[0], both[1])
    with np.errstate(invalid="ignore"):
        return both[0] / (2 * both[1] - both[0])


def log_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Exponent of y in x for each network: the least-squares slope of log y on log x over settings.

    Parameters
    ----------
    x : float array [setting], positive
        What was swept, the step size say.
    y : float array [network, setting]

    Returns
    -------
    array [network]
        NaN for a network with a NaN, or without a logarithm, in any setting.

    Examples
    --------
    >>> log_slopes(np.array([1.0, 2.0, 4.0]), np.array([[3.0, 12.0, 48.0], [1.0, 0.0, 1.0]])).round(12).tolist()
    [2.0, nan]
    """
    at = np.log(x) - np.log(x).mean()
    logs = np.log(np.where(y > 0, y, np.nan))
    return (logs * at).sum(axis=1) / (at**2).sum()


def centred(strata: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    """Copies with the mean of each stratum of each network taken out, NaN where any is not finite.

    What varies by rounding alone does not vary.
    """
    columns = _complete(strata, *(np.where(np.isfinite(c), c, np.nan) for c in columns))
    for column in columns:
        _centre(column, strata)
    return list(columns)


def _complete(strata: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Copies in float64 with a NaN in all where there is one in any, or no stratum."""
    bad = np.any([strata < 0, *(np.isnan(c) for c in columns)], axis=0)
    return tuple(np.where(bad, np.nan, c).astype(float) for c in columns)


def _centred_ranks(strata: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    columns = _complete(strata, *columns)
    for column in columns:
        _rank(column, strata)
    return centred(strata, *columns)


def _correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nansum(x * y, axis=1) / np.sqrt(np.nansum(x * x, axis=1) * np.nansum(y * y, axis=1))


@compiled
def _by_stratum(values, strata):
    """The neurons of one network with a number and a stratum, stratum after stratum."""
    order, count = np.argsort(strata, kind="mergesort"), 0
    for a in order:
        if strata[a] >= 0 and not np.isnan(values[a]):
            order[count] = a
            count += 1
    return order[:count]


@compiled
def _end(strata, order, first):
    """Where the stratum ends that begins at `first`."""
    end = first + 1
    while end < len(order) and strata[order[end]] == strata[order[first]]:
        end += 1
    return end


@compiled
def _centre(x, strata):
    for i in range(len(x)):
        order, first = _by_stratum(x[i], strata[i]), 0
        while first < len(order):
            end = _end(strata[i], order, first)
            total, largest, spread = 0.0, 0.0, 0.0
            for a in order[first:end]:
                total += x[i, a]
                largest = max(largest, abs(x[i, a]))
            for a in order[first:end]:
                x[i, a] -= total / (end - first)
                spread = max(spread, abs(x[i, a]))
            if spread <= 1e-14 * largest:
                for a in order[first:end]:
                    x[i, a] = 0.0
            first = end


@compiled
def _rank(x, strata):
    """Replace numbers by their ranks within (network, stratum); equal ones share their mean rank."""
    for i in range(len(x)):
        order, first = _by_stratum(x[i], strata[i]), 0
        while first < len(order):
            end = _end(strata[i], order, first)
            values = x[i][order[first:end]]
            rising = np.argsort(values, kind="mergesort")
            low = 0
            while low < len(values):
                high = low
                while high + 1 < len(values) and values[rising[high + 1]] == values[rising[low]]:
                    high += 1
                for k in range(low, high + 1):
                    x[i, order[first + rising[k]]] = (low + high) / 2 + 1
                low = high + 1
            first = end


@compiled
def _tops(a, b, strata, share, common, size):
    """How many neurons the top sets of a and of b have in common, and how many each has, by network."""
    for i in range(len(a)):
        order, first = _by_stratum(a[i], strata[i]), 0
        while first < len(order):
            end = _end(strata[i], order, first)
            take = max(1, int(np.floor(share * (end - first) + 0.5)))
            by_a = np.argsort(-a[i][order[first:end]], kind="mergesort")
            by_b = np.argsort(-b[i][order[first:end]], kind="mergesort")
            chosen = np.zeros(end - first, np.bool_)
            chosen[by_a[:take]] = True
            common[i] += np.sum(chosen[by_b[:take]])
            size[i] += take
            first = end
