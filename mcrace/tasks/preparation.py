"""Preparation of inputs: found from the training samples of a network, and done to its test samples alike.

Everything is added up in order, in compiled loops without BLAS or LAPACK, so that no processor or library decides a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mcrace.compiled import compiled

Step = Callable[[np.ndarray], np.ndarray]
LEAST_VARIANCE = 1e-10  # of a direction, as a share of the largest: what is below is rounding, not data
MAX_SWEEPS = 60


@dataclass(frozen=True)
class Preparation:
    """Steps in order, each a function of samples [sample, input]."""

    steps: tuple[Step, ...]

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Samples [sample, input] prepared as those were that the steps come from."""
        for step in self.steps:
            X = step(X)
        return X


def prepare(
    X: np.ndarray, center_samples: bool, center: bool, whiten: bool, scale: str
) -> tuple[np.ndarray, Preparation]:
    """Prepare the training samples of a network.

    In this order: the mean of each sample over its own features is removed (`center_samples`), the mean of each feature
    over the samples (`center`), the second moments are made 1 (`whiten`, see `Whitening`), and the length is set:
    ``"unit-rms"`` divides all samples by one factor, so that the mean of |x|² is 1; ``"unit-norm"`` divides each by its
    own, so that |x| is 1.  Where there is no extent to divide by, nothing is divided.  After ``"unit-norm"`` features
    have mean 0 only about.

    Parameters
    ----------
    X : float64 array [sample, input]

    Returns
    -------
    X : float64 array [sample, input]
    preparation : Preparation
        Does the same to other samples, with the means, directions and factors of these.
    """
    steps: list[Step] = []
    X = np.ascontiguousarray(X)

    def then(step: Step) -> np.ndarray:
        steps.append(step)
        return step(X)

    if center_samples:
        X = then(_without_own_means)
    if center:
        means = _feature_means(X)
        X = then(lambda X: X - means)
    if whiten:
        X = then(Whitening.of(X))
    if scale == "unit-rms":
        factor = np.sqrt(_mean_square(X)) or 1.0
        X = then(lambda X: X / factor)
    elif scale == "unit-norm":
        X = then(_with_unit_norms)
    return X, Preparation(tuple(steps))


@compiled
def _feature_means(X):
    total = X[0].copy()
    for n in range(1, len(X)):
        total += X[n]
    return total / len(X)


@compiled
def _without_own_means(X):
    out = np.empty_like(X)
    for n in range(len(X)):
        total = 0.0
        for k in range(X.shape[1]):
            total += X[n, k]
        out[n] = X[n] - total / X.shape[1]
    return out


@compiled
def _mean_square(X):
    total = 0.0
    for n in range(len(X)):
        for k in range(X.shape[1]):
            total += X[n, k] * X[n, k]
    return total / len(X)


@compiled
def _with_unit_norms(X):
    out = np.empty_like(X)
    for n in range(len(X)):
        total = 0.0
        for k in range(X.shape[1]):
            total += X[n, k] * X[n, k]
        out[n] = X[n] / (np.sqrt(total) if total > 0 else 1.0)
    return out


# ------------------------------------------------------------------------------------------------- whitening


@dataclass(frozen=True)
class Whitening:
    """x -> C^(-1/2) x, with C = mean(x xᵀ) over the training samples: the symmetric (ZCA) whitening.

    Directions that the samples do not span, or with less than 1e-10 of the largest variance, become 0; so real images
    with constant pixels, and fewer samples than inputs, are whitened within their span.  (Centred samples, no more of them than
    inputs, become corners of a simplex: whitening then leaves nothing of the data but the labels.)

    Attributes
    ----------
    directions : float64 array [direction, input]
        Eigenvectors of C.
    deviations : float64 array [direction]
        Roots of their eigenvalues.
    """

    directions: np.ndarray
    deviations: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray) -> Whitening:
        """From samples [sample, input], by the eigenvectors of XᵀX/N, or of XXᵀ/N where that is smaller."""
        count, inputs = X.shape
        across = np.ascontiguousarray(X.T)
        if inputs <= count:
            variances, directions = eigenvectors(_product(across, X) / count)
            used = _used(variances)
            return cls(directions[used], np.sqrt(variances[used]))
        variances, vectors = eigenvectors(_product(X, across) / count)
        used = _used(variances)
        deviations = np.sqrt(variances[used])
        return cls(_product(vectors[used], X) / (deviations * np.sqrt(count))[:, None], deviations)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Whitened samples [sample, input]."""
        along = _product(np.ascontiguousarray(X), np.ascontiguousarray(self.directions.T))
        return _product(along / self.deviations, self.directions)


def _used(variances: np.ndarray) -> np.ndarray:
    return variances > max(LEAST_VARIANCE * variances.max(), 0.0)


@compiled
def _product(A, B):
    """A B; each entry is added up in order, several entries side by side."""
    out = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            a = A[i, k]
            for j in range(B.shape[1]):
                out[i, j] += a * B[k, j]
    return out


def eigenvectors(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [n], in no order, and eigenvectors, in rows [n, n], of a symmetric matrix, by Jacobi's rotations.

    (Golub and Van Loan, Matrix Computations, 8.5.)
    """
    A, V = A.copy(), np.eye(len(A))
    _jacobi(A, V)
    return np.diag(A).copy(), V


@compiled
def _jacobi(A, V):
    n = len(A)
    whole = 0.0
    for p in range(n):
        for q in range(n):
            whole += A[p, q] * A[p, q]
    for _ in range(MAX_SWEEPS):
        off = 0.0
        for p in range(n):
            for q in range(p):
                off += A[p, q] * A[p, q]
        if off <= 1e-30 * whole:
            return
        for p in range(n):
            for q in range(p + 1, n):
                if A[p, q] * A[p, q] > 1e-36 * whole:
                    _rotate(A, V, p, q)


@compiled
def _rotate(A, V, p, q):
    """The rotation of p and q that makes A[p, q] zero."""
    n, x = len(A), A[p, q]
    theta = (A[q, q] - A[p, p]) / (2 * x)
    t = 1 / (abs(theta) + np.sqrt(theta * theta + 1))
    t = t if theta >= 0 else -t
    c = 1 / np.sqrt(t * t + 1)
    s = t * c
    app, aqq = A[p, p] - t * x, A[q, q] + t * x
    for k in range(n):
        ap, aq = A[p, k], A[q, k]
        A[p, k], A[q, k] = c * ap - s * aq, s * ap + c * aq
        vp, vq = V[p, k], V[q, k]
        V[p, k], V[q, k] = c * vp - s * vq, s * vp + c * vq
    for k in range(n):
        A[k, p], A[k, q] = A[p, k], A[q, k]
    A[p, p], A[q, q], A[p, q], A[q, p] = app, aqq, 0.0, 0.0
