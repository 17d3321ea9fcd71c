"""Networks of several layers, layer by layer: the laws by finite differences, ranks, reductions, on plain arrays."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster

from mcrace.observe.clusters import CUT, alignment_between, alignment_of, clusters_of, trees_of
from mcrace.observe.hidden import hidden_layers, stable_ranks, top_direction
from mcrace.observe.reduction import JOINTLY, outputs_kept, sides_of, stack_of
from mcrace.stages.layer_tickets import highest, packed

WIDTHS = st.lists(st.integers(1, 7), min_size=1, max_size=4)


def network(widths, seed=0, bias=False, inputs=3, outputs=2, networks=2):
    """Random weights [network, unit, input] of each layer, biases, samples and targets."""
    rng = np.random.default_rng(seed)
    sizes = [inputs, *widths, outputs]
    W = [rng.normal(size=(networks, above, below)) for below, above in pairwise(sizes)]
    b = [rng.normal(size=(networks, above)) / 3 for above in sizes[1:]] if bias else []
    return W, b, rng.normal(size=(11, inputs)), rng.normal(size=(11, outputs))


def layers_up(W, b, X):
    """The pre-activations of every layer of one network, the last being its outputs [sample, unit]."""
    found, x = [], X
    for l, weights in enumerate(W):
        found.append(x @ weights.T + (b[l] if b else 0))
        x = np.maximum(found[-1], 0)
    return found


def descent(W, b, X, y):
    """Minus the gradient of the mean squared error over 2 of one network, for weights and biases."""
    up = layers_up(W, b, X)
    back, dW, db = (y - up[-1]) / len(X), [], []
    for l in reversed(range(len(W))):
        dW.insert(0, back.T @ (np.maximum(up[l - 1], 0) if l else X))
        db.insert(0, back.sum(axis=0))
        if l:
            back = back @ W[l] * (up[l - 1] > 0)
    return dW, db if b else []


def of_all(W, b, X, y):
    """The hidden layers of all networks, as the observables see them."""
    found = [descent([w[i] for w in W], [c[i] for c in b], X, y) for i in range(len(W[0]))]
    dW = [np.stack([f[0][l] for f in found]) for l in range(len(W))]
    db = [np.stack([f[1][l] for f in found]) for l in range(len(b))]
    return hidden_layers(W, b, dW, db), dW, db


def stack(W, b, X, i=0, usable=None):
    layers = hidden_layers(W, b, W, b)
    widest = max(layer.w_in.shape[1] for layer in layers)
    every = np.ones((len(W[0]), len(layers), widest), bool) if usable is None else usable
    first = X @ W[0][i].T + (b[0][i] if b else 0)
    return stack_of(np.ascontiguousarray(first.T), layers, b, every, i)


def outputs(W, b, X, i=0):
    return layers_up([w[i] for w in W], [c[i] for c in b], X)[-1].T


# ------------------------------------------------------------------------------------------------- the laws


@settings(derandomize=True, deadline=None, max_examples=40)
@given(WIDTHS, st.booleans(), st.integers(0, 10**6))
def test_balance_and_growth_by_finite_differences(widths, bias, seed):
    """|w_in|² - |w_out|² stands still in every layer, at a point of any loss; and log a grows as the law says."""
    W, b, X, y = network(widths, seed, bias)
    layers, dW, db = of_all(W, b, X, y)
    fastest = max(np.abs(layer.growth).max() for layer in layers)
    h = 1e-4 / max(fastest, 1)
    ahead, behind = ([*(w + s * d for w, d in zip(W, dW))] for s in (h, -h))
    b_ahead, b_behind = ([*(w + s * d for w, d in zip(b, db))] for s in (h, -h))
    for here, after, before in zip(layers, hidden_layers(ahead, b_ahead, W, b), hidden_layers(behind, b_behind, W, b)):
        assert (here.imbalance() < 1e-12).all()
        change = (after.balancedness - before.balancedness) / (2 * h)
        assert (np.abs(change) <= 1e-7 * np.abs(here.along_in).max() + 1e-9 * fastest).all()
        growth = np.log(after.norm_product / before.norm_product) / (2 * h)
        assert np.allclose(growth, here.growth_law(), rtol=1e-6, atol=1e-7 * fastest)
        assert (here.growth_error() < 1e-12).all()


def test_another_neuron_s_outgoing_weights_are_not_balanced():
    layers, *_ = of_all(*network([6, 5, 7], 3))
    for layer in layers:
        assert np.median(layer.growth_error(shift=1)) > 0.01 and np.median(layer.imbalance(shift=1)) > 0.02


def test_a_bias_that_is_left_out_breaks_the_balance():
    W, b, X, y = network([6, 5], 4, bias=True)
    _, dW, _ = of_all(W, b, X, y)
    assert max(layer.imbalance().max() for layer in hidden_layers(W, [], dW, [])) > 0.01


def test_one_layer_has_its_closed_forms():
    """w_in' = v D and w_out' = w·D: the clock's rate is |D|, the score is cos δ."""
    W, b, X, y = network([8], 5, outputs=1)
    (layer,), dW, _ = of_all(W, b, X, y)
    v = W[1][:, 0]
    drift = dW[0] / v[:, :, None]
    assert np.allclose(layer.clock_rates, np.linalg.norm(drift, axis=2))
    cosine = np.sign(v) * (W[0] * drift).sum(axis=2) / np.linalg.norm(W[0], axis=2) / np.linalg.norm(drift, axis=2)
    moving = layer.speeds_in > 0
    assert np.allclose(layer.score[moving], cosine[moving]) and np.isnan(layer.score[~moving]).all()
    assert np.allclose(layer.balancedness, (W[0] ** 2).sum(axis=2) - v**2)


