"""Likeness of the neurons of a network: the mean cosine of pairs, distances, and clusters of directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from mcrace.compiled import compiled
from mcrace.observe.products import products_of

CUT = 0.01  # of the dendrogram (THEORY.md, mutual-alignment)
DISTANCES = 1 << 20  # that are held at once


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


@compiled
def _pair_cosines(rows):
    """Cosines of all pairs of rows, in the order of SciPy's condensed distances; each sum keeps its order."""
    count, inputs = rows.shape
    columns, sums, out = np.empty((inputs, count)), np.empty(count), np.empty(count * (count - 1) // 2)
    for a in range(count):
        total = 0.0
        for k in range(inputs):
            total += rows[a, k] * rows[a, k]
        for k in range(inputs):
            columns[k, a] = rows[a, k] / np.sqrt(total)
    first = 0
    for a in range(count - 1):
        after = count - a - 1
        sums[:after] = 0.0
        for k in range(inputs):
            for b in range(after):
                sums[b] += columns[k, a] * columns[k, a + 1 + b]
        out[first : first + after] = sums[:after]
        first += after
    return out


@compiled
def _distances(W, directions, usable, out):
    for i in range(len(W)):
        named = np.flatnonzero(usable[i])
        if len(named) > 1:
            along, beside = _pair_cosines(W[i][named]), _pair_cosines(directions[i][named])
            for p in range(len(along)):
                out[i, p] = max(0.0, 1.0 - min(along[p], beside[p]))


def trees_of(W: np.ndarray, v: np.ndarray, usable: np.ndarray) -> list[np.ndarray]:
    """Average linkage of the usable neurons of each network, in their order, as SciPy writes it (THEORY.md, merging).

    The distance of two neurons is 1 - min(ŵ_a·ŵ_b, v̂_a·v̂_b).

    Parameters
    ----------
    W : array [network, neuron, input]
    v : array [network, neuron] or [network, neuron, output]
    usable : bool array [network, neuron]
        Neurons with a norm; no others have a distance.

    Returns
    -------
    list of arrays [neuron - 1, 4]
        One without rows where no two neurons are usable.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        directions = np.sign(v)[..., None] if v.ndim == 2 else v / np.abs(v).max(axis=2, keepdims=True)
    counts = usable.sum(axis=1)
    pairs, trees = counts * (counts - 1) // 2, []
    some = max(1, DISTANCES // max(1, int(pairs.max(initial=0))))
    for start in range(0, len(W), some):
        these = slice(start, start + some)
        out = np.empty((len(pairs[these]), pairs[these].max()))
        _distances(W[these], directions[these], usable[these], out)
        trees += [_tree(row[:count]) for row, count in zip(out, pairs[these])]
    return trees


def _tree(distances: np.ndarray) -> np.ndarray:
    return scipy.cluster.hierarchy.linkage(distances, "average") if len(distances) else np.empty((0, 4))


def clusters_of(trees: Sequence[np.ndarray], product: np.ndarray, usable: np.ndarray, cut: float = CUT) -> np.ndarray:
    """The trees of networks cut at a distance (THEORY.md, mutual-alignment).

    Parameters
    ----------
    trees : sequence of arrays
        As from `trees_of`.
    product : array [network, neuron]
        a, by which the clusters of a network are put in order.
    usable : bool array [network, neuron]
        Neurons of the trees.

    Returns
    -------
    int32 array [network, neuron]
        Numbers of clusters, from 1 on, in order of falling a; 0: not usable; -1: in a network that is not finite.
    """
    finite = np.isfinite(product).all(axis=1, keepdims=True)
    labels = np.where(finite, usable.astype(np.int32), np.int32(-1))
    grown = np.array([len(tree) > 0 for tree in trees], bool)
    network, neuron = np.nonzero(usable & finite & grown[:, None])
    if not len(network):
        return labels
    found = _flat([tree for tree, fine in zip(trees, finite[:, 0] & grown) if fine], cut)
    held, of = np.bincount(found, product[network, neuron]), np.zeros(found.max() + 1, int)
    of[found] = network
    order = np.lexsort((-held, of))
    rank = np.empty(len(held), np.int32)
    rank[order] = np.arange(len(held)) - np.searchsorted(of[order], of[order]) + 1
    labels[network, neuron] = rank[found]
    return labels


def _flat(trees: Sequence[np.ndarray], cut: float) -> np.ndarray:
    """Flat clusters, from 0 on, of the leaves of all trees.

    The trees are joined, above all distances, to one: SciPy's checks of each would take longer than all the cuts.
    """
    leaves = np.array([len(tree) + 1 for tree in trees])
    total, before = leaves.sum(), np.cumsum(leaves) - leaves
    inner = total + before - np.arange(len(trees))  # the number of the first node of each tree that is no leaf
    forest = np.concatenate([*trees, np.zeros((len(trees) - 1, 4))])
    of = np.repeat(np.arange(len(trees)), leaves - 1)[:, None]
    below = forest[: len(of), :2]
    below += np.where(below < leaves[of], before[of], (inner - leaves)[of])
    roots, joins = inner + leaves - 2, forest[len(of) :]
    joins[:, 0] = [*roots[:1], *range(2 * total - len(trees), 2 * total - 2)][: len(joins)]
    joins[:, 1], joins[:, 2], joins[:, 3] = roots[1:], np.inf, np.cumsum(leaves)[1:]
    return scipy.cluster.hierarchy.fcluster(forest, cut, "distance") - 1
