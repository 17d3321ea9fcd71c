"""Observables of networks made by hand, against brute force and against what they must be."""

from dataclasses import replace
from types import SimpleNamespace

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcrace import observe
from mcrace.errors import StudyError
from mcrace.kernels import Samples
from mcrace.observe import OBSERVABLES, Snapshot, extremal, observable
from mcrace.observe.snapshot import Origin
from mcrace.sections import Network, Training
from mcrace.tasks.corruption import Image

MOMENTS = sorted(name for name in OBSERVABLES if not OBSERVABLES[name].path)


@pytest.fixture(autouse=True)
def fewer_starts(monkeypatch):
    """Extremal directions from few starts in few steps: here it matters only what depends on what."""
    monkeypatch.setattr(extremal, "STARTS", 30)
    monkeypatch.setattr(extremal, "STEPS", 40)


def no_population(entropy, seeds):
    raise StudyError("none")


def snapshot(W, v, X, y, loss="logistic", shuffled=None, start=None, first=0, task=None):
    """A snapshot of networks [network, ...], with data shared or of each."""
    samples, zero = Samples(X, y, loss), np.zeros(len(W), np.int64)
    task = task or SimpleNamespace(image=lambda: Image(1, X.shape[-1]), population_of=no_population)
    config = SimpleNamespace(training=Training(step_size=0.1, steps=1), network=Network(hidden=(v.shape[1],)), task=task)
    seeds = first + np.arange(len(W))
    origin = Origin(config, 1, seeds, X, lambda: start or (W, v), lambda *condition: (X, y))
    state = Snapshot(W, v, np.broadcast_to(y, (len(W), y.shape[-1])), samples, loss, origin, zero, zero.astype(float))
    if shuffled is not None:
        vars(state)["shuffled"] = shuffled
    return state


def value(name, *args, **options):
    """What an observable says of networks; of a path, when the neurons go along their drifts for a while."""
    state, path, seen = snapshot(*args, **options), OBSERVABLES[name].path, OBSERVABLES[name].seen
    with np.errstate(all="ignore"):
        if path is None:
            return OBSERVABLES[name].compute(seen(state))
        carry = path.begin(seen(state))
        for k in range(1, 6):
            path.follow(carry, seen(replace(state.with_weights(state.W + k * state.drift, state.v), time=state.time + k)))
        return path.end(carry)


def networks(seed, n=4, m=9, d=5, N=11):
    rng = np.random.default_rng(seed)
    W, v = rng.normal(size=(n, m, d)), rng.normal(size=(n, m))
    return W, v, rng.normal(size=(n, N, d)), rng.choice([-1.0, 1.0], (n, N))


