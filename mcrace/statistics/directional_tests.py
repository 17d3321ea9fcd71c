"""Tests of directions: uniformity, the mean with an interval, and which of two laws they follow."""

from __future__ import annotations

import numpy as np
import scipy

from mcrace.compiled import compiled
from mcrace.statistics.directional import (
    DirectionalLaw,
    SphericalCauchy,
    VonMisesFisher,
    cosines_to,
    uniform_quadrature,
)
from mcrace.statistics.directional_numerics import POINTS, law_table, looked_up

BOOTSTRAPS = 199  # THEORY.md, winner-concentration
LEAST_SHARE = 1e-15  # of a law, below which an observation is as far out as can be told


def rayleigh_p(X: np.ndarray) -> np.ndarray:
    """p-values of Rayleigh's test that directions are uniform, against a preferred one [set].

    With Jupp's correction, the error of χ²_d is of the order 1/samples² (Mardia & Jupp 2000, 10.4.6).

    Parameters
    ----------
    X : array [set, sample, input], of length 1
    """
    count, d = X.shape[1:]
    found = count * d * np.sum(X.mean(axis=1) ** 2, axis=1)
    return scipy.stats.chi2.sf((1 - 1 / (2 * count)) * found + found**2 / (2 * count * (d + 2)), d)


def bingham_p(X: np.ndarray) -> np.ndarray:
    """p-values of Bingham's test that directions are uniform, against a preferred axis or plane [set].

    χ² with (d-1)(d+2)/2 degrees of freedom for many samples (Mardia & Jupp 2000, 10.7.1).

    Parameters
    ----------
    X : array [set, sample, input], of length 1
    """
    d = X.shape[2]
    return scipy.stats.chi2.sf(_anisotropies(X, d), (d - 1) * (d + 2) / 2)


