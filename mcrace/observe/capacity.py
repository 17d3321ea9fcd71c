"""Networks reduced to fewer neurons, by merging and by pruning: their loss against the number of neurons kept.

Entry K-1 of a curve is the loss with K neurons, without retraining.  Dead neurons, and those of no norm, add nothing to the
function: they are taken out first and for free, so that from the number of usable neurons on a curve is flat.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mcrace.compiled import compiled
from mcrace.kernels.losses import mean_losses_of
from mcrace.observe.base import observable
from mcrace.observe.snapshot import Snapshot
from mcrace.seeds import Stream

TOLERANCE = 0.01  # of the zero output's loss, that a reduced network may lose (THEORY.md, pruning and capacity)


@compiled
def _merged(H, v, norms, tree, leaves):
    """Outputs [kept, sample] of one network merged along a tree, whose n-th leaf is the neuron leaves[n].

    A cluster is w = Σ|v_a|w_a, v = unit(Σ|w_a|v_a), so its pre-activations are sums: a merge costs one row.
    """
    count, samples = len(leaves), H.shape[1]
    out, f = np.empty((count, samples)), np.zeros(samples)
    rows, sums = np.empty((2 * count - 1, samples)), np.empty(2 * count - 1)
    for n in range(count):
        a = leaves[n]
        sums[n] = norms[a] * v[a]
        sign = np.sign(v[a])
        for k in range(samples):
            rows[n, k] = abs(v[a]) * H[a, k]
            f[k] += sign * max(rows[n, k], 0.0)
    out[count - 1] = f
    for step in range(count - 1):
        one, two, new = int(tree[step, 0]), int(tree[step, 1]), count + step
        sums[new] = sums[one] + sums[two]
        before, beside, after = np.sign(sums[one]), np.sign(sums[two]), np.sign(sums[new])
        for k in range(samples):
            rows[new, k] = rows[one, k] + rows[two, k]
            f[k] += after * max(rows[new, k], 0.0) - (before * max(rows[one, k], 0.0) + beside * max(rows[two, k], 0.0))
        out[count - 2 - step] = f
    return out


@compiled
def _pruned(H, v, product, order, rescaled):
    """Outputs [kept, sample] of one network that keeps the first neurons of an order; rescaled: v times Σa/Σ_kept a."""
    count, samples = len(order), H.shape[1]
    out, f = np.empty((count, samples)), np.zeros((2, samples))
    total, held = np.zeros(2), np.zeros(2)
    for a in order:
        total[int(v[a] > 0)] += product[a]
    for n in range(count):
        a = order[n]
        side = int(v[a] > 0)
        held[side] += product[a]
        factors = np.ones(2)
        for s in range(2):
            if rescaled and held[s] > 0:
                factors[s] = total[s] / held[s]
        for k in range(samples):
            f[side, k] += v[a] * max(H[a, k], 0.0)
            out[n, k] = factors[0] * f[0, k] + factors[1] * f[1, k]
    return out


def _curves(state: Snapshot, outputs: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """Losses [network, kept] from the outputs [kept, sample] of a network and its usable neurons; NaN: not finite."""
    out = np.full(state.v.shape, np.nan)
    for i in np.flatnonzero(np.isfinite(state.norm_product).all(axis=1)).tolist():
        usable = np.flatnonzero(state.usable[i])
        f = outputs(i, usable) if len(usable) else np.zeros((1, state.y.shape[1]))
        means = mean_losses_of(f, state.y[i], state.loss)
        out[i, : len(means)], out[i, len(means) :] = means, means[-1]
    return out


def _shuffled(state: Snapshot, i: int, usable: np.ndarray) -> np.ndarray:
    """The usable neurons of a network in an order of the stream (entropy, partitions, network)."""
    order = Stream(state.origin.entropy, "partitions", int(state.origin.seeds[i])).permutation(state.v.shape[1])
    return order[np.isin(order, usable)]


def _shuffled_within_sign(state: Snapshot, i: int, usable: np.ndarray) -> np.ndarray:
    """The same, where each place keeps the sign it has."""
    order, out = _shuffled(state, i, usable), usable.copy()
    for positive in (False, True):
        out[(state.v[i, usable] > 0) == positive] = order[(state.v[i, order] > 0) == positive]
    return out


def _merge(state: Snapshot, leaves: Callable[[Snapshot, int, np.ndarray], np.ndarray]) -> np.ndarray:
    return _curves(state, lambda i, usable: _merged(
        state.preactivations[i], state.v[i], state.norms[i], state.trees[i], leaves(state, i, usable)))


def _prune(state: Snapshot, order: Callable[[Snapshot, int, np.ndarray], np.ndarray], rescaled: bool = False) -> np.ndarray:
    return _curves(state, lambda i, usable: _pruned(
        state.preactivations[i], state.v[i], state.norm_product[i], order(state, i, usable), rescaled))


def _highest_first(state: Snapshot, i: int, usable: np.ndarray) -> np.ndarray:
    return usable[np.argsort(-state.norm_product[i, usable], kind="stable")]


@observable("merge_curve", ("kept",), relu=True, samples=True)
def _merge_curve(state: Snapshot) -> np.ndarray:
    """Loss of the network merged to K neurons by average linkage, for K = 1 to all."""
    return _merge(state, lambda state, i, usable: usable)


@observable("random_merge_curve", ("kept",), relu=True, samples=True)
def _random_merge_curve(state: Snapshot) -> np.ndarray:
    """Loss of the network merged to K neurons by a random partition within sign of the same sizes: a control."""
    return _merge(state, _shuffled_within_sign)


@observable("prune_curve", ("kept",), relu=True, samples=True)
def _prune_curve(state: Snapshot) -> np.ndarray:
    """Loss of the network that keeps the K neurons of highest a, for K = 1 to all."""
    return _prune(state, _highest_first)


@observable("prune_curve_rescaled", ("kept",), relu=True, samples=True)
def _prune_curve_rescaled(state: Snapshot) -> np.ndarray:
    """The same with the v that are kept times Σa/Σ_kept a of their sign."""
    return _prune(state, _highest_first, rescaled=True)


@observable("random_prune_curve", ("kept",), relu=True, samples=True)
def _random_prune_curve(state: Snapshot) -> np.ndarray:
    """Loss of the network that keeps K random neurons: a control."""
    return _prune(state, _shuffled)


def fewest_kept(curves: np.ndarray, zero_loss: np.ndarray) -> np.ndarray:
    """Smallest K such that with every K' ≥ K neurons L ≤ L_T + 0.01 L_0 (THEORY.md, pruning and capacity) [network].

    Parameters
    ----------
    curves : array [network, kept]
        The last entry is L_T.
    zero_loss : array [network]

    Returns
    -------
    float array [network]
        NaN where there is no curve.

    Examples
    --------
    >>> fewest_kept(np.array([[0.9, 0.2, 0.4, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.1]]), np.ones(2)).tolist()
    [4.0, 1.0]
    """
    over = curves > curves[:, -1:] + TOLERANCE * zero_loss[:, None]
    fewest = np.where(over.any(axis=1), curves.shape[1] + 1 - np.argmax(over[:, ::-1], axis=1), 1).astype(float)
    return np.where(np.isfinite(curves).all(axis=1), fewest, np.nan)
