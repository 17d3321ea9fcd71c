"""The limiting angle of neurons to the tangent space at the apex of a paraboloid (THEORY.md, tangent-convergence)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy

NODES = 200  # of the quadrature over |u|² less the part along b
STEP, STEPS, DONE = 0.1, 5000, 1e-12
PHI_0 = 1 / np.sqrt(2 * np.pi)


@lru_cache(maxsize=256)
def limiting_drift(intrinsic: int, curvature: float, offset: float) -> tuple[float, float, float]:
    """The drift of a neuron that points along it, on x = (off, u, (c/2)|u|²), u ~ N(0, I), y = sign(b·u), while f = 0.

    The limit of w ← unit(w + 0.1 D(w)/|D(w)|) from b, with

        D(w) = (off E[g r], E[g r b·u], (c/2) E[g r |u|²]),    g = 1[w·x > 0], r = y/2,

    where E over s = b·u is closed and that over |u|² - s² is a Gauss-Laguerre sum.

    Parameters
    ----------
    intrinsic : int
        k, the dimension of u.
    curvature, offset : float
        c and off.

    Returns
    -------
    tuple of float
        Its parts along the offset, along b, and along the axis of the paraboloid.
    """
    w, D = np.array([0.0, 1.0, 0.0]), np.zeros(3)
    for _ in range(STEPS):
        D = drift_of(w, intrinsic, curvature, offset)
        to = w + STEP * D / np.linalg.norm(D)
        to /= np.linalg.norm(to)
        moved, w = np.abs(to - w).max(), to
        if moved < DONE:
            break
    return float(D[0]), float(D[1]), float(D[2])


def limiting_angle(intrinsic: int, curvature: float, offset: float, cone: bool = False) -> float:
    """θ* of neurons to the tangent space at the apex, or to the span of that and of the apex, in rad; see `limiting_drift`.

    >>> limiting_angle(2, 0.0, 0.0), round(limiting_angle(2, 0.5, 1.0), 3)
    (0.0, 0.568)
    """
    off, along, up = limiting_drift(intrinsic, curvature, offset)
    if cone and offset:
        return float(np.arctan2(abs(up), np.hypot(off, along)))
    return float(np.arctan2(np.hypot(off, up), abs(along)))


def drift_of(w: np.ndarray, intrinsic: int, curvature: float, offset: float) -> np.ndarray:
    """D(w) of `limiting_drift` for a direction w in its three parts."""
    rest, weights = _squares_across(intrinsic)
    moments = np.zeros((3, len(rest)))
    square, line, constant = curvature / 2 * w[2], w[1], offset * w[0] + curvature / 2 * w[2] * rest
    for low, high in _positive(square, line, constant):
        moments += _moments(high) - _moments(low)
    gate, along, square_along = (moments / 2) @ weights
    across = np.sum(weights * rest * moments[0]) / 2
    return np.array([offset * gate, along, curvature / 2 * (square_along + across)])


@lru_cache(maxsize=16)
def _squares_across(intrinsic: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the law of |u|² - (b·u)², which is χ² of k-1 degrees of freedom."""
    if intrinsic == 1:
        return np.zeros(1), np.ones(1)
    nodes, weights = scipy.special.roots_genlaguerre(NODES, (intrinsic - 1) / 2 - 1)
    return 2 * nodes, weights / weights.sum()


def _positive(a: float, b: float, c: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The intervals of s on which a s² + b s + c > 0; empty ones have equal ends."""
    everywhere = np.full_like(c, np.inf)
    if abs(a) < 1e-300:
        if b == 0:
            return [(-everywhere, np.where(c > 0, np.inf, -np.inf))]
        root = -c / b
        return [(root, everywhere)] if b > 0 else [(-everywhere, root)]
    discriminant = b * b - 4 * a * c
    width = np.sqrt(np.maximum(discriminant, 0))
    q = -(b + np.copysign(width, b)) / 2  # both roots without cancellation
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = q / a, np.where(q == 0, 0, c / q)
    low, high = np.minimum(one, other), np.maximum(one, other)
    if a < 0:
        none = discriminant <= 0
        return [(np.where(none, 0, low), np.where(none, 0, high))]
    middle = np.where(discriminant <= 0, 0.0, 1.0)
    return [(-everywhere, np.where(middle == 0, 0, low)), (np.where(middle == 0, 0, high), everywhere)]


def _moments(s: np.ndarray) -> np.ndarray:
    """∫_0^s sign(t) t^j φ(t) dt for j = 0, 1, 2, φ the normal density [j, ...]."""
    end = np.clip(s, -40, 40)
    phi, sign = PHI_0 * np.exp(-(end**2) / 2), np.sign(end)
    half = scipy.special.ndtr(end) - 0.5
    return np.stack([sign * half, sign * (PHI_0 - phi), sign * (half - end * phi)])