def mean_direction(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean directions [set, input], and the angles [set] of the cones round them that hold the true ones in 95 % of cases.

    For many samples of any law that is symmetric round its axis (Watson 1983; THEORY.md, winner-concentration).

    Parameters
    ----------
    X : array [set, sample, input], of length 1
    """
    count, d = X.shape[1:]
    mean = X.mean(axis=1)
    length = np.sqrt(np.sum(mean * mean, axis=1))
    axes = mean / length[:, None]
    aside = (1 - np.mean(cosines_to(X, axes) ** 2, axis=1)) / (d - 1)
    sine = np.sqrt(scipy.stats.chi2.ppf(0.95, d - 1) * aside / count) / length
    return axes, np.arcsin(np.minimum(sine, 1))


def log_likelihoods(X: np.ndarray, kind: type[DirectionalLaw]) -> np.ndarray:
    """Log-likelihood an observation of the fitted law, relative to uniform directions [set].

    Parameters
    ----------
    X : array [set, sample, input], of length 1
    kind : `VonMisesFisher` or `SphericalCauchy`
    """
    law, axes = kind.fit(X)
    return law.log_density(cosines_to(X, axes)).mean(axis=1)


def likelihood_gain(law: SphericalCauchy) -> np.ndarray:
    """What a spherical Cauchy law gains an observation over the best von Mises-Fisher law, in log-likelihood [set]."""
    nodes, weights = uniform_quadrature(law.dimension)
    tanh = np.tanh(law.shift)[:, None]
    cosines = (nodes + tanh) / (1 + nodes * tanh)
    other = VonMisesFisher.fit_cosines(law.resultant[:, None], law.dimension)
    return np.sum(weights * (law.log_density(cosines) - other.log_density(cosines)), axis=1)


def fit_p(X: np.ndarray, kind: type[DirectionalLaw], rng: np.random.Generator, bootstraps: int = BOOTSTRAPS) -> np.ndarray:
    """p-values of a goodness of fit by parametric bootstrap: that directions follow some law of a family [set].

    The law is fitted, samples of it are drawn and fitted as well.  The statistic is Anderson and Darling's of the angles
    to the axis, plus Bingham's of the directions beside it, standardised: under either law those are uniform.

    Parameters
    ----------
    X : array [set, sample, input], of length 1
    kind : `VonMisesFisher` or `SphericalCauchy`
    rng : Generator
    bootstraps : int

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> X = SphericalCauchy.shifted(1.5, 10).directions(rng, 300)
    >>> bool(fit_p(X, SphericalCauchy, rng)[0] > 0.05), bool(fit_p(X, VonMisesFisher, rng)[0] > 0.05)
    (True, False)
    """
    count, d = X.shape[1:]
    law, axes = kind.fit(X)
    observed = _misfits(X, axes, *law.tilt_and_shift)
    p = np.empty(len(X))
    for i, concentration in enumerate(law.concentration):
        drawn = kind(d, np.full(bootstraps, concentration)).directions(rng, count)
        fitted, found = kind.fit(drawn)
        more = np.sum(_misfits(drawn, found, *fitted.tilt_and_shift) >= observed[i])
        p[i] = (1 + more) / (1 + bootstraps)
    return p


def uniform_p(shares: np.ndarray) -> np.ndarray:
    """p-values of Kolmogorov and Smirnov's test that numbers are uniform between 0 and 1 [set].

    >>> uniform_p(np.linspace(0.01, 0.99, 50)[None]).round(3), uniform_p(np.full((1, 50), 0.5)).round(3)
    (array([1.]), array([0.]))
    """
    count = shares.shape[1]
    ordered, steps = np.sort(shares, axis=1), np.arange(count + 1) / count
    distance = np.maximum((steps[1:] - ordered).max(axis=1), (ordered - steps[:-1]).max(axis=1))
    return scipy.stats.kstwo.sf(distance, count)


@compiled
def _anisotropy(X, axis, freedom, T):
    """Bingham's statistic of directions beside an axis, which lie in `freedom` dimensions; an axis 0 leaves nothing out."""
    count, d = X.shape
    beside = np.empty(d)
    T[:] = 0.0
    for n in range(count):
        along, left = 0.0, 0.0
        for k in range(d):
            along += X[n, k] * axis[k]
        for k in range(d):
            beside[k] = X[n, k] - along * axis[k]
            left += beside[k] * beside[k]
        for j in range(d):
            part = beside[j] / left
            for k in range(j + 1):
                T[j, k] += part * beside[k]
    square = 0.0
    for j in range(d):
        for k in range(j + 1):
            square += (T[j, k] / count) ** 2 * (1.0 if j == k else 2.0)
    return freedom * (freedom + 2) / 2.0 * count * (square - 1.0 / freedom)


@compiled
def _anisotropies(X, freedom):
    d = X.shape[2]
    out, T, axis = np.empty(len(X)), np.empty((d, d)), np.zeros(d)
    for i in range(len(X)):
        out[i] = _anisotropy(X[i], axis, freedom, T)
    return out


@compiled
def _misfits(X, axes, tilts, shifts):
    """How far samples are from the laws with axes, tilts κ and shifts τ [set]."""
    count, d = X.shape[1:]
    out, shares, T = np.empty(len(X)), np.empty(count), np.empty((d, d))
    density, cumulated = np.empty(POINTS), np.empty(POINTS)
    first, step = 0.0, 1.0
    for i in range(len(X)):
        if i == 0 or tilts[i] != tilts[i - 1]:
            first, step, _ = law_table(tilts[i], d, density, cumulated)
        for n in range(count):
            cosine = 0.0
            for k in range(d):
                cosine += X[i, n, k] * axes[i, k]
            t = np.arctanh(min(max(cosine, -1.0), 1.0)) - shifts[i]
            shares[n] = min(max(looked_up(t, first, step, density, cumulated), LEAST_SHARE), 1 - LEAST_SHARE)
        shares.sort()
        out[i] = -count
        for n in range(count):
            out[i] -= (2 * n + 1) * (np.log(shares[n]) + np.log1p(-shares[count - 1 - n])) / count
        freedom = d - 1
        degrees = (freedom - 1) * (freedom + 2) / 2
        if degrees > 0:
            out[i] += (_anisotropy(X[i], axes[i], freedom, T) - degrees) / np.sqrt(2 * degrees)
    return out
