"""The loops behind the laws of directions: ratios of Bessel functions, tables of densities, and fits.

In t = artanh(cos δ) a von Mises-Fisher law has density ∝ exp(κ tanh t) cosh(t)^{-(d-1)}: see `mcrace.statistics.directional`.
"""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled

POINTS = 512  # of a table of a law
TAIL = 40.0  # a table ends where the density is e^-40 of its peak
NEWTON, DESCENT = 100, 1000  # steps at most
CLOSE = 1e-15  # relative, of a last step
LONGEST = 0.9  # of a step in the unit ball


@compiled
def _resultant(kappa, d):
    """A_d(κ) = I_{d/2}(κ)/I_{d/2-1}(κ), by the recurrence of ratios downwards from Amos's bound (Math. Comp. 28, 239, 1974).

    Each step leaves A² of the error, so after 8 sqrt(κ) of them nothing is left of it.
    """
    if kappa == 0:
        return 0.0
    k = abs(kappa)
    steps = 20 + int(8 * np.sqrt(k))
    top = d + 2.0 * steps
    ratio = k / (top / 2 - 0.5 + np.sqrt((top / 2 + 0.5) ** 2 + k * k))
    for n in range(steps - 1, -1, -1):
        ratio = 1.0 / ((d + 2.0 * n) / k + ratio)
    return np.sign(kappa) * ratio


@compiled
def _kappa(resultant, d):
    """κ with A_d(κ) = R, by Newton's method from Banerjee's value (JMLR 6, 1345, 2005)."""
    R = abs(resultant)
    if R == 0 or R >= 1:
        return 0.0 if R == 0 else np.sign(resultant) * np.inf
    kappa = R * (d - R * R) / (1 - R * R)
    for _ in range(NEWTON):
        found = _resultant(kappa, d)
        step = (found - R) / (1 - found * found - (d - 1) * found / kappa)
        kappa = max(kappa - step, kappa / 2)
        if abs(step) <= CLOSE * kappa:
            break
    return np.sign(resultant) * kappa


@compiled
def law_table(kappa, d, density, cumulated):
    """Fill a table of exp(κ tanh t) cosh(t)^{-(d-1)} over its maximum, and of its integral.

    Returns the first t, the step, and the logarithm of the maximum.  Sums of a smooth function over the line by trapezoids
    converge exponentially; parts of them have the correction of Euler and Maclaurin.
    """
    peak = np.arctanh(2 * kappa / (d - 1 + np.sqrt((d - 1.0) ** 2 + 4 * kappa * kappa)))
    most = kappa * np.tanh(peak) - (d - 1) * _log_cosh(peak)
    ends = np.empty(2)
    for side in range(2):
        sign, inside, outside = 2.0 * side - 1, 0.0, 1.0
        while kappa * np.tanh(peak + sign * outside) - (d - 1) * _log_cosh(peak + sign * outside) > most - TAIL:
            inside, outside = outside, 2 * outside
        for _ in range(30):
            middle = (inside + outside) / 2
            if kappa * np.tanh(peak + sign * middle) - (d - 1) * _log_cosh(peak + sign * middle) > most - TAIL:
                inside = middle
            else:
                outside = middle
        ends[side] = peak + sign * outside
    first, step = ends[0], (ends[1] - ends[0]) / (len(density) - 1)
    total, last_slope = 0.0, 0.0
    for n in range(len(density)):
        t = first + n * step
        tanh = np.tanh(t)
        density[n] = np.exp(kappa * tanh - (d - 1) * _log_cosh(t) - most)
        slope = density[n] * (kappa * (1 - tanh * tanh) - (d - 1) * tanh)
        if n:
            total += step * (density[n - 1] + density[n]) / 2 + step * step * (last_slope - slope) / 12
        cumulated[n], last_slope = total, slope
    return first, step, most


@compiled
def _log_cosh(t):
    t = abs(t)
    return t + np.log1p(np.exp(-2 * t)) - np.log(2.0)


@compiled
def looked_up(t, first, step, density, cumulated):
    """The share of a law below t, by cubic interpolation of its table."""
    place = (t - first) / step
    n = int(min(max(place, 0.0), len(density) - 2.0))
    x = min(max(place - n, 0.0), 1.0)
    low, high = cumulated[n], cumulated[n + 1]
    value = low + (high - low) * x * x * (3 - 2 * x) + step * x * (1 - x) * (density[n] * (1 - x) - density[n + 1] * x)
    return min(max(value / cumulated[-1], 0.0), 1.0)


