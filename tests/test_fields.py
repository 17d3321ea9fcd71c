"""Networks that move along a field: gradients of any activation, and of a population, against independent computations."""

import decimal
import math

import naive
import numpy as np
import pytest
from numba import njit

from mcrace.kernels import NEVER, Dynamics, FieldNetworks, MarkTable, OneLayerNetworks, Population, PopulationSamples, samples
from mcrace.kernels.dynamics import half_sphere_mean, mean_power
from mcrace.kernels.elementary import arctan, tanh
from mcrace.kernels.field_networks import population_drifts
from mcrace.kernels.lanes import lane_count
from mcrace.kernels.tiles import load, own, store

ACTIVATIONS = [("relu", 0.0), ("leaky-relu", 0.1), ("softplus", 3.0), ("tanh", 0.0)]
EACH = pytest.mark.parametrize("activation, parameter", ACTIVATIONS)
CONTEXT = decimal.Context(prec=60)
NETWORKS, NEURONS, INPUTS, SAMPLES = 11, 6, 3, 9  # none of them a multiple of what kernels take at once


def problem(seed, kind="mse", shared=False):
    """Weights, samples and labels."""
    rng = np.random.default_rng(seed)
    W, v = rng.normal(size=(NETWORKS, NEURONS, INPUTS)), rng.normal(size=(NETWORKS, NEURONS))
    X = rng.normal(size=(SAMPLES, INPUTS) if shared else (NETWORKS, SAMPLES, INPUTS))
    y = np.sign(rng.normal(size=X.shape[:-1]))
    return W, v, X, y if kind == "logistic" else y * rng.normal(size=y.shape)


def teacher(seed=3, networks=None):
    """A population with labels of four neurons."""
    rng = np.random.default_rng(seed)
    units = rng.normal(size=(4, INPUTS) if networks is None else (networks, 4, INPUTS))
    return Population(units, np.array([0.5, -0.5, 0.5, -0.5]))


def invariant(d):
    """A population with labels |x|."""
    return Population(np.empty((0, d)), np.empty(0), radial=mean_power(d, 2) * half_sphere_mean(d), square=float(d))


# ------------------------------------------------------------------------------------------------- functions


@njit(error_model="numpy")
def both(x, one, two):
    """tanh and arctan of x [vector, lane]."""
    a, b, c = own(x, 0, 1, len(x)), own(one, 0, 1, len(x)), own(two, 0, 1, len(x))
    for n in range(len(x)):
        store(b, 0, n, tanh(load(a, 0, n, 1, 1)))
        store(c, 0, n, arctan(load(a, 0, n, 1, 1)))