# ------------------------------------------------------------------------------------------------- alignment


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 6), st.integers(0, 30))
def test_alignment_is_the_double_sum(seed, m, d, spread):
    """Also where norm products differ by up to thirty orders of magnitude, as at the end of a race."""
    W, v, X, y = networks(seed, n=2, m=m, d=d)
    v *= 10.0 ** np.random.default_rng(seed).uniform(-spread, 0, v.shape)
    expected = [naive.alignment(*pair) for pair in zip(W, v)]
    assert np.allclose(value("alignment", W, v, X, y), expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_alignment_of_what_is_known():
    e = np.eye(3)
    X, y = np.ones((2, 3)), np.array([1.0, -1.0])
    for W, v, expected in (
        ([e[0], 5 * e[0], 0.1 * e[0]], [1, 2, 3], 1),  # one direction
        ([e[0], -e[0]], [1, 1], -1),
        ([e[0], -e[0]], [1, -1], np.nan),  # opposite signs make no pair
        ([e[0], e[0], -e[0], -e[0]], [1, 1, -1, -1], 1),  # each sign its own direction
        ([e[0], e[1], e[2]], [1, 1, 1], 0),
        ([e[0], e[0], e[1]], [1, 1, 1], 1 / 3),
        ([2 * e[0], 3 * e[1], e[0] + e[1]], [1, 1, 1], (2 + 3) / (6 + 5 * 2**0.5)),  # weighted by norm products
        ([e[0]], [1], np.nan),
        ([e[0], e[0], 0 * e[0]], [1, 2, 3], 1),  # a neuron of no norm counts for nothing
        ([e[0], e[0], e[1]], [1, 2, 0], 1),
        ([e[0], e[0], np.nan * e[1]], [1, 2, 3], np.nan),
        ([e[0], e[0], e[1]], [1, 2, np.nan], np.nan),
        ([e[0], e[0], [0, np.inf, 0]], [1, 2, 3], np.nan),
    ):
        found = value("alignment", np.array([W], float), np.array([v], float), X, y)[0]
        assert found == pytest.approx(expected, rel=1e-14, abs=1e-15, nan_ok=True), (W, v)


# ------------------------------------------------------------------------------------------------- clusters


def bundles(rng, groups, d, spread, scale=1.0):
    """Neurons round a few directions, some with positive, some with negative output weight; a few idle."""
    W, v = [], []
    for size in groups:
        direction, sign = rng.normal(size=d), rng.choice([-1.0, 1.0])
        for _ in range(size):
            W.append((direction / np.linalg.norm(direction) + spread * rng.normal(size=d)) * rng.exponential())
            v.append(sign * rng.exponential() * scale)
    order = rng.permutation(len(W))
    return np.array(W)[order], np.array(v)[order]


@pytest.mark.parametrize("seed", range(40))
def test_clusters_and_n95_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(1, 8, rng.integers(1, 7))
    W, v = bundles(rng, groups, 6, rng.choice([1e-3, 0.03, 0.06, 0.1, 1.0]))
    X = rng.normal(size=(3, 6))  # few samples, so that some neurons are idle
    labels = value("cluster", W[None], v[None], X, np.ones(3))[0]
    assert np.array_equal(labels, naive.clusters(W, v, X))
    expected = naive.clusters_95(W, v, X)
    assert value("clusters_95", W[None], v[None], X, np.ones(3))[0] == pytest.approx(expected, nan_ok=True)


def test_tight_bundles_are_one_cluster_each_and_signs_are_kept_apart():
    rng = np.random.default_rng(1)
    e, X = np.eye(4), np.eye(4)
    directions = np.repeat(e[:2], 10, axis=0) + 1e-3 * rng.random((20, 4))
    W, v = np.concatenate([directions, directions[:10]]), np.concatenate([np.ones(20), -np.ones(10)])
    labels = value("cluster", W[None], v[None], X, np.ones(4))[0]
    parts = labels.reshape(3, 10)
    assert all(len(set(part)) == 1 for part in parts) and set(labels) == {1, 2, 3}
    assert value("clusters_95", W[None], v[None], X, np.ones(4))[0] == 3


@pytest.mark.parametrize("norms, expected", [
    ([1.0] * 20, 19), ([19.0, 1.0], 1), ([18.9, 1.1], 2), ([90, 4, 3, 2, 1], 3), ([1.0], 1), ([1e-300, 1.0], 1)])
def test_n95_counts_the_fewest_clusters_that_hold_95_percent(norms, expected):
    """Orthogonal neurons, a cluster each; 95 % exactly is enough."""
    m = len(norms)
    found = value("clusters_95", np.eye(m)[None], np.array([norms]), np.eye(m), np.ones(m))
    assert found == [expected]


def test_clusters_are_numbered_by_what_they_hold():
    v = np.array([[1.0, 5.0, 3.0, 0.5]])
    assert value("cluster", np.eye(4)[None], v, np.eye(4), np.ones(4)).tolist() == [[3, 1, 2, 4]]


def test_idle_neurons_are_in_no_cluster():
    W, v = np.array([[[1.0, 0], [0, 1], [-1, 0]]]), np.array([[1.0, 100.0, 100.0]])
    X = np.array([[1.0, -1.0]])  # only the first is on
    state = snapshot(W, v, X, np.ones(1))
    assert state.clusters.tolist() == [[1, 0, 0]] and state.active.tolist() == [[True, False, False]]
    assert value("clusters_95", W, v, X, np.ones(1)) == [1], "the norms of idle neurons do not count"
    assert np.isnan(value("cosine", W, v, X, np.ones(1))[0, 1:]).all()
    assert value("mean_cosine", W, v, X, np.ones(1))[0] == value("cosine", W, v, X, np.ones(1))[0, 0]
    dead = value("clusters_95", W, v, 0 * X, np.ones(1))
    assert np.isnan(dead).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_have_no_clusters_and_infect_no_neighbour(bad):
    W, v, X, y = networks(2)
    free = {name: value(name, W, v, X, y) for name in MOMENTS}
    W[1, 2, 3], v[2, 4] = bad, bad
    for name in MOMENTS:
        found = value(name, W, v, X, y)
        assert np.array_equal(found[[0, 3]], free[name][[0, 3]], equal_nan=True), name
    assert (value("cluster", W, v, X, y)[[1, 2]] == -1).all()
    for name in ("clusters_95", "alignment"):
        assert np.isnan(value(name, W, v, X, y)[[1, 2]]).all(), name
    for name in ("loss", "accuracy"):
        assert not np.isfinite(value(name, W, v, X, y)[2]), name


# ------------------------------------------------------------------------------------------------- the others


def test_accuracy_counts_signs_and_an_output_of_0_is_wrong():
    W, v, X = np.array([[[1.0]]]), np.array([[1.0]]), np.array([[2.0], [3.0], [-1.0], [5.0]])
    assert value("accuracy", W, v, X, np.array([1.0, 1.0, 1.0, -1.0])) == [0.5]
    assert value("accuracy", W, -v, X, np.array([1.0, 1.0, -1.0, -1.0])) == [0.25]


def test_losses():
    W, v, X = np.array([[[1.0]]]), np.array([[3.0]]), np.array([[2.0], [-1.0]])
    y = np.array([1.0, -1.0])
    assert value("loss", W, v, X, y, "mse") == pytest.approx([(25 / 2 + 1 / 2) / 2])
    assert value("loss", W, v, X, y) == pytest.approx([(np.log1p(np.exp(-6)) + np.log(2)) / 2])
    assert value("loss", W, 1e4 * v, X, -y) == pytest.approx([(6e4 + np.log(2)) / 2]), "no overflow"


def test_balance_and_norms():
    W, v = np.array([[[3.0, 4.0], [0.0, 1.0]]]), np.array([[-2.0, 1.0]])
    X, y = np.eye(2), np.ones(2)
    assert value("input_norm", W, v, X, y).tolist() == [[5, 1]]
    assert value("output_weight", W, v, X, y).tolist() == v.tolist()
    assert value("norm_product", W, v, X, y).tolist() == [[10, 1]]
    assert value("balancedness", W, v, X, y).tolist() == [[21, 0]]


def test_the_cosine_has_the_sign_of_the_output_weight():
    """One sample, label 1, f small: D points along x, and a negative neuron is aligned if it points away."""
    W, v = 1e-6 * np.array([[[1.0, 1.0], [1.0, 1.0]]]), 1e-6 * np.array([[1.0, -1.0]])
    found = value("cosine", W, v, np.array([[1.0, 0.0]]), np.ones(1))
    assert found == pytest.approx(np.array([[1, -1]]) / 2**0.5)


def test_shuffled_labels_are_used_by_the_control_alone():
    W, v, X, y = networks(5)
    other = Samples(X, -y, "logistic")
    found = value("cosine_permuted", W, v, X, y, shuffled=other)
    expected = [naive.cosine(w, u, naive.drift(w, u, x, -t, "logistic")) for w, u, x, t in zip(W, v, X, y)]
    assert np.allclose(found, expected, equal_nan=True)
    assert not np.allclose(found, value("cosine", W, v, X, y))


@pytest.mark.parametrize("name", MOMENTS)
def test_an_observable_does_not_depend_on_the_batch(name):
    W, v, X, y = networks(6, n=19)
    whole = value(name, W, v, X, y)
    entry = OBSERVABLES[name]
    sizes = {"neuron": 9, "input": 5, "sample": 11, "kept": 9, "some_neuron": 9, "some_neuron_2": 9,
             "corruption": 4, "severity": 5, "seen": 3, "test_norm": 3, "layer": 1}
    assert whole.shape == (19, *[sizes[d] for d in entry.dims])
    assert np.issubdtype(whole.dtype, np.integer) == (entry.dtype is int) and entry.text
    for i in (0, 7, 18):
        assert np.array_equal(value(name, *(a[i : i + 1] for a in (W, v, X, y)), first=i)[0], whole[i], equal_nan=True)


def test_an_observable_from_outside(monkeypatch):
    monkeypatch.setattr(OBSERVABLES, "_things", dict(OBSERVABLES._things))

    @observable("largest", ("neuron",), units="apples")
    def largest(state):
        """The largest
        input weight."""
        return np.abs(state.W).max(axis=2)

    W, v, X, y = networks(7)
    assert np.array_equal(value("largest", W, v, X, y), np.abs(W).max(axis=2))
    entry = OBSERVABLES["largest"]
    assert (entry.text, entry.units, entry.dims) == ("The largest input weight.", "apples", ("neuron",))
    with pytest.raises(ValueError, match="the observable 'loss' is there already"):
        observable("loss")(largest)
    with pytest.raises(StudyError, match="unknown observable 'losss': did you mean 'loss'"):
        OBSERVABLES["losss"]


def test_constants_are_those_of_the_theory():
    assert (observe.clusters.CUT, observe.alignment.HELD) == (0.01, 0.95)


def test_cosines_of_some_neurons():
    W, v, X, y = networks(3, m=70, d=4)
    unit = W[:, :64] / np.linalg.norm(W[:, :64], axis=2, keepdims=True)
    np.testing.assert_allclose(value("some_cosine", W, v, X, y), unit @ unit.transpose(0, 2, 1), rtol=0, atol=1e-14)
