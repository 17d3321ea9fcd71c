"""Likeness of the neurons of a network: the mean cosine of pairs, distances, and clusters of directions."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from mcrace.compiled import compiled

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
def distances(W, sign):
    """Condensed distances 1 - min(cos(w_a, w_b), sign_a sign_b) of the rows of W."""
    m = len(W)
    out = np.empty(m * (m - 1) // 2)
    unit = np.empty_like(W)
    for a in range(m):
        length = 0.0
        for k in range(W.shape[1]):
            length += W[a, k] * W[a, k]
        for k in range(W.shape[1]):
            unit[a, k] = W[a, k] / np.sqrt(length)
    n = 0
    for a in range(m):
        for b in range(a + 1, m):
            total = 0.0
            for k in range(W.shape[1]):
                total += unit[a, k] * unit[b, k]
            out[n] = max(0.0, 1.0 - min(total, sign[a] * sign[b]))
            n += 1
    return out


def clusters_of(W: np.ndarray, v: np.ndarray, product: np.ndarray, active: np.ndarray, cut: float = CUT) -> np.ndarray:
    """Average linkage of the active neurons of one network, cut at a distance (THEORY.md, mutual-alignment)."""
    if not np.isfinite(product).all():
        return np.full(len(v), -1, np.int32)
    labels = np.zeros(len(v), np.int32)
    usable = active & (product > 0)
    if usable.sum() < 2:
        labels[usable] = 1
        return labels
    found = fcluster(linkage(distances(W[usable], np.sign(v[usable])), "average"), cut, "distance")
    held = np.bincount(found, product[usable])
    rank = np.empty(len(held), np.int32)
    rank[np.argsort(-held, kind="stable")] = np.arange(1, len(held) + 1)
    labels[usable] = rank[found]
    return labels
