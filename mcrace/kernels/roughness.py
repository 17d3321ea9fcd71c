"""E of samples: how much of a sample's variance lies between neighbours (THEORY.md, normalised-growth)."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled


@compiled
def _mirrored(i, size):
    """An index next to 0..size-1, reflected at the ends; a single place is its own neighbour."""
    inside = -i if i < 0 else (2 * size - 2 - i if i >= size else i)
    return min(max(inside, 0), size - 1)


@compiled
def _variance(values, count):
    """Population variance of the first numbers."""
    mean = 0.0
    for k in range(count):
        mean += values[k]
    mean /= count
    total = 0.0
    for k in range(count):
        total += (values[k] - mean) ** 2
    return total / count


@compiled
def _roughness(X, rows, cols, eps, out):
    """For samples X [sample, place] on a grid of rows x cols; a single row has windows of 3 and not of 3x3."""
    shifted, window = np.empty(rows * cols), np.empty(9)
    high = 1 if rows > 1 else 0
    for n in range(len(X)):
        for p in range(rows * cols):
            shifted[p] = X[n, p] - X[n, 0]  # exactly 0 for a constant sample
        total = 0.0
        for r in range(rows):
            for c in range(cols):
                count = 0
                for down in range(-high, high + 1):
                    for across in range(-1, 2):
                        window[count] = shifted[_mirrored(r + down, rows) * cols + _mirrored(c + across, cols)]
                        count += 1
                total += _variance(window, count)
        whole = _variance(shifted, rows * cols) + eps
        out[n] = total / (rows * cols) / whole if whole != 0 else 0.0


def roughness(X: np.ndarray, shape: tuple[int, int] | None = None, eps: float = 0.0) -> np.ndarray:
    """E: the mean variance of windows of neighbours, reflected at the ends, over the variance of the whole plus eps.

    Parameters
    ----------
    X : array [..., input]
    shape : (height, width), optional
        Of images, whose windows are 3x3; else windows are of 3 inputs in a row.
    eps : float

    Returns
    -------
    float64 array [...]
        0 for a constant sample where eps = 0, and for a single input.  A window that is wider than the sample takes the
        same inputs more than once.
    """
    height, width = shape or (1, X.shape[-1])
    if height * width != X.shape[-1]:
        raise ValueError(f"{X.shape[-1]} inputs are no image of {height}x{width}")
    flat = np.ascontiguousarray(X, float).reshape(-1, X.shape[-1])
    out = np.empty(len(flat))
    _roughness(flat, height, width, eps, out)
    return out.reshape(X.shape[:-1])
