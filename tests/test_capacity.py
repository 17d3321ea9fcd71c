"""Networks merged and pruned to fewer neurons: against brute force, and where the answer is known."""

import naive
import numpy as np
import pytest
from test_observe import bundles, networks, snapshot, value

from mcrace.observe import capacity
from mcrace.observe.capacity import fewest_kept
from mcrace.observe.products import products_of

CURVES = ("merge_curve", "random_merge_curve", "prune_curve", "prune_curve_rescaled", "random_prune_curve")


def living_and_dead(seed, loss, N=4):
    """Networks of which some neurons are dead: few samples."""
    W, v, X, y = networks(seed, n=3, m=1 + seed % 12, d=5, N=N)
    return W, v, X, y, loss


@pytest.mark.parametrize("loss", ["mse", "logistic"])
@pytest.mark.parametrize("seed", range(12))
def test_curves_are_those_of_networks_built_anew(seed, loss):
    W, v, X, y, _ = case = living_and_dead(seed, loss)
    for i in range(3):
        args = W[i], v[i], X[i], y[i], loss
        if (X[i] @ W[i].T > 0).any(axis=0).sum() > 1:
            assert np.allclose(value("merge_curve", *case)[i], naive.merge_curve(*args), rtol=1e-10, atol=1e-13)
        assert np.allclose(value("prune_curve", *case)[i], naive.prune_curve(*args), rtol=1e-10, atol=1e-13)
        rescaled = naive.prune_curve(*args, rescaled=True)
        assert np.allclose(value("prune_curve_rescaled", *case)[i], rescaled, rtol=1e-10, atol=1e-13)


def test_random_partitions_are_the_same_tree_with_neurons_exchanged_within_sign():
    W, v, X, y = networks(3, m=12)
    state = snapshot(W, v, X, y)
    found = value("random_merge_curve", W, v, X, y)
    for i in range(4):
        usable = np.flatnonzero(state.usable[i])
        leaves = capacity._shuffled_within_sign(state, i, usable)
        assert sorted(leaves) == usable.tolist() and (np.sign(v[i, leaves]) == np.sign(v[i, usable])).all()
        assert leaves.tolist() != usable.tolist()
        assert np.allclose(found[i], naive.merge_curve(W[i], v[i], X[i], y[i], "logistic", leaves), rtol=1e-10)
    other = value("random_merge_curve", W, v, X, y, first=9)
    assert not np.allclose(found[:, :6], other[:, :6]), "each network has its own partition"


@pytest.mark.parametrize("name", CURVES)
def test_the_last_entry_is_the_whole_network_and_dead_neurons_are_free(name):
    W, v, X, y = networks(4, m=20, N=3)
    active = (np.einsum("imd,ind->imn", W, X) > 0).any(axis=2)
    assert 4 < active.sum(axis=1).min() < 20
    found, whole = value(name, W, v, X, y), value("loss", W, v, X, y)
    for i, living in enumerate(active.sum(axis=1)):
        assert found[i, living - 1 :] == pytest.approx(whole[i], rel=1e-12)
        if "prune" in name:  # merging two neurons that are on at the same samples changes nothing
            assert found[i, living - 2] != pytest.approx(whole[i], rel=1e-9), "one living neuron fewer is another network"


