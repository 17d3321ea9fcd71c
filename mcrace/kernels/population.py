"""The gradient of the population loss, samples x ~ N(0, σ² I) without end, for one hidden layer of ReLU neurons.

In closed form, by the arc-cosine kernel (Cho and Saul, NIPS 2009): with θ the angle of u and w,

    E[relu(u·x) relu(w·x)] = σ²/2π |u||w| (sin θ + (π - θ) cos θ),
    E[relu(u·x) x 1(w·x > 0)] = σ²/2π (|u| sin θ ŵ + (π - θ) u).
"""

from __future__ import annotations

import math

import numpy as np

from mcrace.compiled import compiled


@compiled
def _angle(u, w, u_norm, w_norm):
    """The angle and its sine, exact also for directions that are almost the same."""
    minus, plus = 0.0, 0.0
    for k in range(len(u)):
        p, q = u[k] / u_norm, w[k] / w_norm
        minus += (p - q) * (p - q)
        plus += (p + q) * (p + q)
    return 2 * np.arctan2(np.sqrt(minus), np.sqrt(plus)), np.sqrt(minus * plus) / 2


@compiled
def _norm(w):
    total = 0.0
    for k in range(len(w)):
        total += w[k] * w[k]
    return np.sqrt(total)


@compiled
def teacher_drift(W, v, teachers, heights, deviation, D):
    """Add E[t(x) x 1(w·x > 0)] to D, and return E[t(x) f(x)], for t(x) = Σ heights relu(teachers·x).

    Parameters
    ----------
    W, v : arrays [neuron, input], [neuron]
    teachers, heights : arrays [neuron of the teacher, input], [neuron of the teacher]
    deviation : float
        σ of the inputs.
    D : array [neuron, input]
        A neuron without a direction, w = 0, gets nothing.
    """
    factor, product = deviation * deviation / (2 * np.pi), 0.0
    norms = np.empty(len(teachers))
    for b in range(len(teachers)):
        norms[b] = _norm(teachers[b])
    for a in range(len(W)):
        norm = _norm(W[a])
        if norm == 0:
            continue
        for b in range(len(teachers)):
            if norms[b] == 0:
                continue
            angle, sine = _angle(teachers[b], W[a], norms[b], norm)
            along, across = factor * heights[b] * norms[b] * sine / norm, factor * heights[b] * (np.pi - angle)
            for k in range(W.shape[1]):
                step = along * W[a, k] + across * teachers[b, k]
                D[a, k] += step
                product += v[a] * W[a, k] * step
    return product


@compiled
def _label_drift(W, v, radial, linear, quadratic, deviation, D):
    """Add E[y x 1(w·x > 0)] to D, and return E[y f], for y of `Moments` with the mean of û_+ in `radial`."""
    product = 0.0
    for a in range(len(W)):
        norm = _norm(W[a])
        if norm == 0:
            continue
        x, y = W[a, 0] / norm, W[a, 1] / norm
        bent = quadratic / np.sqrt(2 * np.pi)
        for k in range(W.shape[1]):
            unit = W[a, k] / norm
            step = radial * unit - bent * (x * x - y * y) * unit
            if k == 0:
                step += linear / 2 + 2 * bent * x
            elif k == 1:
                step -= 2 * bent * y
            D[a, k] += deviation * step
            product += deviation * v[a] * W[a, k] * step
    return product


@compiled
def _drifts(W, v, radial, linear, quadratic, mean_square, deviation, D, losses):
    for i in range(len(W)):
        D[i] = 0.0
        own = teacher_drift(W[i], v[i], W[i], -v[i], deviation, D[i])
        losses[i] = (mean_square - own) / 2 - _label_drift(W[i], v[i], radial, linear, quadratic, deviation, D[i])


def population_drift(W, v, deviation, radial, linear, quadratic, mean_square):
    """The drift and the mse loss of networks on samples without end.

    Labels are y = g(|z|) + linear z_1 + quadratic (z_1² - z_2²) of x = deviation·z, z ~ N(0, I).

    Parameters
    ----------
    W : float64 array [network, neuron, input]
    v : float64 array [network, neuron]
    deviation, radial, linear, quadratic, mean_square : float
        See `mcrace.tasks.rotation.Moments`; radial is E[g(|z|)|z|], mean_square E[y²].

    Returns
    -------
    D : array [network, neuron, input]
        E[(y - f) x 1(w·x > 0)] (THEORY.md, Notation, with the mean over all x instead of samples).
    loss : array [network]
        E[(y - f)²]/2.
    """
    D, losses = np.empty(W.shape), np.empty(len(W))
    W, v = np.ascontiguousarray(W, np.float64), np.ascontiguousarray(v, np.float64)
    _drifts(W, v, radial * mean_share(W.shape[2]), linear, quadratic, mean_square, deviation, D, losses)
    return D, losses


def mean_share(inputs: int) -> float:
    """E[(u·e)_+] of a direction u that is uniform on the sphere, e of length 1.

    >>> round(mean_share(2) * math.pi, 12)
    1.0
    """
    return math.exp(math.lgamma(inputs / 2) - math.lgamma((inputs + 1) / 2)) / (2 * math.sqrt(math.pi))
