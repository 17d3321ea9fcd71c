"""What the kernels and observables compute, in plain NumPy, one network at a time: the oracle of the tests."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform


def outputs(W, v, X):
    """f(x_n) for W [neuron, input], v [neuron], X [sample, input]."""
    return np.maximum(X @ W.T, 0) @ v


def loss(f, y, kind):
    """Mean loss."""
    return ((f - y) ** 2 / 2).mean() if kind == "mse" else np.logaddexp(0, -y * f).mean()


def residual(f, y, kind):
    """-dl/df of each sample."""
    with np.errstate(over="ignore"):
        return y - f if kind == "mse" else y / (1 + np.exp(y * f))


def drift(W, v, X, y, kind):
    """D_a = (1/N) sum_n g_an r_n x_n [neuron, input]."""
    gates = X @ W.T > 0
    return (gates * residual(outputs(W, v, X), y, kind)[:, None]).T @ X / len(X)


def path(W, v, X, y, kind, etas, decay=0.0, momentum=0.0, velocity=None, orders=None):
    """Weights (W, v) before each step of descent with weight decay and momentum, and after the last one.

    `velocity` is (U, u) at the start, in units of a step; `orders` [step, sample] are minibatches, filled up with -1.
    """
    U, u = velocity or (np.zeros_like(W), np.zeros_like(v))
    found = [(W, v)]
    for k, eta in enumerate(etas):
        few = slice(None) if orders is None else orders[k][orders[k] >= 0]
        D = drift(W, v, X[few], y[few], kind)
        U = momentum * U + eta * (v[:, None] * D - decay * W)
        u = momentum * u + eta * ((W * D).sum(1) - decay * v)
        W, v = W + U, v + u
        found.append((W, v))
    return found


def train(*args, **options):
    """The weights at the end of the path."""
    return path(*args, **options)[-1]


def met(losses, level, at):
    """The first step at which the loss is at most a level, or whose number is at least `at`; -1: never."""
    return next((k for k, value in enumerate(losses) if value <= level or k >= at), -1)


# ------------------------------------------------------------------------------------------------- depth


def deep_outputs(weights, X):
    """Outputs [sample, output] of ReLU layers, weights [unit, input] each."""
    for W in weights[:-1]:
        X = np.maximum(X @ W.T, 0)
    return X @ weights[-1].T


def deep_train(weights, X, y, kind, etas, decay=0.0, momentum=0.0):
    """Full-batch descent on the loss summed over outputs, y [sample, output]."""
    speeds = [np.zeros_like(W) for W in weights]
    for eta in etas:
        layers = [X]
        for W in weights[:-1]:
            layers.append(np.maximum(layers[-1] @ W.T, 0))
        slope = residual(layers[-1] @ weights[-1].T, y, kind) / len(X)
        slopes = []
        for W, below in zip(weights[::-1], layers[::-1]):
            slopes.append(slope.T @ below)
            slope = (slope @ W) * (below > 0)
        speeds = [momentum * U + eta * (g - decay * W) for U, g, W in zip(speeds, slopes[::-1], weights)]
        weights = [W + U for W, U in zip(weights, speeds)]
    return weights


def mirrored_windows(size):
    """The neighbours of each of `size` places, itself among them, reflected at the ends [place, 3]."""
    edge = np.pad(np.arange(size), 1, "reflect" if size > 1 else "edge")
    return np.stack([edge[:-2], edge[1:-1], edge[2:]], axis=1)


def roughness(x, eps, shape=None):
    """E: the mean variance of windows of 3, or of 3x3 where x is an image of a shape, over the variance of the whole."""
    if shape is None:
        windows = x[mirrored_windows(len(x))]
    else:
        rows, cols = (mirrored_windows(size) for size in shape)
        windows = x.reshape(shape)[rows[:, None, :, None], cols[None, :, None, :]].reshape(x.size, 9)
    whole = variance(x) + eps
    return sum(variance(window) for window in windows) / len(windows) / whole if whole else 0.0


def variance(x):
    """Population variance; of complex numbers without conjugates, so that it stays a polynomial."""
    return ((x - x.mean()) ** 2).mean()


def normalised(h, gain, shift, rate, norm, given):
    """z of one layer at one sample, and σ_eff; `given` is E of the input."""
    centred, square = h - h.mean(), variance(h) + norm.eps
    if square == 0:
        return shift + 0 * h, 0.0
    t = rate * (given if norm.of == "input" else roughness(h, norm.eps))
    if norm.kind == "layernorm":
        scale = np.sqrt(square)
    elif norm.kind == "r_layernorm":
        scale = np.sqrt(square) * (1 + t)
    else:
        scale = np.sqrt(square) * np.exp(norm.alpha * (np.log(1 + t) - t / (1 + t)))
    return gain * centred / scale + shift, scale


def layered(layers, weights, X, given=None):
    """Outputs [sample, output], activations, gates [layer][sample, neuron] and σ_eff [layer][sample]."""
    parts, outs, seen, on, scales = layers.parts(weights), [], [], [], []
    for n, x in enumerate(X):
        seen.append([]), on.append([]), scales.append([])
        for l, (W, skips) in enumerate(zip(parts.matrices, layers.skips)):
            h = W @ x + (parts.biases[l] if layers.bias else 0)
            if layers.norm:
                of_layer = parts.gains[l], parts.shifts[l], parts.rates[l]
                h, scale = normalised(h, *of_layer, layers.norm, None if given is None else given[n])
                scales[-1].append(scale)
            gate = h.real > 0
            x = gate * h + (x if skips else 0)
            seen[-1].append(x), on[-1].append(gate)
        outs.append(parts.matrices[-1] @ x + (parts.biases[-1] if layers.bias else 0))
    return np.array(outs), [list(a) for a in zip(*seen)], [list(a) for a in zip(*on)], [list(a) for a in zip(*scales)]


def layered_slopes(layers, weights, X, y, kind, given=None):
    """-∂L/∂weights by complex steps, exact to rounding: no derivative is written down but that of the loss."""
    slope, found = residual(layered(layers, weights, X, given)[0], y, kind) / len(X), []
    for k, w in enumerate(weights):
        out = np.zeros(np.shape(w))
        for index in np.ndindex(out.shape):
            moved = [np.asarray(a).astype(complex) for a in weights]
            moved[k][index] += 1e-30j
            out[index] = (slope * layered(layers, moved, X, given)[0].imag).sum() / 1e-30
        found.append(out)
    return found


def layered_train(layers, weights, X, y, kind, etas, given=None, decay=0.0, momentum=0.0, orders=None):
    """Descent of the weights that are trained; W_1, ..., V alone decay, and λ is cut to [0.001, 1] after each step."""
    kinds = layers.parts([name.rstrip("0123456789") for name in layers.names])
    speeds = [np.zeros(np.shape(w)) for w in weights]
    for step, eta in enumerate(etas):
        few = slice(None) if orders is None else orders[step][orders[step] >= 0]
        slopes = layered_slopes(layers, weights, X[few], y[few], kind, None if given is None else given[few])
        for k, name in enumerate(name.rstrip("0123456789") for name in layers.names):
            if name in ("gain", "shift", "strength") and name not in layers.norm.trained:
                continue
            drag = decay * weights[k] if k < len(kinds.matrices) else 0
            speeds[k] = momentum * speeds[k] + eta * (slopes[k] - drag)
            moved = weights[k] + speeds[k]
            weights = [*weights[:k], np.clip(moved, 1e-3, 1) if name == "strength" else moved, *weights[k + 1 :]]
    return weights


# ------------------------------------------------------------------------------------------------- observables


def cosine(W, v, D):
    """cos δ = sign(v) w.D/(|w||D|) [neuron]; NaN for a dead neuron."""
    with np.errstate(invalid="ignore"):
        return np.sign(v) * (W * D).sum(1) / (np.linalg.norm(W, axis=1) * np.linalg.norm(D, axis=1))


def alignment(W, v):
    """A = Σ p_a p_b ŵ_a·ŵ_b/Σ p_a p_b over pairs a ≠ b of one sign, p = a/Σa, as a double sum."""
    p = np.abs(v) * np.linalg.norm(W, axis=1)
    p = p / p.sum()
    top = bottom = 0.0
    for a in range(len(v)):
        for b in range(len(v)):
            if a != b and v[a] * v[b] > 0:
                top += p[a] * p[b] * (W[a] @ W[b]) / (np.linalg.norm(W[a]) * np.linalg.norm(W[b]))
                bottom += p[a] * p[b]
    return top / bottom if bottom else np.nan


def clusters(W, v, X):
    """Cluster of each neuron, by average linkage cut at 0.01, from 1 on in order of falling Σa; 0 for a dead one."""
    active = (X @ W.T > 0).any(axis=0)
    labels = np.zeros(len(v), int)
    living = np.flatnonzero(active)
    if len(living) < 2:
        labels[living] = 1
        return labels
    unit = W[living] / np.linalg.norm(W[living], axis=1)[:, None]
    signs = np.sign(v[living])
    distance = 1 - np.minimum(unit @ unit.T, signs[:, None] * signs[None, :])
    np.fill_diagonal(distance, 0)
    found = fcluster(linkage(squareform(np.maximum(distance, 0), checks=False), "average"), 0.01, "distance")
    product = np.abs(v) * np.linalg.norm(W, axis=1)
    held = {c: product[living[found == c]].sum() for c in set(found)}
    for rank, c in enumerate(sorted(held, key=lambda c: -held[c]), 1):
        labels[living[found == c]] = rank
    return labels


def clusters_95(W, v, X):
    """N95: the fewest clusters that hold 95 % of Σa of the living neurons."""
    labels = clusters(W, v, X)
    product = np.abs(v) * np.linalg.norm(W, axis=1)
    held = np.array([product[labels == c].sum() for c in range(1, labels.max() + 1)])
    for count in range(1, len(held) + 1):
        if held[:count].sum() >= 0.95 * held.sum():
            return float(count)
    return np.nan


# ------------------------------------------------------------------------------------------------- fewer neurons


def merge_curve(W, v, X, y, kind, leaves=None):
    """Loss of the living neurons merged to K = 1, 2, ... clusters, each network built anew from its members.

    `leaves` are the neurons at the leaves of the tree, where they are not those that it was made from.
    """
    living = np.flatnonzero((X @ W.T > 0).any(axis=0))
    unit, signs = W[living] / np.linalg.norm(W[living], axis=1)[:, None], np.sign(v[living])
    distance = 1 - np.minimum(unit @ unit.T, signs[:, None] * signs[None, :])
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(np.maximum(distance, 0), checks=False), "average")
    groups = {n: [a] for n, a in enumerate(living if leaves is None else leaves)}
    losses = [loss(outputs(W, v, X), y, kind)]
    for step, (one, two, *_) in enumerate(tree):
        groups[len(living) + step] = groups.pop(int(one)) + groups.pop(int(two))
        w = np.array([sum(abs(v[a]) * W[a] for a in group) for group in groups.values()])
        u = np.sign([sum(np.linalg.norm(W[a]) * v[a] for a in group) for group in groups.values()])
        losses.append(loss(outputs(w, u, X), y, kind))
    return np.array(losses[::-1] + [losses[0]] * (len(v) - len(living)))


def prune_curve(W, v, X, y, kind, rescaled=False):
    """Loss with the K living neurons of highest a, for K = 1, 2, ...; rescaled: their v times Σa/Σ_kept a of their sign."""
    living = np.flatnonzero((X @ W.T > 0).any(axis=0))
    product = np.abs(v) * np.linalg.norm(W, axis=1)
    order, losses = sorted(living, key=lambda a: -product[a]), []
    for count in range(1, len(living) + 1):
        kept = np.array(order[:count])
        u = v[kept].copy()
        for sign in (-1, 1):
            same = kept[np.sign(v[kept]) == sign]
            if rescaled and len(same):
                u[np.sign(u) == sign] *= product[living[np.sign(v[living]) == sign]].sum() / product[same].sum()
        losses.append(loss(outputs(W[kept], u, X), y, kind))
    return np.array(losses + losses[-1:] * (len(v) - len(living)))


# ------------------------------------------------------------------------------------------------- other activations


def activated(h, kind, parameter):
    """σ(h) and σ'(h)."""
    if kind == "tanh":
        return np.tanh(h), 1 / np.cosh(h) ** 2
    if kind == "softplus":
        return np.logaddexp(0, parameter * h) / parameter, 1 / (1 + np.exp(-parameter * h))
    return np.where(h > 0, h, parameter * h), np.where(h > 0, 1.0, parameter)


def slopes(W, v, X, y, kind, activation, parameter):
    """Drifts D_a = (1/N) Σ σ' r x [neuron, input], slopes (1/N) Σ σ r of v [neuron], and the loss."""
    values, rises = activated(X @ W.T, activation, parameter)
    f = values @ v
    r = residual(f, y, kind) / len(y)
    return (rises * r[:, None]).T @ X, values.T @ r, loss(f, y, kind)


def half_plane_mean(w, function):
    """E[1[w·x > 0] function(e) |x|² e] over x = |x| e ~ N(0, I) in the plane, by 200,000 directions e."""
    angle = np.arctan2(w[1], w[0]) + np.pi * ((np.arange(200_000) + 0.5) / 200_000 - 0.5)
    e = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    length = np.sqrt(np.pi / 2) * 3  # E|x|³
    return length * function(e) @ e / (2 * len(e))
