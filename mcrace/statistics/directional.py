"""Laws of directions that are symmetric round an axis: von Mises-Fisher and spherical Cauchy, at any dimension.

Everything is done in t = artanh(cos δ), δ the angle to the axis: the uniform law has density ∝ cosh(t)^{-(d-1)} there, the von
Mises-Fisher law that times exp(κ tanh t), and the spherical Cauchy law is the uniform one shifted by log((1+ρ)/(1-ρ)).
Densities are relative to the uniform law of directions, which has density 1: neither underflows, whatever d and κ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import scipy

from mcrace.statistics.directional_numerics import (
    POINTS,
    centres,
    kappas,
    lean,
    log_normalisers,
    mean_directions,
    resultants,
    shares_below,
    shifts,
)


def uniform_directions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Directions without preference, float64 array of a shape whose last length is the dimension.

    >>> X = uniform_directions(np.random.default_rng(1), 5, 3)
    >>> bool(np.allclose((X**2).sum(axis=1), 1))
    True
    """
    X = rng.standard_normal(shape)
    return X / np.sqrt(np.sum(X * X, axis=-1, keepdims=True))


def cosines_to(X: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Cosines [set, sample] of directions [set, sample, input] to axes [set, input]."""
    return np.clip(np.sum(X * axis[:, None, :], axis=2), -1.0, 1.0)


@dataclass(frozen=True)
class DirectionalLaw(ABC):
    """A family of laws of directions in R^d that are symmetric round an axis, one law for each set of samples.

    Attributes
    ----------
    dimension : int
        d, 2 at least.
    concentration : float64 array [set]
        κ or ρ; 0 is the uniform law, and where the axis is known a negative one prefers its other end.
    """

    dimension: int
    concentration: np.ndarray
    label: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit_cosines(cls, cosines: np.ndarray, dimension: int) -> Self:
        """Maximum likelihood from cosines [set, sample] to a known axis."""

    @classmethod
    @abstractmethod
    def fit(cls, X: np.ndarray) -> tuple[Self, np.ndarray]:
        """Maximum likelihood from directions [set, sample, input], with the axes [set, input] found."""

    @property
    @abstractmethod
    def resultant(self) -> np.ndarray:
        """The mean of cos δ [set]."""

    @abstractmethod
    def log_density(self, cosines: np.ndarray) -> np.ndarray:
        """log density at cosines [set, sample], relative to uniform directions."""

    @abstractmethod
    def below(self, cosines: np.ndarray) -> np.ndarray:
        """The share of directions with a lower cosine [set, sample]."""

    @property
    @abstractmethod
    def tilt_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """κ and τ [set] with which t - τ has density ∝ exp(κ tanh) cosh^{-(d-1)}."""

    @abstractmethod
    def cosines(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random cosines [set, count]."""

    def directions(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random directions [set, count, input], whose axis is the first input."""
        cosines = self.cosines(rng, count)
        X = rng.standard_normal((*cosines.shape, self.dimension))
        lean(X, cosines)
        return X


class VonMisesFisher(DirectionalLaw):
    """Density ∝ exp(κ cos δ).

    Examples
    --------
    >>> law = VonMisesFisher(784, np.array([50.0]))
    >>> VonMisesFisher.fit_cosines(law.resultant[:, None], 784).concentration.round(9)
    array([50.])
    """

    label = "von Mises-Fisher"

    @classmethod
    def fit_cosines(cls, cosines: np.ndarray, dimension: int) -> Self:
        return cls(dimension, kappas(cosines.mean(axis=1), dimension))

    @classmethod
    def fit(cls, X: np.ndarray) -> tuple[Self, np.ndarray]:
        mean = mean_directions(X)
        length = np.sqrt(np.sum(mean * mean, axis=1))
        return cls(X.shape[2], kappas(length, X.shape[2])), mean / length[:, None]

    @property
    def resultant(self) -> np.ndarray:
        return resultants(self.concentration, self.dimension)

    @property
    def tilt_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        return self.concentration, np.zeros_like(self.concentration)

    @property
    def log_normaliser(self) -> np.ndarray:
        """log of the mean of exp(κ cos δ) over uniform directions [set]."""
        return log_normalisers(self.concentration, self.dimension)

    def log_density(self, cosines: np.ndarray) -> np.ndarray:
        return self.concentration[:, None] * cosines - self.log_normaliser[:, None]

    def below(self, cosines: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return shares_below(np.arctanh(cosines), self.concentration, self.dimension, 4 * POINTS)

    def cosines(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random cosines [set, count], by Wood's rejection (Commun. Stat. 23, 157, 1994)."""
        half, sign = self.dimension - 1, np.where(self.concentration < 0, -1.0, 1.0)
        out, all_kappas = np.empty(len(sign) * count), np.repeat(np.abs(self.concentration), count)
        left = np.arange(len(out))
        while len(left):
            kappa = all_kappas[left]
            b = half / (2 * kappa + np.sqrt(4 * kappa**2 + half**2))
            x = (1 - b) / (1 + b)
            share = rng.beta(half / 2, half / 2, len(left))
            tried = (1 - (1 + b) * share) / (1 - (1 - b) * share)
            excess = kappa * (tried - x) + half * np.log((1 - x * tried) / (1 - x * x))
            kept = excess >= np.log1p(-rng.random(len(left)))
            out[left[kept]] = tried[kept]
            left = left[~kept]
        return sign[:, None] * out.reshape(len(sign), count)


class SphericalCauchy(DirectionalLaw):
    """Density ∝ ((1-ρ²)/(1+ρ²-2ρ cos δ))^{d-1}: uniform directions after a stereographic dilation (Kato & McCullagh 2020).

    Examples
    --------
    >>> law = SphericalCauchy(10, np.array([0.5]))
    >>> fitted = SphericalCauchy.fit_cosines(law.cosines(np.random.default_rng(1), 100_000), 10)
    >>> bool(abs(fitted.concentration[0] - 0.5) < 0.002)
    True
    """

    label = "spherical Cauchy"

    @classmethod
    def fit_cosines(cls, cosines: np.ndarray, dimension: int) -> Self:
        return cls.shifted(shifts(cosines), dimension)

    @classmethod
    def fit(cls, X: np.ndarray) -> tuple[Self, np.ndarray]:
        points = centres(X)
        rho = np.sqrt(np.sum(points * points, axis=1))
        return cls(X.shape[2], rho), points / rho[:, None]

    @classmethod
    def shifted(cls, shift: np.ndarray | float, dimension: int) -> Self:
        """The law after the clock τ = `shift` from uniform directions: ρ = tanh(τ/2) (THEORY.md, winner-concentration)."""
        return cls(dimension, np.tanh(np.atleast_1d(shift) / 2))

    @property
    def shift(self) -> np.ndarray:
        """τ with ρ = tanh(τ/2) [set]."""
        return 2 * np.arctanh(self.concentration)

    @property
    def resultant(self) -> np.ndarray:
        nodes, weights = uniform_quadrature(self.dimension)
        tanh = np.tanh(self.shift)[:, None]
        return np.sum(weights * (nodes + tanh) / (1 + nodes * tanh), axis=1)

    @property
    def tilt_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros_like(self.concentration), self.shift

    def without_bias(self, samples: int) -> SphericalCauchy:
        """The law without the bias of a fit to many samples that chose its axis, too: of the order of d/samples.

        The error of a fit is alike in all d directions of hyperbolic space, where the information of a sample is
        (d-1)²/d; the d-1 directions beside the axis can only lengthen the distance τ from its centre.
        """
        shift, d = self.shift, self.dimension
        with np.errstate(divide="ignore"):
            excess = d / ((d - 1) * 2 * samples * np.tanh(shift))
        return SphericalCauchy.shifted(np.maximum(shift - excess, 0), d)

    def log_density(self, cosines: np.ndarray) -> np.ndarray:
        rho = self.concentration[:, None]
        return (self.dimension - 1) * (np.log1p(-rho * rho) - np.log1p(rho * rho - 2 * rho * cosines))

    def below(self, cosines: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return 1 - self.within(np.sqrt((1 - cosines) / (1 + cosines)))

    def within(self, z: np.ndarray) -> np.ndarray:
        """The share of directions within tan(δ/2) ≤ z [set, sample]."""
        half = (self.dimension - 1) / 2
        with np.errstate(divide="ignore"):
            return scipy.special.betainc(half, half, 1 / (1 + 1 / (np.exp(2 * self.shift)[:, None] * z * z)))

    def cosines(self, rng: np.random.Generator, count: int) -> np.ndarray:
        half, tanh = (self.dimension - 1) / 2, np.tanh(self.shift)[:, None]
        c = 1 - 2 * rng.beta(half, half, (len(self.concentration), count))
        return np.clip((c + tanh) / (1 + c * tanh), -1, 1)


def uniform_quadrature(dimension: int, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for means of functions of cos δ over uniform directions (Gauss and Jacobi).

    >>> nodes, weights = uniform_quadrature(10)
    >>> round(float(np.sum(weights * nodes**2)), 12)
    0.1
    """
    half = (dimension - 3) / 2
    nodes, weights = scipy.special.roots_jacobi(points, half, half)
    return nodes, weights / weights.sum()