def test_bundles_are_merged_without_loss_and_by_random_partitions_only_where_a_sign_has_one_direction():
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(30, 6)), rng.choice([-1.0, 1.0], 30)
    directions, signs = rng.normal(size=(4, 6)), np.array([1, 1, -1, -1.0])
    for kinds, lossless in (([0, 2], True), ([0, 1, 2, 3], False)):
        which = np.repeat(kinds, 8)
        W = (directions[which] * rng.exponential(size=(len(which), 1)))[None]
        v = (signs[which] * rng.exponential(size=len(which)))[None]
        whole = value("loss", W, v, X, y)[0]
        merged, random = value("merge_curve", W, v, X, y)[0], value("random_merge_curve", W, v, X, y)[0]
        assert merged[len(kinds) - 1 :] == pytest.approx(whole, rel=1e-12)
        assert abs(merged[len(kinds) - 2] - whole) > 1e-3
        assert (abs(random[len(kinds) - 1] - whole) < 1e-12) == lossless
        rescaled = value("prune_curve_rescaled", W, v, X, y)[0]
        assert (abs(rescaled[len(which) // 2 :] - whole) < 1e-12).all() == lossless
        assert abs(value("prune_curve", W, v, X, y)[0][len(which) // 2] - whole) > 1e-6


def test_opposite_signs_are_merged_last():
    """Of one direction and two signs: two clusters, each lossless, although the directions are the same."""
    W, v = np.ones((1, 6, 2)), np.array([[1.0, 2, 3, -1, -2, -0.5]])
    X, y = np.array([[1.0, 0.3], [0.2, 2.0]]), np.array([1.0, -1.0])
    merged = value("merge_curve", W, v, X, y, "mse")[0]
    assert merged[1:] == pytest.approx(value("loss", W, v, X, y, "mse")[0])
    # all in one: w = Σ|v_a|w_a = 9.5 (1, 1), v = +1
    f = 9.5 * X.sum(axis=1)
    assert merged[0] == pytest.approx(((f - y) ** 2 / 2).mean())


@pytest.mark.parametrize("name", CURVES)
def test_networks_without_neurons_and_with_one(name):
    W, v = np.array([[[1.0, 0]], [[-1.0, 0]], [[1.0, 0]], [[np.inf, 0]]]), np.array([[2.0], [2.0], [0.0], [1.0]])
    X, y = np.array([[1.0, 5.0], [3.0, -1.0]]), np.array([1.0, -1.0])
    on = (np.log1p(np.exp(-2)) + np.log1p(np.exp(6))) / 2
    found = value(name, W, v, X, y)
    assert found[:3, 0] == pytest.approx([on, np.log(2), np.log(2)]) and np.isnan(found[3]).all()


def test_shared_samples_are_those_of_every_network():
    W, v, X, y = networks(8)
    shared = [value(name, W, v, X[0], y[0]) for name in CURVES]
    own = [value(name, W, v, np.repeat(X[:1], 4, axis=0), np.repeat(y[:1], 4, axis=0)) for name in CURVES]
    assert all(np.array_equal(a, b) for a, b in zip(shared, own))


@pytest.mark.parametrize("rows", range(1, 10))
def test_inner_products(rows):
    rng = np.random.default_rng(rows)
    A, X = rng.normal(size=(3, rows, 7)), rng.normal(size=(3, 11, 7))
    for samples in (X, X[:1]):
        expected = [[[sum(p * q for p, q in zip(a, x)) for x in samples[i % len(samples)]] for a in A[i]] for i in range(3)]
        assert np.array_equal(products_of(A, samples), np.array(expected)), "in the order of the inputs"


def test_the_fewest_neurons_are_those_from_which_on_all_are_good():
    rng = np.random.default_rng(6)
    curves, zero = rng.choice([0.1, 0.104, 0.2], (200, 7)), rng.choice([0.5, 1.0, 100.0], 200)
    for curve, L0, fewest in zip(curves, zero, fewest_kept(curves, zero)):
        good = [k for k in range(1, 8) if all(curve[j - 1] <= curve[-1] + 0.01 * L0 for j in range(k, 8))]
        assert fewest == good[0]
    curves[3, 2] = np.nan
    assert np.isnan(fewest_kept(curves, zero)[3]) and np.isfinite(fewest_kept(curves, zero)[4])


def test_a_merged_bundle_needs_as_many_neurons_as_it_has_directions():
    W, v = bundles(np.random.default_rng(2), [5, 5, 5], 6, 1e-9)
    X, y = np.random.default_rng(3).normal(size=(40, 6)), np.ones(40)
    curve = value("merge_curve", W[None], v[None], X, y)
    assert fewest_kept(curve, value("zero_loss", W[None], v[None], X, y)) == [3]


def test_the_loss_of_the_output_0():
    W, v, X, y = networks(1)
    assert value("zero_loss", W, v, X, 3 * y, "mse") == pytest.approx(np.full(4, 4.5))
    assert value("zero_loss", W, v, X, y) == pytest.approx(np.full(4, np.log(2)))


def test_the_tolerance_is_that_of_the_theory():
    assert capacity.TOLERANCE == 0.01
