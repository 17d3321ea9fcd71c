"""Directions of neurons, and how concentrated they are (THEORY.md, winner-concentration)."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled
from mcrace.observe.base import observable
from mcrace.observe.snapshot import Snapshot


@compiled
def _directions(W, v):
    out = np.empty(W.shape)
    for i in range(W.shape[0]):
        for a in range(W.shape[1]):
            square = 0.0
            for k in range(W.shape[2]):
                square += W[i, a, k] * W[i, a, k]
            for k in range(W.shape[2]):
                out[i, a, k] = np.sign(v[i, a]) * W[i, a, k] / np.sqrt(square)
    return out


@compiled
def _mean_directions(vectors, used):
    """Means over the vectors that are used of their directions, which for vectors of length 0 are none [network, input]."""
    out = np.zeros((vectors.shape[0], vectors.shape[2]))
    for i in range(vectors.shape[0]):
        count = 0
        for a in range(vectors.shape[1]):
            square = 0.0
            for k in range(vectors.shape[2]):
                square += vectors[i, a, k] * vectors[i, a, k]
            if used[i, a] and square > 0:
                count += 1
                for k in range(vectors.shape[2]):
                    out[i, k] += vectors[i, a, k] / np.sqrt(square)
        out[i] /= count
    return out


@compiled
def _along(directions, axes):
    out = np.empty(directions.shape[:2])
    for i in range(directions.shape[0]):
        square = 0.0
        for k in range(directions.shape[2]):
            square += axes[i, k] * axes[i, k]
        for a in range(directions.shape[1]):
            total = 0.0
            for k in range(directions.shape[2]):
                total += directions[i, a, k] * axes[i, k]
            out[i, a] = total / np.sqrt(square)
    return out


def _resultant(state: Snapshot, side: np.ndarray) -> np.ndarray:
    mean = _mean_directions(state.W, side)
    return np.sqrt(np.cumsum(mean * mean, axis=1)[:, -1])


@observable("direction", ("neuron", "input"))
def _direction(state: Snapshot) -> np.ndarray:
    """sign(v) w/|w|, which turns towards the drift."""
    return _directions(state.W, state.v)


@observable("axis_cosine", ("neuron",))
def _axis_cosine(state: Snapshot) -> np.ndarray:
    """Cosine of sign(v) w to the mean direction of all drifts at the start."""
    start = state.start
    return _along(_directions(state.W, state.v), _mean_directions(start.drift, start.active))


@observable("resultant_positive")
def _resultant_positive(state: Snapshot) -> np.ndarray:
    """Length of the mean of w/|w| over neurons with v > 0: 1 where all are parallel."""
    return _resultant(state, state.v > 0)


@observable("resultant_negative")
def _resultant_negative(state: Snapshot) -> np.ndarray:
    """Length of the mean of w/|w| over neurons with v < 0: 1 where all are parallel."""
    return _resultant(state, state.v < 0)
