"""Networks of several layers reduced to fewer neurons, by merging and by pruning, one layer at a time or all at once.

A reduced layer is made of *units*: each takes the sum of the pre-activations of its neurons, times a factor of each, and
sends its activation on along a vector of its own.  So a layer as it is, a pruned one and a merged one go the same way.  Plain
layers only: with residual connections or a normalisation a neuron does more than its two vectors say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcrace.compiled import compiled
from mcrace.observe.clusters import trees_of
from mcrace.observe.hidden import Hidden, top_direction

JOINTLY = -1


class Stack(NamedTuple):
    """One network as the functions here take it; the neurons of all layers padded to the widest [layer, neuron, ...]."""

    first: np.ndarray  # pre-activations of the first layer [neuron, sample]
    widths: np.ndarray  # neurons of each layer, and outputs
    bias: np.ndarray  # of what comes next [layer, unit above]
    norms_in: np.ndarray
    norms_out: np.ndarray
    w_out: np.ndarray  # [layer, neuron, unit above]
    side: np.ndarray  # 0 or 1: neurons that pull the same way have the same
    counts: np.ndarray  # usable neurons of each layer
    usable: np.ndarray  # which these are, in rising order [layer, place]
    highest: np.ndarray  # the same, in the order of falling a
    trees: np.ndarray  # their linkage [layer, step, 4]


class Units(NamedTuple):
    """The units of each layer of a reduced network."""

    counts: np.ndarray
    of: np.ndarray  # the unit of a neuron [layer, neuron]; -1: none
    factor: np.ndarray  # of its pre-activation [layer, neuron]
    out: np.ndarray  # [layer, unit, unit above]


@compiled
def _no_units(stack):
    layers, widest = stack.norms_in.shape
    return Units(np.zeros(layers, np.int64), np.full((layers, widest), -1), np.ones((layers, widest)),
                 np.zeros((layers, widest, stack.w_out.shape[2])))


@compiled
def _keep(stack, layer, kept, rescaled, units):
    """Keep the usable neurons of highest a; rescaled: w_out times Σa/Σ_kept a of their side."""
    order = stack.highest[layer, : stack.counts[layer]]
    kept = min(kept, len(order))
    units.of[layer] = -1
    units.factor[layer] = 1.0
    units.counts[layer] = kept
    total, held = np.zeros(2), np.zeros(2)
    for place, a in enumerate(order):
        product = stack.norms_in[layer, a] * stack.norms_out[layer, a]
        total[stack.side[layer, a]] += product
        if place < kept:
            held[stack.side[layer, a]] += product
    for place in range(kept):
        a = order[place]
        factor = total[stack.side[layer, a]] / held[stack.side[layer, a]] if rescaled else 1.0
        units.of[layer, a] = place
        units.out[layer, place] = factor * stack.w_out[layer, a]


@compiled
def _merge(stack, layer, kept, units):
    """Merge the usable neurons along their tree: w_in = Σ|w_out|w_in, w_out = unit(Σ|w_in|w_out) (THEORY.md, merging)."""
    leaves = stack.usable[layer, : stack.counts[layer]]
    count = len(leaves)
    parent, unit_of = np.full(2 * count, -1), np.full(2 * count, -1)
    for step in range(count - kept):
        for side in range(2):
            parent[int(stack.trees[layer, step, side])] = count + step
    units.of[layer] = -1
    units.out[layer] = 0.0
    found = 0
    for leaf in range(count):
        node, a = leaf, leaves[leaf]
        while parent[node] >= 0:
            node = parent[node]
        if unit_of[node] < 0:
            unit_of[node] = found
            found += 1
        u = unit_of[node]
        units.of[layer, a] = u
        units.factor[layer, a] = stack.norms_out[layer, a]
        for k in range(stack.w_out.shape[2]):
            units.out[layer, u, k] += stack.norms_in[layer, a] * stack.w_out[layer, a, k]
    units.counts[layer] = found
    for u in range(found):
        square = 0.0
        for k in range(stack.w_out.shape[2]):
            square += units.out[layer, u, k] ** 2
        if square > 0:
            units.out[layer, u] /= np.sqrt(square)


@compiled
def _one_up(stack, units, layer, z, x):
    """From the pre-activations z of a layer [neuron, sample] to those of the next, or to the outputs, in their place."""
    count, above, samples = units.counts[layer], stack.widths[layer + 1], z.shape[1]
    x[:count] = 0.0
    for a in range(stack.widths[layer]):
        u, factor = units.of[layer, a], units.factor[layer, a]
        if u >= 0:
            for n in range(samples):
                x[u, n] += factor * z[a, n]
    for u in range(count):
        for n in range(samples):
            x[u, n] = x[u, n] if not x[u, n] <= 0 else 0.0
    for b in range(above):
        z[b] = stack.bias[layer, b]
        for u in range(count):
            weight = units.out[layer, u, b]
            for n in range(samples):
                z[b, n] += weight * x[u, n]


@compiled
def _outputs_kept(stack, layer, merging, rescaled):
    """Outputs [kept, output, sample] with 1, 2, ... neurons in a layer, or in each of them; last, as the network is."""
    layers, samples = len(stack.counts), stack.first.shape[1]
    rows, outputs = stack.w_out.shape[2], stack.widths[-1]
    units = _no_units(stack)
    for l in range(layers):
        _keep(stack, l, stack.counts[l], False, units)
    below, z, x = np.zeros((rows, samples)), np.empty((rows, samples)), np.empty((rows, samples))
    below[: len(stack.first)] = stack.first
    for l in range(layer):
        _one_up(stack, units, l, below, x)
    start, end = (0, layers) if layer == JOINTLY else (layer, layer + 1)
    most = max(1, stack.counts[start:end].max())
    out = np.empty((most, outputs, samples))
    for kept in range(1, most + 1):
        for l in range(start, end):
            if merging:
                _merge(stack, l, kept, units)
            else:
                _keep(stack, l, kept, rescaled, units)
        z[:] = below
        for l in range(start, layers):
            _one_up(stack, units, l, z, x)
        out[kept - 1] = z[:outputs]
    return out


def stack_of(
    first: np.ndarray, layers: Sequence[Hidden], biases: Sequence[np.ndarray], usable: np.ndarray, i: int
) -> Stack:
    """Network i as a stack.

    Parameters
    ----------
    first : array [neuron, sample]
        Its pre-activations in the first layer, bias included.
    layers : sequence of Hidden
    biases : sequence of arrays [network, unit]
        b_1, ..., b_H and that of the outputs; empty where there are none.
    usable : bool array [network, layer, neuron]
        Neurons that take part in the function.
    """
    widths = np.array([*(layer.w_in.shape[1] for layer in layers), layers[-1].w_out.shape[2]])
    H, widest = len(layers), int(widths.max())
    norms_in, norms_out, w_out = np.zeros((H, widest)), np.zeros((H, widest)), np.zeros((H, widest, widest))
    bias, side = np.zeros((H, widest)), np.zeros((H, widest), np.int64)
    chosen, highest, trees = np.zeros((H, widest), np.int64), np.zeros((H, widest), np.int64), np.zeros((H, widest, 4))
    counts = np.zeros(H, np.int64)
    for l, layer in enumerate(layers):
        m, above = widths[l : l + 2]
        norms_in[l, :m], norms_out[l, :m] = np.sqrt(layer.squares_in[i]), np.sqrt(layer.squares_out[i])
        w_out[l, :m, :above] = layer.w_out[i]
        if biases:
            bias[l, :above] = biases[l + 1][i]
        use = usable[i, l, :m]
        counts[l], order = use.sum(), np.flatnonzero(use)
        chosen[l, : counts[l]] = order
        highest[l, : counts[l]] = order[np.argsort(-layer.norm_product[i][order], kind="stable")]
        side[l, :m] = sides_of(layer.w_in[i], layer.w_out[i])
        (tree,) = trees_of(layer.w_in[i : i + 1], layer.w_out[i : i + 1], use[None])
        trees[l, : len(tree)] = tree
    return Stack(first, widths, bias, norms_in, norms_out, w_out, side, counts, chosen, highest, trees)


def sides_of(w_in: np.ndarray, w_out: np.ndarray) -> np.ndarray:
    """0 or 1 for each neuron of a layer [neuron]: to which side its w_out lies along the direction to which Σ|w_in|w_out
    pulls most; with one output this is its sign.
    """
    pulls = np.sqrt(np.cumsum(w_in * w_in, axis=1)[:, -1:]) * w_out
    _, direction = top_direction(np.ascontiguousarray(pulls))
    return (np.cumsum(w_out * direction, axis=1)[:, -1] > 0).astype(np.int64)


def outputs_kept(stack: Stack, layer: int, merging: bool, rescaled: bool = False) -> np.ndarray:
    """Outputs of a reduced network [kept, output, sample], up to the number of usable neurons of the layer.

    Parameters
    ----------
    stack : Stack
    layer : int
        From 0 on; `JOINTLY`: every layer to as many neurons.
    merging : bool
        Average linkage; otherwise the neurons of highest a = |w_in||w_out| are kept.
    rescaled : bool
        Those that are kept have their w_out times Σa/Σ_kept a of their side (see `sides_of`).
    """
    return _outputs_kept(stack, layer, merging, rescaled)