# ------------------------------------------------------------------------------------------------- ranks, likeness


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.floats(-30, 30))
def test_stable_rank_by_singular_values(rows, columns, seed, exponent):
    W = np.random.default_rng(seed).normal(size=(3, rows, columns)) * 10.0**exponent
    s = np.linalg.svd(W, compute_uv=False)
    assert np.allclose(stable_ranks(W), (s**2).sum(axis=1) / s[:, 0] ** 2, rtol=1e-6)


def test_stable_rank_of_what_is_known():
    one = np.outer([1.0, -2.0, 3.0], [2.0, 1.0])
    assert stable_ranks(np.stack([one, one * 1e-60])).tolist() == pytest.approx([1, 1])
    assert stable_ranks(np.eye(4)[None]).tolist() == pytest.approx([4])
    many = np.array([[3.0, 0], *20 * [[0, 1.0]]])  # the longest row is orthogonal to the top direction
    assert stable_ranks(many[None]).tolist() == pytest.approx([29 / 20])
    assert np.isnan(stable_ranks(np.array([np.zeros((2, 2)), np.full((2, 2), np.nan)]))).all()
    square, direction = top_direction(one)
    assert square == pytest.approx((one**2).sum()) and abs(direction) == pytest.approx(np.array([2, 1]) / 5**0.5)


def test_alignment_with_vectors_of_outputs():
    """With one output it is the alignment within sign; with more, of neurons whose outputs lie on the same side."""
    rng = np.random.default_rng(0)
    W, v = rng.normal(size=(3, 9, 4)), rng.normal(size=(3, 9))
    a = np.abs(v) * np.linalg.norm(W, axis=2)
    assert np.allclose(alignment_between(W, v[:, :, None], a), alignment_of(W, v, a), rtol=1e-12)
    out = rng.normal(size=(3, 9, 2))
    a = np.linalg.norm(out, axis=2) * np.linalg.norm(W, axis=2)
    unit = W / np.linalg.norm(W, axis=2)[:, :, None]
    for i in range(3):
        pairs = [(p, q) for p in range(9) for q in range(p) if out[i, p] @ out[i, q] > 0]
        weights = [a[i, p] * a[i, q] for p, q in pairs]
        expected = np.average([unit[i, p] @ unit[i, q] for p, q in pairs], weights=weights)
        assert alignment_between(W, out, a)[i] == pytest.approx(expected)


def test_clusters_ask_for_both_vectors_to_be_alike():
    w_in = np.array([[1.0, 0], [2, 0], [1, 0], [0, 1]])
    w_out = np.array([[0, 1.0], [0, 3], [1, 0], [0, 1]])
    usable = np.ones(4, bool)
    a = np.linalg.norm(w_in, axis=1) * np.linalg.norm(w_out, axis=1)
    trees = [trees_of(w_in[None], out[None], usable[None])[0] for out in (w_out, w_out[:, 1] + 1)]
    both, one = clusters_of(trees, np.stack([a, a]), np.stack([usable, usable])).tolist()
    assert both in ([1, 1, 2, 3], [1, 1, 3, 2])
    assert one[:3] == [1, 1, 1]


