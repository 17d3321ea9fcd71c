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
from scipy.special import betainc

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
def _log_normalisers(kappa, d):
    """log of the mean of exp(κ cos δ) over uniform directions [set]."""
    out, density, cumulated = np.empty(len(kappa)), np.empty(POINTS), np.empty(POINTS)
    _, uniform_step, _ = law_table(0.0, d, density, cumulated)
    uniform = np.log(uniform_step * density.sum())
    for i in range(len(kappa)):
        _, step, most = law_table(kappa[i], d, density, cumulated)
        out[i] = most + np.log(step * density.sum()) - uniform
    return out


@compiled
def _resultants(kappa, d):
    out = np.empty(len(kappa))
    for i in range(len(kappa)):
        out[i] = _resultant(kappa[i], d)
    return out


@compiled
def _kappas(resultant, d):
    out = np.empty(len(resultant))
    for i in range(len(resultant)):
        out[i] = _kappa(resultant[i], d)
    return out


@compiled
def _mean_directions(X):
    """Mean resultant vectors [set, input]."""
    out = np.zeros((len(X), X.shape[2]))
    for i in range(len(X)):
        for n in range(X.shape[1]):
            for k in range(X.shape[2]):
                out[i, k] += X[i, n, k] / X.shape[1]
    return out


@compiled
def _shifts(cosines):
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
def _centres(X):
    out, moved = np.empty((len(X), X.shape[2])), np.empty(X.shape[2])
    for i in range(len(X)):
        _centre(X[i], out[i], moved)
    return out


@compiled
def _lean(X, cosines):
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
        _lean(X, cosines)
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
        return cls(dimension, _kappas(cosines.mean(axis=1), dimension))

    @classmethod
    def fit(cls, X: np.ndarray) -> tuple[Self, np.ndarray]:
        mean = _mean_directions(X)
        length = np.sqrt(np.sum(mean * mean, axis=1))
        return cls(X.shape[2], _kappas(length, X.shape[2])), mean / length[:, None]

    @property
    def resultant(self) -> np.ndarray:
        return _resultants(self.concentration, self.dimension)

    @property
    def tilt_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        return self.concentration, np.zeros_like(self.concentration)

    @property
    def log_normaliser(self) -> np.ndarray:
        """log of the mean of exp(κ cos δ) over uniform directions [set]."""
        return _log_normalisers(self.concentration, self.dimension)

    def log_density(self, cosines: np.ndarray) -> np.ndarray:
        return self.concentration[:, None] * cosines - self.log_normaliser[:, None]

    def below(self, cosines: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return shares_below(np.arctanh(cosines), self.concentration, self.dimension, 4 * POINTS)

    def cosines(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random cosines [set, count], by Wood's rejection (Commun. Stat. 23, 157, 1994)."""
        half, sign = self.dimension - 1, np.where(self.concentration < 0, -1.0, 1.0)
        out, kappas = np.empty(len(sign) * count), np.repeat(np.abs(self.concentration), count)
        left = np.arange(len(out))
        while len(left):
            kappa = kappas[left]
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
        return cls.shifted(_shifts(cosines), dimension)

    @classmethod
    def fit(cls, X: np.ndarray) -> tuple[Self, np.ndarray]:
        centres = _centres(X)
        rho = np.sqrt(np.sum(centres * centres, axis=1))
        return cls(X.shape[2], rho), centres / rho[:, None]

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
            return betainc(half, half, 1 / (1 + 1 / (np.exp(2 * self.shift)[:, None] * z * z)))

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
    from scipy.special import roots_jacobi

    half = (dimension - 3) / 2
    nodes, weights = roots_jacobi(points, half, half)
    return nodes, weights / weights.sum()
