"""Manifolds as tasks: points on them, tangent bases by differences, nearest points by brute force, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mcrace.seeds import Stream
from mcrace.tasks import Ellipsoid, Manifold, Paraboloid, Sphere, Subspace, SwissRoll, Torus, shapes
from mcrace.tasks.manifolds import rotation

KINDS = [Subspace, Sphere, Ellipsoid, Torus, SwissRoll, Paraboloid]
LABELS = ["linear", "odd", "even", "radial"]


def manifold(kind, **options):
    return kind(**{"dimension": 9, "samples": 60, "intrinsic": 2, **options})


def points(task, count, seed=0):
    """Points of a manifold, and their intrinsic coordinates."""
    return task.model_copy(update={"samples": count}).points(Stream(3, "data", seed))


def near(task, seed, spread):
    """Points of a manifold, and points off it."""
    Z, _ = points(task, 12, seed)
    return Z, Z + spread * np.abs(Z).mean() * np.random.default_rng(seed).normal(size=Z.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_lie_on_the_manifold_and_intrinsic_coordinates_are_standardised(kind):
    task = manifold(kind)
    Z, U = points(task, 20_000)
    assert np.abs(task.feet(Z) - Z).max() < 1e-12
    assert np.abs(U.mean(axis=0)).max() < 0.04 and np.abs((U**2).mean(axis=0) - 1).max() < 0.05
    assert (Z**2).sum(axis=1).mean() == pytest.approx(task.mean_square(), rel=0.02)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(1, 5), st.integers(0, 10**6), st.floats(0.0, 2.0))
def test_the_way_to_the_nearest_point_is_at_right_angles_to_the_tangents(kind, k, seed, spread):
    task = manifold(kind, intrinsic=2 if kind in (Torus, SwissRoll) else k)
    _, off = near(task, seed, spread)
    feet = task.feet(off)
    T, way = task.tangents(feet), off - feet
    if kind is SwissRoll:  # at an edge the way may go on outwards
        t, h = np.hypot(feet[:, 0], feet[:, 2]), np.abs(feet[:, 1])
        inner = (t > shapes.FIRST_TURN + 1e-9) & (t < shapes.LAST_TURN - 1e-9) & (h < task.height / 2)
        T, way, feet = T[inner], way[inner], feet[inner]
    assert np.abs(np.einsum("nje,nke->njk", T, T) - np.eye(T.shape[1])).max(initial=0) < 1e-14
    assert np.abs(np.einsum("nje,ne->nj", T, way)).max(initial=0) < 1e-7 * (1 + np.abs(way).max(initial=0))
    assert np.abs(task.feet(feet) - feet).max(initial=0) < 1e-12 * (1 + np.abs(feet).max(initial=0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", [0.2, 1.0])
def test_no_point_is_nearer_than_the_nearest(kind, spread):
    task = manifold(kind)
    many, _ = points(task, 20_000, seed=1)
    _, off = near(task, 2, spread)
    ways = np.linalg.norm(off - task.feet(off), axis=1)
    brute = np.array([np.linalg.norm(many - z, axis=1).min() for z in off])
    assert (ways <= brute + 1e-12).all() and np.median(brute - ways) < 0.05 * np.abs(many).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_tangents_are_those_of_differences_on_the_manifold(kind):
    """A small step along a tangent, put back on the manifold, is off it by the square of the step at most."""
    task = manifold(kind)
    Z, _ = points(task, 30, seed=4)
    if kind is SwissRoll:
        Z = Z[np.abs(np.hypot(Z[:, 0], Z[:, 2]) - 3 * np.pi) < 4]
    T = task.tangents(Z)
    for step in (1e-3, 1e-5):
        for j in range(T.shape[1]):
            moved = Z + step * T[:, j]
            assert np.linalg.norm(task.feet(moved) - moved, axis=1).max() < 5 * step**2 + 1e-14


@pytest.mark.parametrize("kind", KINDS)
def test_curvatures_are_those_of_differences(kind):
    """A step along a tangent leaves the manifold by κ/2 of its square; the mean of κ² over directions is that of bases."""
    task = manifold(kind)
    Z, _ = points(task, 20, seed=5)
    if kind is SwissRoll:
        Z = Z[np.abs(np.hypot(Z[:, 0], Z[:, 2]) - 3 * np.pi) < 4]
    T, step = task.tangents(Z), 1e-3
    angles = np.pi * np.arange(8) / 8
    ways = []
    for angle in angles:
        direction = np.cos(angle) * T[:, 0] + np.sin(angle) * T[:, 1]
        ends = [task.feet(Z + s * step * direction) for s in (1, -1)]
        ways.append((ends[0] + ends[1] - 2 * Z) / step**2)
    normal = np.stack(ways)  # II(t, t) [angle, point, coordinate]
    mean, square = (normal.mean(axis=0) ** 2).sum(axis=1), (normal**2).sum(axis=2).mean(axis=0)
    # κ(α) = H + R cos 2(α - α_0), of which the mean is H and that of squares H² + R²/2; κ_1² + κ_2² = 2H² + 2R²
    assert task.curvatures(Z) == pytest.approx(np.sqrt(2 * square - mean), rel=1e-4, abs=1e-4)


def test_nearest_points_where_several_are_as_near():
    assert shapes.ellipsoid_feet(np.zeros((1, 3)), np.array([1.0, 0.4, 0.7])).tolist() == [[0, 0.4, 0]]
    assert shapes.ellipsoid_feet(np.zeros((1, 3)), np.ones(3)) == pytest.approx(np.array([[1.0, 0, 0]]))
    inside = shapes.ellipsoid_feet(np.array([[0.1, 0.0]]), np.array([1.0, 0.5]))[0]
    assert inside == pytest.approx([0.1 / 0.75, 0.5 * np.sqrt(1 - (0.1 / 0.75) ** 2)])
    assert shapes.torus_feet(np.zeros((1, 3)), 0.5).tolist() == [[0.5, 0, 0]]
    assert shapes.torus_feet(np.array([[0.0, 1.0, 0.0]]), 0.5).tolist() == [[0, 1.5, 0]]
    apex, ring = shapes.paraboloid_feet(np.array([[9.0, 0, 0, 1.9], [9.0, 0, 0, 4.0]]), 0.5, 2.0)
    assert apex.tolist() == [2, 0, 0, 0] and ring == pytest.approx([2, np.sqrt(8), 0, 2])


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.floats(-900, 900))
def test_sine_and_cosine(t):
    assert shapes.sine_and_cosine(t) == pytest.approx((np.sin(t), np.cos(t)), abs=1e-13)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(0, 6), st.integers(0, 10**6))
def test_rotations_are_orthogonal(columns, more, seed):
    Q = rotation(np.random.default_rng(seed).normal(size=(columns, columns + more)))
    assert np.abs(np.einsum("ei,ej->ij", Q, Q) - np.eye(columns)).max() < 1e-14


def test_rotations_have_no_preferred_direction():
    Q = np.array([rotation(np.random.default_rng(seed).normal(size=(2, 3))) for seed in range(4000)])
    assert np.abs(Q.mean(axis=0)).max() < 0.04 and np.abs((Q**2).mean(axis=0) - 1 / 3).max() < 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"scale": "none"}, {"center": True}, {"noise": 0.3}, {"fresh_embedding": True}])
def test_the_embedding_leads_back_to_the_manifold(kind, options):
    task = manifold(kind, **options)
    X, _ = task.sample({}, 5, 2)
    embedding = task.embedding({}, 5, 2)
    raw, _ = task.points(Stream(5, "data", 2))
    found = embedding.coordinates(X)
    assert np.allclose(embedding.inputs(found), X, atol=1e-12) != bool(task.noise)
    if not task.noise:
        assert found == pytest.approx(raw, abs=1e-12 * (1 + np.abs(raw).max()))
    assert (np.abs(task.embedding({}, 5, 3).basis - embedding.basis).max() > 0) == task.fresh_embedding


@pytest.mark.parametrize("labels", LABELS)
def test_labels_follow_from_intrinsic_coordinates(labels):
    task = manifold(Paraboloid, labels=labels, axis="random", samples=4000)
    _, y = task.sample({}, 1, 0)
    Z, U = task.points(Stream(1, "data", 0))
    b = task._laid(Stream(1, "data", 0), 2)[1]
    assert b == pytest.approx(task._laid(Stream(1, "data", 7), 2)[1]) and np.linalg.norm(b) == pytest.approx(1)
    s = U @ b
    score = {"linear": s, "odd": s**3 - 3 * s, "even": s**2 - 1, "radial": (Z**2).sum(axis=1) - task.mean_square()}[labels]
    assert np.array_equal(y, np.sign(score)) and 0.2 < (y > 0).mean() < 0.8


def test_noise_leaves_the_manifold_by_its_length():
    task = manifold(Sphere, noise=0.3, samples=4000, scale="none")
    quiet = manifold(Sphere, samples=4000, scale="none")
    away = task.sample({}, 1, 0)[0] - quiet.sample({}, 1, 0)[0]
    assert (away**2).sum(axis=1).mean() == pytest.approx(0.09, rel=0.05) and np.ptp((away**2).mean(axis=0)) < 0.003


@pytest.mark.parametrize("kind, options, message", [
    (Sphere, {"whiten": True}, "whiten would bend the manifold"),
    (Sphere, {"center_samples": True}, "center_samples would bend"),
    (Torus, {"scale": "unit-norm"}, "would bend"),
    (Sphere, {"labels": "radial"}, "which a sphere has not"),
    (Paraboloid, {"dimension": 3}, "dimension must be at least 4"),
    (Subspace, {"fresh": False, "fresh_embedding": True}, "goes with fresh = true"),
    (Torus, {"intrinsic": 3}, "2"),
    (Torus, {"tube": 1.0}, "less than 1")])
def test_what_would_spoil_the_geometry_is_refused(kind, options, message):
    with pytest.raises(ValidationError, match=message):
        manifold(kind, **options)


def test_manifolds_are_not_centred_unless_asked_for():
    assert not Manifold.model_fields["center"].default
    X, _ = manifold(Paraboloid, samples=500).sample({}, 1, 0)
    assert np.linalg.norm(X.mean(axis=0)) > 0.3


def test_test_samples_lie_on_the_same_manifold():
    task = manifold(Paraboloid, test_samples=20, fresh_embedding=True)
    X, _ = task.test_samples_of({}, 1, np.array([4]))
    embedding = task.embedding({}, 1, 4)
    Z = embedding.coordinates(X[0])
    assert embedding.inputs(Z) == pytest.approx(X[0], abs=1e-12) and task.feet(Z) == pytest.approx(Z, abs=1e-12)
