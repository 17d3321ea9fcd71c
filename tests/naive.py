"""What the kernels compute, in plain NumPy, one network at a time: the oracle of the tests."""

from __future__ import annotations

import numpy as np


def outputs(W, v, X):
    """f(x_n) for W [neuron, input], v [neuron], X [sample, input]."""
    return np.maximum(X @ W.T, 0) @ v


def loss(f, y, kind):
    """Mean loss."""
    return ((f - y) ** 2 / 2).mean() if kind == "mse" else np.logaddexp(0, -y * f).mean()


def residual(f, y, kind):
    """-dl/df of each sample."""
    return y - f if kind == "mse" else y / (1 + np.exp(y * f))


def drift(W, v, X, y, kind):
    """D_a = (1/N) sum_n g_an r_n x_n [neuron, input]."""
    gates = X @ W.T > 0
    return (gates * residual(outputs(W, v, X), y, kind)[:, None]).T @ X / len(X)


def train(W, v, X, y, kind, etas, decay=0.0, momentum=0.0):
    """Full-batch descent with weight decay and momentum."""
    U, u = np.zeros_like(W), np.zeros_like(v)
    for eta in etas:
        D = drift(W, v, X, y, kind)
        U = momentum * U + eta * (v[:, None] * D - decay * W)
        u = momentum * u + eta * ((W * D).sum(1) - decay * v)
        W, v = W + U, v + u
    return W, v
