"""Likeness of the neurons of a network: the mean cosine of pairs, distances, and clusters of directions."""

from __future__ import annotations

import numpy as np
import scipy

from mcrace.compiled import compiled
from mcrace.observe.products import products_of

CUT = 0.01  # of the dendrogram (THEORY.md, mutual-alignment)


@compiled
def alignment_of(W, v, product):
    """Every neuron with the sum of those before it: pairs only, so that one that holds nearly all cancels nothing."""
    out = np.empty(len(W))
    inputs = W.shape[2]
    for i in range(len(W)):
        top, bottom = np.zeros(inputs), 0.0
        for sign in (-1.0, 1.0):
            mean, total = np.zeros(inputs), 0.0
            for a in range(W.shape[1]):
                p = product[i, a]
                if v[i, a] * sign < 0:
                    continue
                bottom += p * total
                total += p
                for k in range(inputs):
                    part = abs(v[i, a]) * W[i, a, k]
                    top[k] += part * mean[k]
                    mean[k] += part
        out[i] = top.sum() / bottom
    return out


@compiled
def alignment_between(w_in, w_out, product):
    """The same where the output weights of a neuron are a vector [network, neuron, output]: over pairs with v̂_a·v̂_b > 0."""
    out = np.empty(len(w_in))
    for i in range(len(w_in)):
        top, bottom = 0.0, 0.0
        for a in range(w_in.shape[1]):
            for b in range(a):
                beside = 0.0
                for k in range(w_out.shape[2]):
                    beside += w_out[i, a, k] * w_out[i, b, k]
                if not beside > 0 or not product[i, a] * product[i, b] > 0:
                    continue
                along, one, two = 0.0, 0.0, 0.0
                for k in range(w_in.shape[2]):
                    along += w_in[i, a, k] * w_in[i, b, k]
                    one += w_in[i, a, k] ** 2
                    two += w_in[i, b, k] ** 2
                weight = product[i, a] * product[i, b]
                top += weight * along / np.sqrt(one * two)
                bottom += weight
        out[i] = top / bottom
    return out


def cosines_between(W: np.ndarray) -> np.ndarray:
    """Cosines of the neurons of W [network, neuron, input] with each other [network, neuron, neuron]."""
    unit = W / np.sqrt(np.cumsum(W * W, axis=2)[:, :, -1:])
    return products_of(unit, unit)


def distances(W: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Condensed distances 1 - min(ŵ_a·ŵ_b, v̂_a·v̂_b) of neurons with W [neuron, input] and v [neuron(, output)]."""
    directions = np.sign(v)[:, None] if v.ndim == 1 else v / np.abs(v).max(axis=1, keepdims=True)
    cosines = [cosines_between(rows[None])[0] for rows in (W, directions)]
    return np.maximum(0.0, 1.0 - np.minimum(*cosines)[np.triu_indices(len(W), 1)])


def tree_of(W: np.ndarray, v: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Average linkage of the usable neurons of one network, in their order, as SciPy writes it (THEORY.md, merging).

    Parameters
    ----------
    W : array [neuron, input]
    v : array [neuron] or [neuron, output]
    usable : bool array [neuron]
        Neurons with a norm; no others have a distance.
    """
    if usable.sum() < 2:
        return np.empty((0, 4))
    return scipy.cluster.hierarchy.linkage(distances(W[usable], v[usable]), "average")


def clusters_of(tree: np.ndarray, product: np.ndarray, usable: np.ndarray, cut: float = CUT) -> np.ndarray:
    """The tree of one network cut at a distance (THEORY.md, mutual-alignment)."""
    if not np.isfinite(product).all():
        return np.full(len(product), -1, np.int32)
    labels = np.zeros(len(product), np.int32)
    if usable.sum() < 2:
        labels[usable] = 1
        return labels
    found = scipy.cluster.hierarchy.fcluster(tree, cut, "distance")
    held = np.bincount(found, product[usable])
    rank = np.empty(len(held), np.int32)
    rank[np.argsort(-held, kind="stable")] = np.arange(1, len(held) + 1)
    labels[usable] = rank[found]
    return labels