def test_tanh_and_arctan_to_a_few_ulp():
    rng = np.random.default_rng(0)
    ends = [0, 1, 400, 1e300, -0.35, 0.175]
    x = np.concatenate([rng.normal(size=500), np.exp(rng.uniform(-30, 3, 500)), rng.uniform(0, 1, 1002), ends])
    lanes = lane_count(np.float64)
    found, arcs = np.empty((2, len(x) // lanes, lanes))
    both(x.reshape(-1, lanes), found, arcs)
    for value, at in zip(found.reshape(-1), x):
        e = CONTEXT.exp(decimal.Decimal(2 * min(at, 100)))
        exact = CONTEXT.divide(CONTEXT.subtract(e, 1), CONTEXT.add(e, 1))
        assert abs(float(decimal.Decimal(value) - exact)) <= 4 * np.spacing(abs(float(exact)))
    inside = (x >= 0) & (x <= 1)
    exact = np.arctan(x[inside])
    assert (np.abs(arcs.reshape(-1)[inside] - exact) <= 4 * np.spacing(exact)).all()


def test_moments_of_gaussian_inputs():
    for d in (1, 2, 3, 10, 401):
        share = math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / (2 * math.sqrt(math.pi))
        assert half_sphere_mean(d) == pytest.approx(share, rel=1e-13)
        for power in (0, 1, 2, 3, 6):
            exact = 2 ** (power / 2) * math.exp(math.lgamma((d + power) / 2) - math.lgamma(d / 2))
            assert mean_power(d, power) == pytest.approx(exact, rel=1e-12)


# ------------------------------------------------------------------------------------------------- samples


@EACH
@pytest.mark.parametrize("kind", ["mse", "logistic"])
def test_descent_is_that_of_plain_numpy(activation, parameter, kind):
    W, v, X, y = problem(1, kind)
    networks = FieldNetworks(W, v, X, y, kind, "float64", dynamics=Dynamics(activation, parameter), decay=0.01, momentum=0.5)
    networks.advance(0, np.array([0.1, 0.2, 0.05]))
    for i, (w, u) in enumerate(zip(W, v)):
        speed, slow = np.zeros_like(w), np.zeros_like(u)
        for eta in (0.1, 0.2, 0.05):
            D, dv, _ = naive.slopes(w, u, X[i], y[i], kind, activation, parameter)
            speed, slow = 0.5 * speed + eta * (u[:, None] * D - 0.01 * w), 0.5 * slow + eta * (dv - 0.01 * u)
            w, u = w + speed, u + slow
        assert np.abs(networks.weights()[0][i] - w).max() < 1e-12 and np.abs(networks.weights()[1][i] - u).max() < 1e-12
        assert np.abs(networks.velocities()[0][i] - speed).max() < 1e-12


@EACH
def test_gradients_are_those_of_finite_differences(activation, parameter):
    W, v, X, y = problem(2, "logistic")
    step = 1e-6
    _, D, _ = samples(X, y, "logistic", Dynamics(activation, parameter)).evaluate(W, v)
    for a in range(NEURONS):
        for k in range(INPUTS):
            shift = np.zeros_like(W)
            shift[:, a, k] = step
            ahead, behind = ([naive.slopes(*one, "logistic", activation, parameter)[2] for one in zip(W + s, v, X, y)]
                             for s in (shift, -shift))
            assert np.abs((np.array(behind) - ahead) / (2 * step) - v[:, a] * D[:, a, k]).max() < 1e-8


def test_relu_moves_as_in_its_own_kernel():
    W, v, X, y = problem(3, shared=True)
    found = []
    for kernel in (FieldNetworks, OneLayerNetworks):
        networks = kernel(W, v, X, y, "mse", "float32", MarkTable.none(NETWORKS))
        networks.advance(0, np.full(20, 0.05))
        found.append(networks.weights())
    assert all(np.abs(a - b).max() < 1e-5 for a, b in zip(*found))


def test_signs_are_followed_by_the_step_alone():
    W, v, X, y = problem(4)
    W[0, 0] = 0  # a dead neuron without an output
    v[0, 0] = 0
    networks = FieldNetworks(W, v, X, y, "mse", "float64", dynamics=Dynamics(method="sign"))
    networks.advance(0, np.full(1, 0.125))
    for i in range(NETWORKS):
        D, dv, _ = naive.slopes(W[i], v[i], X[i], y[i], "mse", "relu", 0.0)
        assert np.abs(networks.weights()[0][i] - W[i] - 0.125 * np.sign(v[i][:, None] * D)).max() < 1e-15
        assert np.abs(networks.weights()[1][i] - v[i] - 0.125 * np.sign(dv)).max() < 1e-15
    assert not networks.weights()[0][0, 0].any() and networks.weights()[1][0, 0] == 0


@pytest.mark.parametrize("method", ["descent", "flow", "adaptive"])
def test_no_network_can_tell_its_company_nor_where_one_looks(method):
    W, v, X, y = problem(5)
    dynamics = Dynamics("tanh", 0.0, method)
    together = FieldNetworks(W, v, X, y, "mse", "float64", dynamics=dynamics)
    together.advance(0, np.full(6, 0.25))
    for i in (0, 8, 10):
        alone = FieldNetworks(W[i : i + 1], v[i : i + 1], X[i : i + 1], y[i : i + 1], "mse", "float64", dynamics=dynamics)
        for first in range(0, 6, 2):
            alone.advance(first, np.full(2, 0.25))
        assert all(np.array_equal(a[0], b[i]) for a, b in zip(alone.weights(), together.weights()))


def test_marks_are_met_where_the_loss_of_the_field_says():
    W, v, X, y = problem(6)
    start = np.array([naive.slopes(*one, "mse", "tanh", 0.0)[2] for one in zip(W, v, X, y)])
    marks = MarkTable(np.stack([0.8 * start, 0.5 * start], axis=1), np.full((NETWORKS, 2), NEVER), np.array([True, False]), 1)
    networks = FieldNetworks(W, v, X, y, "mse", "float64", marks, dynamics=Dynamics("tanh", 0.0))
    networks.advance(0, np.full(400, 0.1), look=True)
    for i in range(NETWORKS):
        w, u, seen = W[i], v[i], {}
        for k in range(401):
            D, dv, loss = naive.slopes(w, u, X[i], y[i], "mse", "tanh", 0.0)
            for j, level in enumerate((0.8, 0.5)):
                if loss <= level * start[i]:
                    seen.setdefault(j, (k, w))
            w, u = w + 0.1 * u[:, None] * D, u + 0.1 * dv
        assert networks.met[i].tolist() == [seen.get(j, (-1,))[0] for j in (0, 1)]
        assert np.abs(networks.kept(0)[0][i] - seen[0][1]).max() < 1e-10 and networks.alive[i] == (1 not in seen)


# ------------------------------------------------------------------------------------------------- populations


@pytest.mark.parametrize("networks", [None, NETWORKS])
def test_the_population_gradient_is_that_of_its_loss(networks):
    W, v, *_ = problem(7)
    population, step = teacher(networks=networks), 1e-5
    D, _ = population_drifts(W, v, population)
    for a in range(NEURONS):
        for k in range(INPUTS):
            shift = np.zeros_like(W)
            shift[:, a, k] = step
            ahead, behind = (population_drifts(W + s, v, population)[1] for s in (shift, -shift))
            assert np.abs((behind - ahead) / (2 * step) - v[:, a] * D[:, a, k]).max() < 1e-8


def test_the_population_gradient_is_that_of_integrals_in_the_plane():
    rng = np.random.default_rng(8)
    W, v, units, factors = rng.normal(size=(1, 3, 2)), rng.normal(size=(1, 3)), rng.normal(size=(2, 2)), np.array([1.0, -2.0])
    labels = lambda e: np.maximum(e @ units.T, 0) @ factors - np.maximum(e @ W[0].T, 0) @ v[0]
    D, _ = population_drifts(W, v, Population(units, factors))
    for w, found in zip(W[0], D[0]):
        exact = naive.half_plane_mean(w, labels) * 2 / (3 * math.sqrt(math.pi / 2))  # homogeneous labels: E|x|² in its place
        assert np.abs(found - exact).max() < 1e-8
    D, _ = population_drifts(W, 0 * v, Population(np.empty((0, 2)), np.empty(0), radial=mean_power(2, 3) * half_sphere_mean(2),
                                                  square=8.0))
    for w, found in zip(W[0], D[0]):
        assert np.abs(found - naive.half_plane_mean(w, lambda e: np.ones(len(e)))).max() < 1e-8


def test_scaled_inputs_scale_the_population():
    W, v, *_ = problem(9)
    one, small = teacher(), teacher()
    small = Population(small.units, 10 * small.factors, 0.1)
    (D, loss), (E, less) = population_drifts(W, v, one), population_drifts(10 * W, v, small)
    assert np.abs(E - D / 10).max() < 1e-14 and np.abs(loss - less).max() < 1e-13


def test_neurons_that_are_aligned_or_nothing_lose_no_digits():
    W, v, *_ = problem(10)
    W[0, 1] = W[0, 0] * (1 + 1e-12)
    W[1, 1] = -W[1, 0]
    W[2, 1], v[2, 1] = 0, 0
    D, loss = population_drifts(W, v, teacher())
    merged, total = W.copy(), v.copy()
    total[0, 0], total[0, 1] = v[0, 0] + v[0, 1], 0
    E, alike = population_drifts(merged, total, teacher())
    assert np.isfinite(D).all() and abs(loss[0] - alike[0]) < 1e-11 and np.abs(D[0] - E[0]).max() < 1e-10


def angular_momenta(W, moves):
    """Σ w∧w' of networks, and |J|/(√2 Σ|w||w'|)."""
    J = np.einsum("iak,ial->ikl", W, moves)
    J = J - J.swapaxes(1, 2)
    scale = (np.linalg.norm(W, axis=2) * np.linalg.norm(moves, axis=2)).sum(axis=1)
    return J, np.linalg.norm(J, axis=(1, 2)) / (math.sqrt(2) * scale)


def test_the_flow_of_an_invariant_population_has_no_angular_momentum():
    rng = np.random.default_rng(11)
    for d in (2, 5, 20):
        W, v = rng.normal(size=(40, 30, d)), rng.normal(size=(40, 30))
        D, _ = population_drifts(W, v, invariant(d))
        assert angular_momenta(W, v[:, :, None] * D)[1].max() < 1e-14
    D, _ = population_drifts(W, v, Population(np.eye(20)[:1], np.ones(1)))
    assert angular_momenta(W, v[:, :, None] * D)[1].min() > 1e-3  # a label with a direction


@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_a_heavy_ball_loses_angular_momentum_by_its_friction(momentum):
    rng = np.random.default_rng(12)
    W, v, U, u = (rng.normal(size=shape) for shape in ((20, 12, 4), (20, 12), (20, 12, 4), (20, 12)))
    networks = FieldNetworks(W, v, None, None, "mse", "float64", momentum=momentum, velocity=(0.01 * U, 0.01 * u),
                             population=invariant(4))
    J, _ = angular_momenta(W, 0.01 * U)
    for k in range(1, 6):
        networks.advance(20 * (k - 1), np.full(20, 0.02))
        now, _ = angular_momenta(networks.weights()[0], networks.velocities()[0])
        expected = momentum ** (20 * k) * J
        assert np.abs(now - expected).max() < 1e-10 * np.abs(expected).max() + 1e-14
    assert np.abs(networks.weights()[0] - W).max() > 0.1


def test_samples_of_a_population_are_for_tests_only():
    W, v, X, y = problem(13)
    X, W[0, 0] = np.abs(X), -1.0  # a neuron that is on at no sample
    beside = PopulationSamples(X, y, "mse", teacher())
    f, D, active = beside.evaluate(W, v)
    plain, _, on = samples(X, y, "mse").evaluate(W, v)
    assert np.array_equal(f, plain) and np.array_equal(D, population_drifts(W, v, teacher())[0])
    assert active.all() and not on.all()
    assert np.array_equal(beside.mean_loss(W, v), population_drifts(W, v, teacher())[1])
