"""Angles to tangent spaces, the rate of turning, the limiting angle, and the verdicts: on what is known exactly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_observe import snapshot
from test_predictions import Cell

import mcrace
from mcrace.observe import OBSERVABLES
from mcrace.predictions import PREDICTIONS
from mcrace.predictions.base import Evidence
from mcrace.predictions.limiting_angle import drift_of, limiting_angle, limiting_drift
from mcrace.predictions.tangent_convergence import (
    DRIFT,
    TangentOptions,
    angles,
    coefficient,
    law_of,
    span_slopes,
    start_in_span,
)
from mcrace.statistics import slopes_within_many, slopes_within_two
from mcrace.tasks import Ellipsoid, Paraboloid, Sphere, Subspace, SwissRoll, Torus

KINDS = [Subspace, Sphere, Ellipsoid, Torus, SwissRoll, Paraboloid]


def on(kind, networks=3, neurons=8, seed=0, **options):
    """A snapshot of networks on a manifold."""
    task = kind(**{"dimension": 7, "samples": 40, "intrinsic": 2, "fresh_embedding": True, **options})
    X, y = task.samples_of({}, 1, np.arange(networks))  # as those of the networks of a run
    rng = np.random.default_rng(seed)
    W, v = rng.normal(size=(networks, neurons, 7)), rng.normal(size=(networks, neurons))
    return task, snapshot(W, v, X, y, task=task)


def value(name, state):
    with np.errstate(all="ignore"):
        return OBSERVABLES[name].compute(state)


def sine(w, rows):
    """sin of the angle of w to the span of rows."""
    Q = np.linalg.svd(rows, full_matrices=False)
    basis = Q[2][Q[1] > 1e-10 * Q[1][0]]
    return np.linalg.norm(w - basis.T @ (basis @ w)) / np.linalg.norm(w)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"center": True, "noise": 0.1}])
def test_angles_are_those_of_brute_force(kind, options):
    task, state = on(kind, **options)
    names = ("tangent_sine_active", "tangent_sine_centre", "tangent_sine_nearest", "cone_sine_active", "cone_sine_centre",
             "cone_sine_nearest", "drift_sine_centre")
    found = {name: value(name, state) for name in names}
    for i in range(3):
        e, X = task.embedding({}, 1, i), state.X[i]
        spaces = lambda Z, e=e: [e.basis @ t.T for t in task.tangents(task.feet(Z))]
        at = lambda Z, e=e: (e.basis @ task.feet(Z).T).T - e.shift
        centre = task.centre(e.coordinates(X.mean(axis=0)[None]))
        for a in np.flatnonzero(state.active[i]):
            w = state.W[i, a]
            mean = e.coordinates(X[X @ w > 0].mean(axis=0)[None])
            data = e.coordinates(X)
            for base, Z in (("active", mean), ("centre", centre), ("nearest", data)):
                T, points = spaces(Z), at(Z)
                assert found[f"tangent_sine_{base}"][i, a] == pytest.approx(min(sine(w, t.T) for t in T), abs=1e-9)
                cone = min(sine(w, np.vstack([t.T, p])) for t, p in zip(T, points))
                assert found[f"cone_sine_{base}"][i, a] == pytest.approx(cone, abs=1e-7)
            assert found["drift_sine_centre"][i, a] == pytest.approx(sine(state.drift[i, a], spaces(centre)[0].T), abs=1e-7)


@pytest.mark.parametrize("shared", [False, True])
def test_angles_do_not_depend_on_the_batch(shared):
    task, state = on(Paraboloid, fresh=not shared, fresh_embedding=not shared)
    for name in ("tangent_sine_active", "tangent_sine_centre", "tangent_sine_nearest", "cone_sine_centre", "drift_sine_centre",
                 "curvature", "gate_share"):
        whole = value(name, state)
        for i in range(3):
            X, y = (state.X, state.y[0]) if shared else (state.X[i : i + 1], state.y[i : i + 1])
            one = snapshot(state.W[i : i + 1], state.v[i : i + 1], X, y, first=i, task=task)
            assert np.array_equal(value(name, one)[0], whole[i], equal_nan=True)


def test_without_a_manifold_there_are_no_angles():
    rng = np.random.default_rng(0)
    state = snapshot(rng.normal(size=(2, 3, 4)), np.ones((2, 3)), rng.normal(size=(5, 4)), np.ones(5))
    assert np.isnan(value("tangent_sine_centre", state)).all() and np.isnan(value("curvature", state)).all()
    assert value("gate_share", state) == pytest.approx((np.einsum("imd,nd->imn", state.W, state.X) > 0).mean(axis=2))


def test_on_a_sphere_vectors_are_radial_at_their_own_foot_point_and_in_the_tangent_space_of_some_sample():
    task, state = on(Sphere, samples=20_000, networks=1, neurons=4)
    e = task.embedding({}, 1, 0)
    inside = state.with_weights(np.einsum("de,nme->nmd", e.basis, np.random.default_rng(1).normal(size=(1, 4, 3))), state.v)
    assert np.arcsin(value("tangent_sine_active", inside)).min() > np.pi / 2 - 0.05
    assert value("tangent_sine_nearest", inside).max() < 1e-3 and value("cone_sine_active", inside).max() < 1e-12


def test_dead_neurons_have_no_base_point_of_their_own():
    _, state = on(Paraboloid, offset=50.0, curvature=0.0)
    dead = ~state.active
    assert 0 < dead.sum() < dead.size
    for name in ("tangent_sine_active", "curvature"):
        assert np.array_equal(np.isnan(value(name, state)), dead)
    assert (value("gate_share", state)[dead] == 0).all() and np.isfinite(value("tangent_sine_centre", state)).all()


def test_curvature_is_that_among_prepared_inputs():
    _, state = on(Sphere)
    assert value("curvature", state) == pytest.approx(np.ones((3, 8)))  # the mean of |x|² is 1 on the unit sphere
    task, state = on(Torus)
    assert value("curvature", state).min() > 1 / task.tube / np.sqrt(2)


# ------------------------------------------------------------------------------------------------- the rate


def turned(state, steps, size):
    """Paths over explicit midpoint steps along drifts that are held, as at fixed gates, of unit length times a rate."""
    names = ("turning_rate", "turning_rate_whole", "turning_drift", "turning_gates")
    paths = {name: OBSERVABLES[name].path for name in names}
    carried = {name: p.begin(state) for name, p in paths.items()}
    D, now = state.drift, state
    for k in range(1, steps + 1):
        W, v = now.W, now.v
        middle, other = W + size / 2 * v[:, :, None] * D, v + size / 2 * (W * D).sum(axis=2)
        W, v = W + size * other[:, :, None] * D, v + size * (middle * D).sum(axis=2)
        now = replace(now.with_weights(W, v), time=np.full(len(W), k * size))
        now.__dict__["_with_drift"] = (state.outputs, D, state.active)
        for name, p in paths.items():
            p.follow(carried[name], now)
    return {name: p.end(carried[name]) for name, p in paths.items()}


def test_at_a_fixed_drift_neurons_turn_at_the_rate_of_its_length():
    """tan(δ/2) = tan(δ_0/2) e^{-τ} (THEORY.md, fixed-gate-race)."""
    _, state = on(Sphere, neurons=6)
    state = state.with_weights(state.W, np.sign(state.v) * np.linalg.norm(state.W, axis=2))
    length = np.linalg.norm(state.drift, axis=2)
    found = turned(state, 600, 2.2 / length.min() / 600)
    assert found["turning_drift"] == pytest.approx(length)
    assert found["turning_rate"] == pytest.approx(length, rel=1e-3)
    assert found["turning_rate_whole"] == pytest.approx(length, rel=1e-3)
    early = turned(state, 600, 1.9 / length.max() / 600)
    assert all(np.isnan(values).all() for values in early.values()), "no neuron has come to the end of its window"


# ------------------------------------------------------------------------------------------------- the limiting angle


@settings(derandomize=True, deadline=None, max_examples=8)
@given(st.integers(1, 6), st.floats(-1, 1), st.floats(-1.5, 1.5), st.integers(0, 1000))
def test_the_drift_of_the_law_is_that_of_many_samples(k, curvature, offset, seed):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=3)
    u = rng.normal(size=(400_000, k))
    square, r = (u**2).sum(axis=1), np.sign(u[:, 0]) / 2
    g = offset * w[0] + u[:, 0] * w[1] + curvature / 2 * square * w[2] > 0
    expected = np.mean([offset * r * g, r * u[:, 0] * g, curvature / 2 * square * r * g], axis=1)
    assert drift_of(w, k, curvature, offset) == pytest.approx(expected, abs=5e-3 * (1 + k / 2))


@pytest.mark.parametrize("k, curvature, offset", [(1, 0.5, 1.0), (2, 0.5, 1.0), (2, 0.25, 1.0), (5, 0.5, 0.5), (2, -0.5, -1.0)])
def test_the_limit_points_along_its_own_drift(k, curvature, offset):
    D = np.array(limiting_drift(k, curvature, offset))
    again = drift_of(D / np.linalg.norm(D), k, curvature, offset)
    assert again / np.linalg.norm(again) == pytest.approx(D / np.linalg.norm(D), abs=1e-9)
    tan = np.hypot(D[0], D[2]) / abs(D[1])
    assert np.tan(limiting_angle(k, curvature, offset)) == pytest.approx(tan)
    assert limiting_angle(k, curvature, offset) == pytest.approx(limiting_angle(k, -curvature, offset))


def test_the_limit_is_the_tangent_space_only_where_it_is_flat_and_goes_through_the_origin():
    assert limiting_angle(3, 0.0, 0.0) == 0
    assert min(limiting_angle(2, 0.5, 0.0), limiting_angle(2, 0.0, 1.0)) > 0.4
    assert limiting_angle(2, 0.0, 1.0, cone=True) == 0 and 0.2 < limiting_angle(2, 0.5, 1.0, cone=True) < 0.4


# ------------------------------------------------------------------------------------------------- the statistics


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_slopes_on_many_regressors_are_those_of_least_squares(seed, count):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, 3, 12)), rng.normal(size=(3, 12))
    x[0, 0, 2] = np.nan
    found = slopes_within_many(list(x), y, np.zeros((3, 12), int))
    for i in range(3):
        used = np.isfinite(x[:, i]).all(axis=0)
        A = np.column_stack([np.ones(used.sum()), *x[:, i, used]])
        assert found[:, i] == pytest.approx(np.linalg.lstsq(A, y[i, used], rcond=None)[0][1:])
    if count == 2:
        assert found == pytest.approx(np.array(slopes_within_two(*x, y, np.zeros((3, 12), int))))


def test_regressors_that_say_the_same_have_no_slopes():
    x = np.random.default_rng(0).normal(size=(2, 9))
    x2 = x.copy()
    x2[1] = np.random.default_rng(1).normal(size=9)
    found = slopes_within_many([x, 2 * x2], x, np.zeros((2, 9), int))
    assert np.isnan(found[:, 0]).all() and found[:, 1] == pytest.approx([1, 0])


TASK = {"kind": "paraboloid", "labels": "linear", "center": False, "noise": 0.0, "permute_labels": False, "intrinsic": 2,
        "curvature": 0.5, "offset": 1.0}
OTHERS = {"centre": ("active", "nearest"), "nearest": ("active", "centre")}


class Made(Cell):
    """A cell with the angles and rates that it is told."""

    def __init__(self, name, theta, law=(1.0, 0.0, 0.0), task=(), start=1.2, seed=0, networks=60, neurons=20, slope=-1.0):
        rng, shape = np.random.default_rng(seed), (networks, neurons)
        drift, curvature, gates = (rng.uniform(0.5, 1.5, shape) for _ in range(3))
        noise = 0.002 * rng.normal(size=shape)
        at = {("active", s): np.ones(shape, int) for s in ("start", "tau=1", "onset", "level=0.5")}
        growth = {"start": 0, "tau=1": 1, "onset": 5, "level=0.5": 6}
        for state, grown in growth.items():
            at["span_sine", state] = 0.9 * np.exp(slope * grown) * np.ones(shape)
            at["input_norm", state] = np.exp(grown) * np.ones(shape)
            for base in ("tangent_sine_active", "tangent_sine_centre", "tangent_sine_nearest", "cone_sine_centre",
                         "drift_sine_centre"):
                here = start if state == "start" else theta
                at[base, state] = np.sin(here + noise if "drift" not in base else theta + 0.5 * noise)
        super().__init__(name, at=at)
        y = law[0] * np.log(drift) + law[1] * curvature + law[2] * gates
        self.variables = {"turning_rate": np.exp(y), "turning_rate_whole": np.exp(y), "turning_drift": drift,
                          "turning_curvature": curvature, "turning_gates": gates}
        self.config["task"] = {**TASK, **dict(task)}
        self.config["network"]["init"]["scale"] = 1e-6

    def __getitem__(self, name):
        return self.variables[name] if name in self.variables else super().__getitem__(name)


FLAT = {"curvature": 0.0, "offset": 0.0}


def judged(main, control=None):
    """The verdicts by the beginning of their statistic."""
    evidence = Evidence(1, main, control or Made("flat", 0.0, task=FLAT), None)
    found = PREDICTIONS["tangent-convergence"].judge(evidence, TangentOptions())
    return {v.statistic: v for v in found}


def test_a_limit_at_the_law_refutes_the_text_and_supports_the_law():
    found = judged(Made("main", limiting_angle(2, 0.5, 1.0)))
    first = next(iter(found.values()))
    assert first.primary and first.verdict == "refuted" and first.control.failed
    assert found["angle to T at the apex less θ* [rad]"].verdict == "supported"
    assert found["angle to T at the apex less θ*, control: t = 0 [rad]"].verdict == "supported"
    assert found["angle to T at the apex on flat [rad]"].verdict == "supported"
    assert found["log rate: coefficient of log |D_a|"].verdict == "supported"
    beside = found["log rate: coefficient of gate share beside log |D_a|"]
    assert beside.estimate == pytest.approx(0, abs=1e-9) and not beside.control.failed and beside.verdict != "supported"


def test_a_limit_elsewhere_refutes_the_law():
    found = judged(Made("main", 0.5))
    assert found["angle to T at the apex less θ* [rad]"].verdict == "refuted"
    assert judged(Made("main", 0.0))["angle to T at the centre (B) [rad]"].verdict == "supported"


def test_where_every_vector_of_the_span_is_in_a_tangent_space_nothing_is_said():
    main = Made("main", 1e-4, task={"kind": "sphere"}, start=np.arcsin(0.9))
    first = next(iter(judged(main).values()))
    assert first.primary and first.verdict == "not discriminating" and "(C)" in first.statistic


@pytest.mark.parametrize("law, name, verdict", [
    ((1.0, 0.0, 0.0), "log |D_a|", "supported"), ((0.8, 0.0, 0.0), "log |D_a|", "refuted"),
    ((1.0, 0.2, 0.0), "curvature beside log |D_a|", "refuted"), ((1.0, 0.0, -0.2), "gate share beside log |D_a|", "refuted")])
def test_what_sets_the_rate(law, name, verdict):
    found = judged(Made("main", 0.5, law))[f"log rate: coefficient of {name}"]
    assert found.verdict == verdict and (found.control.failed or verdict == "refuted")


def test_shuffled_drifts_explain_nothing():
    main, names = Made("main", 0.5), (DRIFT, "curvature", "gate share")
    rng = np.random.default_rng(0)
    assert coefficient(DRIFT, names, main) == pytest.approx(np.ones(60))
    assert abs(np.mean(coefficient(DRIFT, names, main, shuffle=rng))) < 0.1


@pytest.mark.parametrize("slope, verdict", [(-1.0, "supported"), (-0.5, "refuted"), (-1.01, "refuted"), (-0.99, "refuted")])
def test_sines_to_the_span_fall_as_norms_grow(slope, verdict):
    found = judged(Made("main", 0.5, slope=slope))["slope of log sin θ to the span on log |w|"]
    assert found.verdict == verdict and found.estimate == pytest.approx(slope) and found.control.failed


def test_angles_and_slopes_of_networks():
    cell = Made("main", 0.5)
    assert angles("tangent_sine_centre", cell) == pytest.approx(np.full(60, 0.5), abs=5e-3)
    assert span_slopes(cell) == pytest.approx(np.full(60, -1.0))
    assert start_in_span("span_sine", cell) == pytest.approx(np.zeros(60))
    assert law_of(cell) == pytest.approx(0.568, abs=1e-3)
    for other in ({"kind": "sphere"}, {"labels": "even"}, {"center": True}, {"noise": 0.1}, {"permute_labels": True}):
        assert law_of(Made("main", 0.5, task=other)) is None


@pytest.mark.parametrize("change, why", [({"kind": "gaussian"}, "no manifold"), ({}, "before neurons have turned")])
def test_what_the_law_is_not_about(change, why):
    main = Made("main", 0.5, task=change)
    if not change:
        main.config["network"]["init"]["scale"] = 1.0
    found = list(judged(main).values())
    assert len(found) == 1 and found[0].verdict == "not testable here" and why in found[0].note


# ------------------------------------------------------------------------------------------------- a real run

STUDY = """
[study]
name = "tangent"
seeds = {seeds}
entropy = 20260206
[task]
kind = "paraboloid"
intrinsic = 2
dimension = {dimension}
samples = {samples}
fresh_embedding = true
[network]
hidden = [{hidden}]
init = {{ scale = 1e-6 }}
[training]
step_size = 0.1
steps = 3000
until = {{ loss_drop = 0.51 }}
dtype = "float64"
[record]
times = {{ count = {count} }}
[[cells]]
name = "flat"
task.curvature = 0.0
task.offset = 0.0
[[cells]]
name = "sphere"
task.kind = "sphere"
[predictions]
tangent-convergence = {{ control = "flat" }}
"""


def run(directory, **values):
    """The verdicts by cell and statistic."""
    results = mcrace.run(mcrace.parse_study(STUDY.format(**values)), directory / "results", workers=0)
    return {(v.cell, v.statistic): v for v in mcrace.test(results)}, results


@pytest.mark.laws
def test_weights_converge_to_the_span_and_to_their_drift_and_not_to_the_tangent_space(tmp_path):
    found, _ = run(tmp_path, seeds=32, dimension=6, samples=2000, hidden=16, count=80)
    for cell in ("main", "sphere"):
        slope = found[cell, "slope of log sin θ to the span on log |w|"]
        assert slope.verdict == "supported" and abs(slope.estimate + 1) < 1e-3
    claim, law = found["main", "angle to T at the centre (B) [rad]"], found["main", "angle to T at the apex less θ* [rad]"]
    assert claim.verdict == "refuted" and claim.low > 0.5
    assert law.verdict == "supported" and -0.03 < law.low < law.high < 0.03 and law.control.failed
    flat = found["main", "angle to T at the apex on flat [rad]"]
    assert flat.verdict == "supported" and flat.high < 1e-3 and flat.control.low > 0.5
    assert found["main", "log rate: coefficient of log |D_a|"].verdict == "supported"
    assert found["main", "log rate: coefficient of log |D_a|"].control.high < 0.5
    nearest = found["sphere", "angle to T nearest of all (C) [rad]"]
    assert nearest.verdict == "not discriminating" and nearest.high < 0.01
    radial = found["sphere", "angle to T at the neuron's active samples (A) [rad]"]
    assert radial.low > 1.4 and "says nothing" in radial.note
