"""Lazy or rich: how far the tangent kernel, the gates and the parameters have gone from their start, and test loss."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled
from mcrace.observe.base import observable
from mcrace.observe.outputs import accuracy_of, loss_of
from mcrace.observe.snapshot import Moment, Snapshot


@compiled
def _activations(W, X, h, on):
    """relu(w·x) and 0 or 1 for the gates of one network [neuron, sample], of X [input, sample], which goes by vectors."""
    for a in range(W.shape[0]):
        h[a, :] = 0.0
        for k in range(W.shape[1]):
            for n in range(X.shape[1]):
                h[a, n] += W[a, k] * X[k, n]
        for n in range(X.shape[1]):
            on[a, n] = 1.0 if h[a, n] > 0 else 0.0
            h[a, n] = h[a, n] if not h[a, n] <= 0 else 0.0


@compiled
def _kernel(W, v, X, gram, h, on, K):
    """K(x, x') = Σ_a relu(w·x) relu(w·x') + x·x' Σ_a v² g g' of one network [sample, sample], the lower half."""
    _activations(W, X, h, on)
    samples = X.shape[1]
    shared = np.zeros(samples)
    for n in range(samples):
        K[n, : n + 1] = 0.0
        shared[: n + 1] = 0.0
        for a in range(W.shape[0]):
            if on[a, n] == 0.0 and not np.isnan(h[a, n]):
                continue
            for j in range(n + 1):
                K[n, j] += h[a, n] * h[a, j]
                shared[j] += v[a] * v[a] * on[a, j]
        for j in range(n + 1):
            K[n, j] += gram[n, j] * shared[j]


@compiled
def _gram(X, out):
    """x·x' of X [input, sample], the lower half."""
    for n in range(X.shape[1]):
        out[n, : n + 1] = 0.0
        for k in range(X.shape[0]):
            for j in range(n + 1):
                out[n, j] += X[k, n] * X[k, j]


@compiled
def _product(K, L):
    """<K, L> of symmetric matrices, from their lower halves."""
    total = 0.0
    for n in range(K.shape[0]):
        for j in range(n):
            total += 2 * K[n, j] * L[n, j]
        total += K[n, n] * L[n, n]
    return total


@compiled
def _compared(W, v, W0, v0, X, out):
    """<K, K>, <K, K0>, <K0, K0> and |K - K0|² of tangent kernels, in each network."""
    samples, neurons = X.shape[2], W.shape[1]
    gram, K, K0 = np.zeros((samples, samples)), np.zeros((samples, samples)), np.zeros((samples, samples))
    h, on = np.empty((neurons, samples)), np.empty((neurons, samples))
    for i in range(len(W)):
        if i == 0 or len(X) > 1:
            _gram(X[i % len(X)], gram)
        _kernel(W[i], v[i], X[i % len(X)], gram, h, on, K)
        _kernel(W0[i], v0[i], X[i % len(X)], gram, h, on, K0)
        out[i, 0], out[i, 1], out[i, 2] = _product(K, K), _product(K, K0), _product(K0, K0)
        K -= K0
        out[i, 3] = _product(K, K)


@compiled
def _aligned(W, v, X, y, out):
    """yᵀKy/(|K||y|²) in each network."""
    samples, neurons = X.shape[2], W.shape[1]
    gram, K, labels = np.zeros((samples, samples)), np.zeros((samples, samples)), np.zeros((samples, samples))
    h, on = np.empty((neurons, samples)), np.empty((neurons, samples))
    for i in range(len(W)):
        if i == 0 or len(X) > 1:
            _gram(X[i % len(X)], gram)
        _kernel(W[i], v[i], X[i % len(X)], gram, h, on, K)
        square = 0.0
        for n in range(samples):
            square += y[i, n] * y[i, n]
            for j in range(n + 1):
                labels[n, j] = y[i, n] * y[i, j]
        out[i] = _product(K, labels) / (np.sqrt(_product(K, K)) * square)


@compiled
def _differing(W, W0, X, out):
    """Share of (neuron, sample) whose gates differ, in each network."""
    samples, neurons = X.shape[2], W.shape[1]
    h, on, on0 = np.empty((neurons, samples)), np.empty((neurons, samples)), np.empty((neurons, samples))
    for i in range(len(W)):
        _activations(W0[i], X[i % len(X)], h, on0)
        _activations(W[i], X[i % len(X)], h, on)
        total = 0.0
        for a in range(neurons):
            for n in range(samples):
                total += abs(on[a, n] - on0[a, n]) if not np.isnan(h[a, n]) else np.nan
        out[i] = total / (neurons * samples)


@compiled
def _distances(W, v, W0, v0, out):
    """|θ - θ0|/|θ0| of the parameters of each network."""
    for i in range(len(W)):
        moved, square = 0.0, 0.0
        for a in range(W.shape[1]):
            for k in range(W.shape[2]):
                moved += (W[i, a, k] - W0[i, a, k]) ** 2
                square += W0[i, a, k] ** 2
            moved += (v[i, a] - v0[i, a]) ** 2
            square += v0[i, a] ** 2
        out[i] = np.sqrt(moved / square)


def _samples(state: Snapshot) -> np.ndarray:
    """X [network, input, sample], with a first dimension of length 1 where samples are shared."""
    return np.ascontiguousarray(np.swapaxes(state.X if state.X.ndim == 3 else state.X[None], 1, 2))


def _kernel_products(state: Snapshot) -> np.ndarray:
    out = np.empty((len(state.W), 4))
    _compared(state.W, state.v, state.start.W, state.start.v, _samples(state), out)
    return out


@observable("kernel_distance", relu=True)
def _kernel_distance(state: Snapshot) -> np.ndarray:
    """1 - cosine of the tangent kernel on the samples to that at the start."""
    square, product, start, _ = _kernel_products(state).T
    return np.maximum(1 - product / np.sqrt(square * start), 0)


@observable("kernel_change", relu=True)
def _kernel_change(state: Snapshot) -> np.ndarray:
    """|K - K_0|/|K_0|, relative change of the tangent kernel on the samples since the start (Frobenius norms)."""
    _, _, start, difference = _kernel_products(state).T
    return np.sqrt(difference / start)


@observable("kernel_alignment", relu=True)
def _kernel_alignment(state: Snapshot) -> np.ndarray:
    """yᵀKy/(|K||y|²), alignment of the tangent kernel with the labels (THEORY.md, early-phase)."""
    out = np.empty(len(state.W))
    _aligned(state.W, state.v, _samples(state), np.ascontiguousarray(state.y), out)
    return out


@observable("gate_distance", relu=True)
def _gate_distance(state: Snapshot) -> np.ndarray:
    """Share of gates, over neurons and samples, that differ from the start (Hamming distance)."""
    out = np.empty(len(state.W))
    _differing(state.W, state.start.W, _samples(state), out)
    return out


@observable("parameter_distance")
def _parameter_distance(state: Snapshot) -> np.ndarray:
    """|θ - θ_0|/|θ_0|, relative distance of all weights from their start."""
    out = np.empty(len(state.W))
    _distances(state.W, state.v, state.start.W, state.start.v, out)
    return out


@observable("test_loss", tests=True, networks="any")
def _test_loss(state: Moment) -> np.ndarray:
    """Mean loss over the test samples."""
    return loss_of(state.test)


@observable("test_accuracy", tests=True, networks="any")
def _test_accuracy(state: Moment) -> np.ndarray:
    """Share of test samples whose output has the sign of the label."""
    return accuracy_of(state.test)
