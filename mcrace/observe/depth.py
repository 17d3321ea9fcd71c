"""Every hidden layer for itself: norms, scores, balance, likeness, rank, and the layer reduced to fewer neurons.

A neuron of any layer has incoming weights w_in, with its bias where it has one, and outgoing weights w_out (THEORY.md,
depth-transfer).  Its laws hold in plain layers: with residual connections or a normalisation the numbers are what they are.
"""

from __future__ import annotations

import numpy as np

from mcrace.kernels.losses import mean_losses_of
from mcrace.observe.alignment import held_by_fewest
from mcrace.observe.base import observable
from mcrace.observe.clusters import alignment_between, clusters_of, trees_of
from mcrace.observe.hidden import Hidden, hidden_layers, stable_ranks, stacked
from mcrace.observe.layered import LayeredSnapshot
from mcrace.observe.products import products_of
from mcrace.observe.reduction import JOINTLY, outputs_kept, stack_of

LAYER, NEURONS = ("layer",), ("layer", "neuron")


def hidden_of(state: LayeredSnapshot) -> list[Hidden]:
    """The hidden layers of networks at a moment; they are kept with it."""
    if "hidden" not in vars(state):
        weights, rates = (state.layers.parts(arrays) for arrays in (state.weights, state.slopes))
        vars(state)["hidden"] = hidden_layers(weights.matrices, weights.biases, rates.matrices, rates.biases)
    return vars(state)["hidden"]


def of_neurons(state: LayeredSnapshot, name: str) -> np.ndarray:
    """An attribute of `Hidden` for all layers [network, layer, neuron], NaN beyond a layer's width."""
    return stacked([getattr(layer, name) for layer in hidden_of(state)], state.active.shape[2])


# ------------------------------------------------------------------------------------------------- neurons


@observable("layer_norm_product", NEURONS, networks="layered")
def _norm_product(state: LayeredSnapshot) -> np.ndarray:
    """a = |w_in||w_out| of the neurons of every hidden layer."""
    return of_neurons(state, "norm_product")


@observable("layer_input_norm", NEURONS, networks="layered")
def _input_norm(state: LayeredSnapshot) -> np.ndarray:
    """|w_in|, with the bias where there is one."""
    return np.sqrt(of_neurons(state, "squares_in"))


@observable("layer_score", NEURONS, networks="layered")
def _score(state: LayeredSnapshot) -> np.ndarray:
    """cos∠(w_in, -∂L/∂w_in); NaN for a neuron that does not move."""
    return of_neurons(state, "score")


@observable("layer_active", NEURONS, dtype=int, networks="layered")
def _active(state: LayeredSnapshot) -> np.ndarray:
    """1 where a neuron is on at any sample, else 0; -1: not computed, or beyond the width of the layer."""
    there = np.isfinite(of_neurons(state, "squares_in")) | state.active
    return np.where(there, state.active, -1).astype(np.int32)


@observable("layer_balancedness", NEURONS, networks="layered")
def _balancedness(state: LayeredSnapshot) -> np.ndarray:
    """|w_in|² - |w_out|², conserved by the flow in every layer."""
    return of_neurons(state, "balancedness")


def _largest(values: list[np.ndarray]) -> np.ndarray:
    return np.stack([v.max(axis=1) for v in values], axis=1)


@observable("layer_imbalance", LAYER, networks="layered")
def _imbalance(state: LayeredSnapshot) -> np.ndarray:
    """Largest |w_in·w_in' - w_out·w_out'| of a layer, relative: 0 where |w_in|² - |w_out|² stands still."""
    return _largest([layer.imbalance() for layer in hidden_of(state)])


@observable("layer_imbalance_mixed", LAYER, networks="layered")
def _imbalance_mixed(state: LayeredSnapshot) -> np.ndarray:
    """The same with the outgoing weights of the next neuron: a control."""
    return _largest([layer.imbalance(shift=1) for layer in hidden_of(state)])


@observable("layer_growth_error", LAYER, networks="layered")
def _growth_error(state: LayeredSnapshot) -> np.ndarray:
    """Largest error of the growth law in a layer: d log a/dt less (w_in·w_in')(1/|w_in|² + 1/|w_out|²), relative."""
    return _largest([layer.growth_error() for layer in hidden_of(state)])


@observable("layer_growth_error_mixed", LAYER, networks="layered")
def _growth_error_mixed(state: LayeredSnapshot) -> np.ndarray:
    """The same with the |w_out| of the next neuron in the law: a control."""
    return _largest([layer.growth_error(shift=1) for layer in hidden_of(state)])


# ------------------------------------------------------------------------------------------------- layers


@observable("layer_alignment", LAYER, networks="layered")
def _alignment(state: LayeredSnapshot) -> np.ndarray:
    """A of every hidden layer, over pairs of neurons whose outgoing weights lie on the same side."""
    return np.stack([alignment_between(h.w_in, h.w_out, h.norm_product) for h in hidden_of(state)], axis=1)


