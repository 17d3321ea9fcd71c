"""Losses of outputs that are known, for records: of each sample, or the mean of a network's; the same bits on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from mcrace.compiled import compiled, inner
from mcrace.kernels.elementary import softplus
from mcrace.kernels.lanes import aligned, lane_count
from mcrace.kernels.one_layer import LOGISTIC, LOSSES
from mcrace.kernels.tiles import load, own, store


@inner
def _fill(f, y, i, z, flat, loss):
    """The losses of row i, one after the other in the vectors of z, which is `flat` as well."""
    labels = y[i % len(y)]
    for n in range(f.shape[1]):
        off = f[i, n] - labels[n]
        flat[n] = -labels[n] * f[i, n] if loss == LOGISTIC else off * off / 2
    if loss == LOGISTIC:
        vectors = own(z, 0, 1, len(z))
        for n in range(len(z)):
            store(vectors, 0, n, softplus(load(vectors, 0, n, 1, 1)))


@compiled
def _losses(f, y, z, flat, loss, out):
    for i in range(len(f)):
        _fill(f, y, i, z, flat, loss)
        for n in range(f.shape[1]):
            out[i, n] = flat[n]


@compiled
def _means(f, y, z, flat, loss, out):
    for i in range(len(f)):
        _fill(f, y, i, z, flat, loss)
        total = 0.0
        for n in range(f.shape[1]):
            total += flat[n]
        out[i] = total / f.shape[1]


def _arguments(f: np.ndarray, y: np.ndarray, loss: str) -> tuple[Any, ...]:
    """Rows of outputs; rows of labels, of one network where all have the same; and room for the losses of a row."""
    if y.ndim == f.ndim and y.strides[0] == 0:
        y = y[0]
    f, y = (np.ascontiguousarray(a, float).reshape(-1, f.shape[-1]) for a in (f, y))
    lanes = lane_count(np.float64)
    z = aligned((-(-f.shape[1] // lanes), lanes), np.float64)
    return f, y, z, z.reshape(-1), LOSSES[loss]


def losses_of(f: np.ndarray, y: np.ndarray, loss: str) -> np.ndarray:
    """The losses, float64, of outputs f [network, sample(, output)] and labels y, of each network or shared.

    >>> losses_of(np.array([[0.5, 2.0]]), np.array([1.0, 1.0]), "mse").tolist()
    [[0.125, 0.5]]
    """
    out = np.empty(f.shape)
    _losses(*_arguments(f, y, loss), out.reshape(-1, f.shape[-1]))
    return out


def mean_losses_of(f: np.ndarray, y: np.ndarray, loss: str) -> np.ndarray:
    """L [network], the mean over samples of the sum over outputs; f and y as for `losses_of`.

    >>> mean_losses_of(np.zeros((1, 2)), np.array([1.0, 2.0]), "mse").tolist()
    [1.25]
    """
    if f.ndim == 3:
        losses = summed(losses_of(f, y, loss))
        return np.asarray(np.cumsum(losses, axis=1)[:, -1] / losses.shape[1])
    out = np.empty(len(f))
    _means(*_arguments(f, y, loss), out)
    return out


def summed(losses: np.ndarray) -> np.ndarray:
    """Losses [network, sample], summed over outputs where there are several."""
    return losses if losses.ndim == 2 else np.cumsum(losses, axis=2)[:, :, -1]