@compiled
def shares_below(t, kappa, d, points):
    """The shares of von Mises-Fisher laws below t [set, sample]."""
    out, density, cumulated = np.empty(t.shape), np.empty(points), np.empty(points)
    for i in range(len(t)):
        first, step, _ = law_table(kappa[i], d, density, cumulated)
        for n in range(t.shape[1]):
            out[i, n] = looked_up(t[i, n], first, step, density, cumulated)
    return out


@compiled
def log_normalisers(kappa, d):
    """log of the mean of exp(κ cos δ) over uniform directions [set]."""
    out, density, cumulated = np.empty(len(kappa)), np.empty(POINTS), np.empty(POINTS)
    _, uniform_step, _ = law_table(0.0, d, density, cumulated)
    uniform = np.log(uniform_step * density.sum())
    for i in range(len(kappa)):
        _, step, most = law_table(kappa[i], d, density, cumulated)
        out[i] = most + np.log(step * density.sum()) - uniform
    return out


@compiled
def resultants(kappa, d):
    out = np.empty(len(kappa))
    for i in range(len(kappa)):
        out[i] = _resultant(kappa[i], d)
    return out


@compiled
def kappas(resultant, d):
    out = np.empty(len(resultant))
    for i in range(len(resultant)):
        out[i] = _kappa(resultant[i], d)
    return out


@compiled
def mean_directions(X):
    """Mean resultant vectors [set, input]."""
    out = np.zeros((len(X), X.shape[2]))
    for i in range(len(X)):
        for n in range(X.shape[1]):
            for k in range(X.shape[2]):
                out[i, k] += X[i, n, k] / X.shape[1]
    return out


@compiled
def shifts(cosines):
    """The shift of t that makes cosines most likely [set]: Newton's method on a concave likelihood, kept inside a bracket."""
    out = np.empty(len(cosines))
    for i in range(len(cosines)):
        low, high, shift = -np.inf, np.inf, np.arctanh(np.mean(cosines[i]))
        for _ in range(NEWTON):
            tanh, score, curvature = np.tanh(shift), 0.0, 0.0
            for n in range(cosines.shape[1]):
                back = (cosines[i, n] - tanh) / (1 - cosines[i, n] * tanh)
                score += back
                curvature += 1 - back * back
            low, high = (shift, high) if score > 0 else (low, shift)
            step = score / curvature
            if not low <= shift + step <= high:
                step = (high - low) / 2 if score > 0 else (low - high) / 2
            shift += min(max(step, -1.0), 1.0)
            if abs(step) <= CLOSE * max(1.0, abs(shift)):
                break
        out[i] = shift
    return out


@compiled
def _centre(X, p, moved):
    """Find the point p of the unit ball that the Möbius map to 0 takes to directions of mean 0: the most likely ρ·axis.

    The likelihood is concave along hyperbolic lines; a step along the mean is Newton's where the directions moved are uniform.
    """
    count, d = X.shape
    p[:] = 0.0
    for _ in range(DESCENT):
        inside = 1.0
        for k in range(d):
            inside -= p[k] * p[k]
        moved[:] = 0.0
        for n in range(count):
            square = 0.0
            for k in range(d):
                square += (X[n, k] - p[k]) ** 2
            for k in range(d):
                moved[k] += inside * (X[n, k] - p[k]) / square
        length, along = 0.0, 0.0
        for k in range(d):
            moved[k] = (moved[k] / count - p[k]) * d / (2.0 * (d - 1))
            length += moved[k] * moved[k]
        if length <= 1e-26:
            break
        if length > LONGEST * LONGEST:
            moved *= LONGEST / np.sqrt(length)
            length = LONGEST * LONGEST
        for k in range(d):
            along += p[k] * moved[k]
        bottom = 1 + 2 * along + (1 - inside) * length
        for k in range(d):
            p[k] = ((1 + 2 * along + length) * p[k] + inside * moved[k]) / bottom


@compiled
def centres(X):
    out, moved = np.empty((len(X), X.shape[2])), np.empty(X.shape[2])
    for i in range(len(X)):
        _centre(X[i], out[i], moved)
    return out


@compiled
def lean(X, cosines):
    """Turn normal numbers into directions with cosines to the first input."""
    for i in range(X.shape[0]):
        for n in range(X.shape[1]):
            square = 0.0
            for k in range(1, X.shape[2]):
                square += X[i, n, k] * X[i, n, k]
            factor = np.sqrt((1 - cosines[i, n]) * (1 + cosines[i, n]) / square)
            X[i, n, 0] = cosines[i, n]
            for k in range(1, X.shape[2]):
                X[i, n, k] *= factor