@observable("layer_clusters_95", LAYER, networks="layered")
def _clusters_95(state: LayeredSnapshot) -> np.ndarray:
    """N95 of every hidden layer, the fewest clusters that hold 95 % of its Σa."""
    return np.stack([_held_by_fewest(state, l) for l in range(len(hidden_of(state)))], axis=1)


def _held_by_fewest(state: LayeredSnapshot, l: int) -> np.ndarray:
    layer = hidden_of(state)[l]
    product, use = layer.norm_product, usable_of(state)[:, l, : layer.w_in.shape[1]]
    return held_by_fewest(clusters_of(trees_of(layer.w_in, layer.w_out, use), product, use), product)


@observable("layer_stable_rank", LAYER, networks="layered")
def _stable_rank(state: LayeredSnapshot) -> np.ndarray:
    """|W|_F²/|W|_2² of the weights of every hidden layer."""
    return np.stack([stable_ranks(W) for W in state.layers.parts(state.weights).matrices[:-1]], axis=1)


def usable_of(state: LayeredSnapshot) -> np.ndarray:
    """Which neurons take part in the function: on at some sample, a > 0, in a finite network [network, layer, neuron]."""
    product = of_neurons(state, "norm_product")
    finite = [np.isfinite(h.norm_product).all(axis=1) for h in hidden_of(state)]
    return state.active & (product > 0) & np.all(finite, axis=0)[:, None, None]


# ------------------------------------------------------------------------------------------------- reductions


def _curves(state: LayeredSnapshot, layers: list[int], merging: bool, rescaled: bool = False) -> np.ndarray:
    """Losses [network, layer, kept] with 1, 2, ... neurons in each of some layers; NaN where a network is not finite, or
    where more goes on in its layers than two vectors a neuron say.
    """
    out = np.full((len(state.y), len(layers), state.active.shape[2]), np.nan)
    if state.layers.residual or state.layers.norm is not None:
        return out
    weights = state.layers.parts(state.weights)
    first = products_of(np.ascontiguousarray(weights.matrices[0]), state.X if state.X.ndim == 3 else state.X[None])
    if weights.biases:
        first = first + weights.biases[0][:, :, None]
    usable, hidden = usable_of(state), hidden_of(state)
    for i in np.flatnonzero(np.isfinite(first).all(axis=(1, 2))).tolist():
        stack = stack_of(first[i], hidden, weights.biases, usable, i)
        for place, layer in enumerate(layers):
            found = np.moveaxis(outputs_kept(stack, layer, merging, rescaled), 1, 2)
            found = found[:, :, 0] if state.y.ndim == 2 else found
            f = found + (state.outputs[i] - found[-1])  # what is subtracted of the start, if anything
            means = mean_losses_of(f, state.y[i], state.loss)
            out[i, place, : len(f)], out[i, place, len(f) :] = means, means[-1]
    return out


def _each(state: LayeredSnapshot) -> list[int]:
    return list(range(len(hidden_of(state))))


@observable("layer_merge_curve", ("layer", "kept"), networks="layered")
def _layer_merge(state: LayeredSnapshot) -> np.ndarray:
    """Loss with one layer merged to K neurons by average linkage, the others as they are, for K = 1 to all."""
    return _curves(state, _each(state), merging=True)


@observable("layer_prune_curve", ("layer", "kept"), networks="layered")
def _layer_prune(state: LayeredSnapshot) -> np.ndarray:
    """Loss with the K neurons of highest a kept in one layer, the others as they are, for K = 1 to all."""
    return _curves(state, _each(state), merging=False)


@observable("layer_prune_curve_rescaled", ("layer", "kept"), networks="layered")
def _layer_prune_rescaled(state: LayeredSnapshot) -> np.ndarray:
    """The same with the w_out that are kept times Σa/Σ_kept a of their side."""
    return _curves(state, _each(state), merging=False, rescaled=True)


@observable("joint_merge_curve", ("kept",), networks="layered")
def _joint_merge(state: LayeredSnapshot) -> np.ndarray:
    """Loss with every hidden layer merged to K neurons, for K = 1 to all."""
    return _curves(state, [JOINTLY], merging=True)[:, 0]


@observable("joint_prune_curve", ("kept",), networks="layered")
def _joint_prune(state: LayeredSnapshot) -> np.ndarray:
    """Loss with the K neurons of highest a kept in every hidden layer, for K = 1 to all."""
    return _curves(state, [JOINTLY], merging=False)[:, 0]


@observable("joint_prune_curve_rescaled", ("kept",), networks="layered")
def _joint_prune_rescaled(state: LayeredSnapshot) -> np.ndarray:
    """The same with the w_out that are kept times Σa/Σ_kept a of their side."""
    return _curves(state, [JOINTLY], merging=False, rescaled=True)[:, 0]
