"""Where weights lie to the span of the samples (THEORY.md, span-freezing)."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled
from mcrace.observe.base import observable
from mcrace.observe.snapshot import Snapshot

PART = 0.25  # of the samples, for controls: of samples in pairs x, -x half would span all
LEAST = 1e-9  # of a sample, what is left of it beside those before, to count as a new direction


@compiled
def _take_out(basis, rank, x):
    """Subtract from x what lies along the first rows of the basis; twice, since once leaves rounding behind."""
    for _ in range(2):
        for b in range(rank):
            along = 0.0
            for k in range(len(x)):
                along += basis[b, k] * x[k]
            for k in range(len(x)):
                x[k] -= along * basis[b, k]


@compiled
def _length(x):
    total = 0.0
    for k in range(len(x)):
        total += x[k] * x[k]
    return np.sqrt(total)


@compiled
def _basis_of(X, basis, x):
    """Gram and Schmidt: an orthonormal basis of the samples; returns how many directions there are."""
    rank = 0
    for n in range(X.shape[0]):
        if rank == X.shape[1]:
            break
        x[:] = X[n]
        _take_out(basis, rank, x)
        left = _length(x)
        if left > LEAST * _length(X[n]):
            for k in range(len(x)):
                basis[rank, k] = x[k] / left
            rank += 1
    return rank


@compiled
def _off_span(W, X, samples, out):
    """Length of the part of each w that is orthogonal to the first samples; NaN where they leave no direction."""
    inputs = W.shape[2]
    basis, x = np.empty((min(samples, inputs), inputs)), np.empty(inputs)
    rank = 0
    for i in range(W.shape[0]):
        if i == 0 or len(X) > 1:
            rank = _basis_of(X[i % len(X), :samples], basis, x)
        out[i] = np.nan
        for a in range(W.shape[1] if rank < inputs else 0):
            x[:] = W[i, a]
            _take_out(basis, rank, x)
            out[i, a] = _length(x)


def _off(state: Snapshot, W: np.ndarray, share: float = 1.0) -> np.ndarray:
    """The lengths of what lies off the span of a share of the samples [network, neuron]."""
    X = np.ascontiguousarray(state.X if state.X.ndim == 3 else state.X[None])
    out = np.empty(W.shape[:2])
    _off_span(W, X, max(1, int(share * X.shape[1])), out)
    return out


@observable("span_sine", ("neuron",), samples=True)
def _span_sine(state: Snapshot) -> np.ndarray:
    """sin θ, θ the angle of w to the span of the samples; NaN where that is the whole space."""
    return _off(state, state.W) / state.norms


@observable("span_shift", ("neuron",), samples=True)
def _span_shift(state: Snapshot) -> np.ndarray:
    """How far the part of w orthogonal to the span of the samples has moved, as a share of it at the start."""
    return _off(state, state.W - state.start.W) / _off(state, state.start.W)


@observable("part_span_sine", ("neuron",), samples=True)
def _part_span_sine(state: Snapshot) -> np.ndarray:
    """As `span_sine`, for the span of the first quarter of the samples: a control."""
    return _off(state, state.W, PART) / state.norms


@observable("part_span_shift", ("neuron",), samples=True)
def _part_span_shift(state: Snapshot) -> np.ndarray:
    """As `span_shift`, for the span of the first quarter of the samples: a control."""
    return _off(state, state.W - state.start.W, PART) / _off(state, state.start.W, PART)
