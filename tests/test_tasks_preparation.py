"""Preparation of inputs, and test samples: what is done to the training samples is done to those, and none is in both."""

import hashlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mcrace.errors import StudyError
from mcrace.seeds import SHARED, Stream
from mcrace.tasks import Digits, Gaussian, Patches, Teacher
from mcrace.tasks.preparation import eigenvectors, prepare

GOLDEN = "5d6f553cfb0fe065c36617d0e6c1eab925ecd3441ec0f0199468ee983cfa9b0d"
PLAIN = {"center_samples": False, "center": False, "whiten": False, "scale": "none"}


def some(samples, inputs, rank=None, seed=0):
    """Samples with features of unlike sizes and means."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(samples, rank or inputs)) @ rng.normal(size=(rank or inputs, inputs)) + rng.normal(size=inputs)
    return X * rng.uniform(0.1, 10, size=inputs)


sizes = settings(derandomize=True, deadline=None, max_examples=40)
counts = st.integers(1, 30)


# ------------------------------------------------------------------------------------------------- steps


@sizes
@given(counts, counts, st.integers(0, 2**30))
def test_the_bits_of_centring_and_of_one_factor_are_those_of_sums_in_order(samples, inputs, seed):
    X = some(samples, inputs, seed=seed)
    expected = X - np.cumsum(X, axis=0)[-1:] / samples
    expected = expected / np.sqrt(np.cumsum((expected * expected).reshape(-1))[-1] / samples or 1.0)
    assert np.array_equal(prepare(X, **PLAIN | {"center": True, "scale": "unit-rms"})[0], expected)


@sizes
@given(counts, st.integers(2, 30), st.integers(0, 2**30))
def test_each_sample_has_its_own_mean_removed_and_norm_1(samples, inputs, seed):
    X = some(samples, inputs, seed=seed)
    centred, _ = prepare(X, **PLAIN | {"center_samples": True})
    assert np.abs(centred - (X - X.mean(axis=1, keepdims=True))).max() < 1e-13 * np.abs(X).max()
    unit, _ = prepare(X, **PLAIN | {"center_samples": True, "scale": "unit-norm"})
    assert np.abs((unit**2).sum(axis=1) - 1).max() < 1e-13 and np.abs(unit.sum(axis=1)).max() < 1e-10
    assert ((unit * centred).sum(axis=1) > 0).all()


def test_means_of_samples_and_of_features_are_both_zero_where_both_are_asked_for():
    X, _ = prepare(some(20, 7), **PLAIN | {"center_samples": True, "center": True})
    assert np.abs(X.mean(axis=0)).max() < 1e-13 and np.abs(X.mean(axis=1)).max() < 1e-13 and np.abs(X).max() > 0.1


@pytest.mark.parametrize("scale", ["unit-rms", "unit-norm"])
@pytest.mark.parametrize("whiten", [True, False])
def test_what_has_no_extent_stays_zero(scale, whiten):
    X, preparation = prepare(np.full((3, 4), 2.5), center_samples=False, center=True, whiten=whiten, scale=scale)
    assert np.array_equal(X, np.zeros((3, 4))) and np.isfinite(preparation(np.ones((2, 4)))).all()


@sizes
@given(counts, counts, st.integers(1, 30), st.booleans(), st.integers(0, 2**30))
def test_whitening_is_the_symmetric_root_within_the_span(samples, inputs, rank, center, seed):
    X = some(samples, inputs, min(rank, inputs), seed)
    X = X - X.mean(axis=0) if center else X
    white, preparation = prepare(X, **PLAIN | {"whiten": True})
    variances, V = np.linalg.eigh(X.T @ X / samples)
    used = variances > 1e-10 * max(variances.max(), 1e-300)
    doubtful = (variances > 1e-13 * variances.max()) & (variances < 1e-8 * variances.max())  # rounding, or data?
    assume(used.any() and not doubtful.any())
    V, variances = V[:, used], variances[used]
    root = V / np.sqrt(variances) @ V.T
    scale = np.sqrt(variances.max() / variances.min())
    assert np.abs(white - X @ root).max() < 1e-11 * scale * np.sqrt(samples)
    assert np.abs(white.T @ white / samples - V @ V.T).max() < 1e-11 * scale
    others = some(5, inputs, seed=seed + 1)
    assert np.abs(preparation(others) - others @ root).max() < 1e-10 * scale * (1 + np.abs(others @ root).max())


def test_whitened_images_have_constant_pixels_at_zero_and_unit_moments_elsewhere():
    task = Digits(classes=(3, 8), samples=300, whiten=True, scale="none")
    X, _ = task.sample(task.pool(), 1, 0)
    moments = X.T @ X / 300
    rank = round(np.trace(moments))
    assert 40 < rank < 64 and np.abs(moments @ moments - moments).max() < 1e-9
    assert np.array_equal(X[:, 0], np.zeros(300)), "the first pixel is always 0"


def test_fewer_samples_than_inputs_become_a_simplex():
    X, _ = prepare(some(6, 40), **PLAIN | {"center": True, "whiten": True})
    assert np.abs(X @ X.T / 6 - (np.eye(6) - 1 / 6)).max() < 1e-10


@sizes
@given(st.integers(1, 25), st.integers(0, 2**30), st.floats(1e-100, 1e100))
def test_eigenvectors(size, seed, factor):
    A = np.random.default_rng(seed).normal(size=(size, size))
    A = (A + A.T) * factor
    values, vectors = eigenvectors(A)
    assert np.abs(np.sort(values) - np.linalg.eigvalsh(A)).max() < 1e-13 * size * np.abs(A).max()
    assert np.abs(vectors @ vectors.T - np.eye(size)).max() < 1e-13 * size
    assert np.abs(vectors @ A - values[:, None] * vectors).max() < 1e-13 * size * np.abs(A).max()


@pytest.mark.parametrize("options", [{"whiten": True}, {"center_samples": True, "scale": "unit-norm"}])
@pytest.mark.parametrize("fresh", [True, False])
def test_no_bit_hangs_on_who_is_drawn_beside_a_network(options, fresh):
    task = Gaussian(dimension=6, samples=10, test_samples=4, fresh=fresh, **options)
    for of in (task.samples_of, task.test_samples_of):
        X, y = of({}, 3, np.array([5, 2, 9]))
        alone_X, alone_y = of({}, 3, np.array([2]))
        assert np.array_equal(X[1] if fresh else X, alone_X[0] if fresh else alone_X)
        assert np.array_equal(y[1] if fresh else y, alone_y[0] if fresh else alone_y)


# ------------------------------------------------------------------------------------------------- test samples


MAKERS = [
    lambda **o: Gaussian(dimension=5, **o),
    lambda **o: Gaussian(dimension=5, symmetric=True, **o),
    lambda **o: Teacher(dimension=5, teacher_neurons=3, **o),
    lambda **o: Digits(classes=(3, 8), **o),
    lambda **o: Patches(size=8, **o),
]
RAW = {"samples": 30, "center": False, "scale": "none"}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("fresh", [True, False])
def test_test_samples_are_none_of_those_trained_on(make, fresh):
    task = make(test_samples=20, fresh=fresh, **RAW)
    pool = task.pool()
    X, _ = task.sample(pool, 1, 4)
    test_X, test_y = task.test_samples_of(pool, 1, np.array([4, 5]))
    assert test_X.shape == ((2, 20, task.inputs()) if fresh else (20, task.inputs()))
    assert test_y.shape == test_X.shape[:-1] and set(np.unique(test_y)) == {-1.0, 1.0}
    first = test_X[0] if fresh else test_X
    both = {x.tobytes() for x in first} & {x.tobytes() for x in X}
    assert not both and len({x.tobytes() for x in first}) == 20
    assert not fresh or not np.array_equal(test_X[0], test_X[1])


@pytest.mark.parametrize("make", MAKERS)
def test_training_samples_do_not_hang_on_test_samples(make):
    pool = make(**RAW).pool()
    for network in (0, SHARED):
        (X, y), (other_X, other_y) = (make(test_samples=t, **RAW).draw(pool, Stream(1, "data", network)) for t in (0, 20))
        assert np.array_equal(X, other_X) and np.array_equal(y, other_y)


@pytest.mark.parametrize("make", MAKERS)
def test_test_samples_go_through_the_preparation_of_the_training_samples(make):
    options = {"samples": 30, "test_samples": 8}
    task, raw = make(**options), make(**options, center=False, scale="none")
    pool = task.pool()
    X, _ = raw.sample(pool, 1, 3)
    (test_X,), (test_y,) = raw.test_samples_of(pool, 1, np.array([3]))
    factor = np.sqrt(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean())
    (found,), (labels,) = task.test_samples_of(pool, 1, np.array([3]))
    assert np.abs(found - (test_X - X.mean(axis=0)) / factor).max() < 1e-12 and np.array_equal(labels, test_y)


def test_permuting_labels_leaves_those_of_test_samples_true():
    task = Gaussian(dimension=5, samples=30, test_samples=40, permute_labels=True, center=False, scale="none")
    X, y = task.test_samples_of({}, 1, np.array([3]))
    assert np.array_equal(y, np.sign(X[:, :, 0]))


def test_without_test_samples_there_is_nothing_to_test_on():
    with pytest.raises(StudyError, match=r"task.test_samples: is 0"):
        Gaussian(dimension=5, samples=30).test_samples_of({}, 1, np.array([3]))


def test_more_test_samples_than_are_left_is_a_sentence():
    message = r"task.test_samples: classes 3 and 8 have 357 images together, fewer than the 358 asked for, 300 of them to"
    with pytest.raises(StudyError, match=message):
        Digits(classes=(3, 8), samples=300, test_samples=58).pool()
    task = Digits(classes=(3, 8), samples=300, test_samples=57)
    assert task.test_samples_of(task.pool(), 1, np.array([0]))[0].shape == (1, 57, 64)


def test_symmetric_test_samples_are_an_even_number():
    with pytest.raises(ValidationError, match="test_samples must be even"):
        Gaussian(dimension=5, samples=8, test_samples=3, symmetric=True)


def test_the_bits_of_prepared_samples():
    """Also those of whitening: no linear algebra of another library is in them."""
    found = hashlib.sha256()
    for task in (Gaussian(dimension=9, samples=40, test_samples=6, whiten=True),
                 Gaussian(dimension=9, samples=6, test_samples=6, whiten=True, center_samples=True, scale="unit-norm"),
                 Teacher(dimension=5, samples=20, test_samples=6, teacher_neurons=4, labels="value", loss="mse")):
        for of in (task.samples_of, task.test_samples_of):
            for array in of({}, 3, np.arange(5)):
                found.update(array.tobytes())
    assert found.hexdigest() == GOLDEN, "if they are to change, raise the version of the tasks, or ENGINE"