@pytest.mark.parametrize("networks", [0, 1, 30])
def test_clusters_are_those_of_each_network_alone(networks):
    rng = np.random.default_rng(networks)
    W, v = rng.normal(size=(networks, 9, 2)), rng.normal(size=(networks, 9))
    W[:, 5:] = 2 * W[:, :4] + 0.1 * rng.normal(size=(networks, 4, 2))
    W[:5:4], v[:5:4] = 1, 1  # a cluster each, and the first two trees
    a, usable = np.abs(v) * np.linalg.norm(W, axis=2), rng.uniform(size=v.shape) < 0.7
    usable[1:2], usable[2:3], a[3:4, 3] = False, np.arange(9) == 4, np.nan
    trees = trees_of(W, v, usable)
    found = clusters_of(trees, a, usable)
    assert found.shape == v.shape
    for labels, tree, held, use in zip(found, trees, a, usable):
        expected = use.astype(int)
        if len(tree):
            flat = fcluster(tree, CUT, "distance")
            order = sorted(set(flat), key=lambda label: -held[use][flat == label].sum())
            expected[use] = [order.index(label) + 1 for label in flat]
        assert labels.tolist() == (expected.tolist() if np.isfinite(held).all() else [-1] * 9)


# ------------------------------------------------------------------------------------------------- reductions


@settings(derandomize=True, deadline=None, max_examples=40)
@given(WIDTHS, st.booleans(), st.integers(0, 10**6), st.booleans())
def test_all_neurons_kept_are_the_network(widths, bias, seed, merging):
    W, b, X, _ = network(widths, seed, bias)
    for layer in (JOINTLY, *range(len(widths))):
        for rescaled in (False, True):
            found = outputs_kept(stack(W, b, X, 1), layer, merging, rescaled)
            assert len(found) == (max(widths) if layer == JOINTLY else widths[layer])
            assert np.allclose(found[-1], outputs(W, b, X, 1), rtol=1e-10, atol=1e-10)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(WIDTHS, st.integers(1, 3), st.booleans(), st.integers(0, 10**6))
def test_merging_duplicates_costs_nothing_in_every_layer(widths, copies, bias, seed):
    """Each neuron of each layer several times, its outgoing weights shared out: as many are enough as there were."""
    W, b, X, _ = network(widths, seed, bias, networks=1)
    rng = np.random.default_rng(seed + 1)
    wide, wide_b = [W[0]], []
    for l, m in enumerate(widths):
        size = rng.uniform(0.5, 2, (m, copies))
        share = rng.dirichlet(np.ones(copies), m) / size
        places = np.repeat(np.arange(m), copies)
        wide[l] = wide[l][:, places] * size.ravel()[None, :, None]
        wide_b += [b[l][:, places] * size.ravel()] if b else []
        wide.append(W[l + 1][:, :, places] * share.ravel())
    wide_b += [b[-1]] if b else []
    assert np.allclose(outputs(wide, wide_b, X), outputs(W, b, X))
    for layer in (JOINTLY, *range(len(widths))):
        found = outputs_kept(stack(wide, wide_b, X), layer, merging=True)
        enough = max(widths) if layer == JOINTLY else widths[layer]
        for kept in range(enough, len(found) + 1):
            assert np.allclose(found[kept - 1], outputs(W, b, X), rtol=1e-9, atol=1e-9), (layer, kept)


@pytest.mark.parametrize("layer", [JOINTLY, 0, 1, 2])
def test_merging_by_hand(layer):
    """Two neurons of each layer to one: w_in = Σ|w_out|w_in, w_out = unit(Σ|w_in|w_out), with plain weights in the end."""
    W, b, X, _ = network([2, 2, 2], 7, networks=1)
    small = [w[0].copy() for w in W]
    for l in range(3) if layer == JOINTLY else (layer,):
        n_in, n_out = np.linalg.norm(W[l][0], axis=1), np.linalg.norm(W[l + 1][0], axis=0)
        total = (n_in * W[l + 1][0]).sum(axis=1, keepdims=True)
        small[l], small[l + 1] = (n_out @ small[l])[None], total / np.linalg.norm(total)
        if layer == JOINTLY and l < 2:
            continue
    found = outputs_kept(stack(W, b, X), layer, merging=True)
    assert np.allclose(found[0], layers_up(small, [], X)[-1].T)


