"""Roughness E: how much of the variance of a vector, or an image, is between neighbours (THEORY.md, normalised-growth)."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled
from mcrace.tasks.corruption import Image


def roughness_of(X: np.ndarray, image: Image | None = None, eps: float = 0.0) -> np.ndarray:
    """E of each sample: the mean variance over windows, over the variance of the whole (+ eps).

    Windows are 3 by 3 pixels of one channel, or three inputs where there is no image, one round each of them; beyond the
    edges inputs are reflected, the outermost not repeated.

    Parameters
    ----------
    X : array [..., input]

    Returns
    -------
    float64 array [...]
        0 where all inputs are equal and eps is 0.

    Examples
    --------
    >>> roughness_of(np.array([[0.0, 1.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0]])).round(3).tolist()
    [0.889, 0.0]
    """
    image = image or Image(1, X.shape[-1])
    rows = np.ascontiguousarray(X, float).reshape(-1, X.shape[-1])
    out = np.empty(len(rows))
    _roughness(rows, image.height, image.width, image.channels, image.strides, eps, out)
    return out.reshape(X.shape[:-1])


@compiled
def _inside(i, size):
    """The place of a pixel just beyond the edges: c b | a b c | b a."""
    inside = 1 if i < 0 else (size - 2 if i >= size else i)
    return min(max(inside, 0), size - 1)


@compiled
def _roughness(X, height, width, channels, strides, eps, out):
    pixel, channel = strides
    window = np.empty(9)
    for n in range(len(X)):
        whole, windows = _variance(X[n]), 0.0
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    for k in range(9):
                        row, column = _inside(i + k // 3 - 1, height), _inside(j + k % 3 - 1, width)
                        window[k] = X[n, (row * width + column) * pixel + c * channel]
                    windows += _variance(window)
        out[n] = windows / (height * width * channels) / (whole + eps) if whole + eps != 0 else 0.0


@compiled
def _variance(x):
    """Of differences from the first, so that equal numbers have exactly 0."""
    total, square = 0.0, 0.0
    for k in range(len(x)):
        total += x[k] - x[0]
    mean = total / len(x)
    for k in range(len(x)):
        square += (x[k] - x[0] - mean) ** 2
    return square / len(x)