@pytest.mark.parametrize("layer", [JOINTLY, 0, 1])
@pytest.mark.parametrize("rescaled", [False, True])
def test_pruning_by_hand(layer, rescaled):
    W, b, X, _ = network([5, 6], 8, bias=True, networks=1)
    for kept in (1, 3, 5):
        small = [w[0].copy() for w in W]
        for l in range(2) if layer == JOINTLY else (layer,):
            w_in = np.concatenate([W[l][0], b[l][0][:, None]], axis=1)
            a = np.linalg.norm(w_in, axis=1) * np.linalg.norm(W[l + 1][0], axis=0)
            keep = np.isin(np.arange(len(a)), np.argsort(-a)[:kept])
            small[l + 1][:, ~keep] = 0
            side = sides_of(w_in, W[l + 1][0].T)
            for s in (0, 1):
                if rescaled and (keep & (side == s)).any():
                    small[l + 1][:, side == s] *= a[side == s].sum() / a[keep & (side == s)].sum()
        found = outputs_kept(stack(W, b, X), layer, False, rescaled)
        assert np.allclose(found[kept - 1], layers_up(small, [c[0] for c in b], X)[-1].T)


def test_sides_are_signs_where_there_is_one_output():
    rng = np.random.default_rng(9)
    w_in, v = rng.normal(size=(20, 3)), rng.normal(size=(20, 1))
    sides = sides_of(w_in, v)
    assert (sides == (v[:, 0] > 0)).all() or (sides == (v[:, 0] < 0)).all()


def test_neurons_that_are_not_usable_are_left_out():
    """Dead ones come out for free; a layer in which all are leaves the bias."""
    W, b, X, _ = network([5, 4], 10, bias=True, networks=1)
    usable = np.ones((1, 2, 5), bool)
    usable[0, 0, 2], usable[0, 1, 4] = False, False
    found = outputs_kept(stack(W, b, X, usable=usable), 0, True)
    without = [w.copy() for w in W]
    without[1][:, :, 2] = 0
    assert len(found) == 4 and np.allclose(found[-1], outputs(without, b, X))
    usable[0, 1] = False
    for layer in (JOINTLY, 0, 1):
        assert np.allclose(outputs_kept(stack(W, b, X, usable=usable), layer, True)[-1], b[2][0][:, None])


# ------------------------------------------------------------------------------------------------- tickets


@pytest.mark.parametrize("bias", [False, True])
def test_a_ticket_is_its_neurons_alone(bias):
    """As the whole network is where the others send nothing on; what is left empty does nothing, and cannot move."""
    W, b, X, y = network([5, 6], 11, bias)
    chosen = [np.array([[1, 4, -1], [0, 3, 2]]), np.array([[5, 0, 2], [1, -1, -1]])]
    few = packed((*W, *b), chosen, bias)
    alone = [w.copy() for w in W]
    for l, c in enumerate(chosen):
        for i in range(2):
            alone[l + 1][i][:, ~np.isin(np.arange(W[l].shape[1]), c[i])] = 0
    for i in range(2):
        assert np.allclose(outputs(few[:3], few[3:], X, i), outputs(alone, b, X, i))
        dW, db = descent([w[i] for w in few[:3]], [c[i] for c in few[3:]], X, y)
        for l, c in enumerate(chosen):
            assert (dW[l][c[i] < 0] == 0).all() and (dW[l + 1][:, c[i] < 0] == 0).all()
            assert not bias or (db[l][c[i] < 0] == 0).all()


def test_a_ticket_of_one_layer_and_one_output():
    W, *_ = network([6], 12, outputs=1)
    chosen = [np.array([[1, 4, -1], [0, 3, 2]])]
    w, v = packed((W[0], W[1][:, 0]), chosen, False)
    both = packed(tuple(W), chosen, False)
    assert (w == both[0]).all() and (v == both[1][:, 0]).all() and v[0, 2] == 0 and v[1, 1] == W[1][1, 0, 3]


def test_the_highest_usable_neurons():
    score = np.array([[3.0, 9, 5, np.nan, 1], [1, 2, 3, 4, 5]])
    usable = np.array([[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool)
    assert highest(score, usable, np.array([3, 2]), 4).tolist() == [[2, 0, 4, -1], [4, 3, -1, -1]]
