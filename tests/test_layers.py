"""Layers with biases, residual connections and normalisations: against complex steps, in any company, at the edges."""

import naive
import numpy as np
import pytest

from mcrace.kernels import (
    NEVER,
    LayeredNetworks,
    LayeredSamples,
    Layers,
    MarkTable,
    Norm,
    OneLayerNetworks,
    evaluate_layers,
)
from mcrace.tasks.corruption import Image
from mcrace.tasks.roughness import roughness_of

TOLERANCE = {"float32": 2e-5, "float64": 1e-10}  # of the largest weight
ETAS = np.float32(0.1 / (1 + 0.3 * np.arange(5))).astype(float)
BOTH = pytest.mark.parametrize("dtype", TOLERANCE)
EVERY = ("gain", "shift", "strength")
KINDS = ("layernorm", "r_layernorm", "bayesian_r_layernorm")
NORMS = [Norm("layernorm"), *(Norm(kind, of, 0.7) for kind in KINDS[1:] for of in ("hidden", "input"))]
CASES = [
    (Layers(4, (5,)), "mse"),
    (Layers(3, (7, 5), bias=True), "logistic"),
    (Layers(5, (3, 3, 6), 3, residual=True), "mse"),
    (Layers(2, (5, 1, 1, 3), 2, bias=True, residual=True), "logistic"),
    *((Layers(4, (5,), norm=norm), "mse") for norm in NORMS),
    *((Layers(3, (7, 5), 2, True, norm=norm), "logistic") for norm in NORMS),
    *((Layers(5, (3, 3, 6), 3, residual=True, norm=norm), "mse") for norm in NORMS),
    (Layers(3, (2, 2, 5, 5), 5, True, True, Norm("bayesian_r_layernorm")), "logistic"),
    (Layers(4, (5, 5, 5), residual=True), "mse"),
]


def given(layers, n=2, samples=6, seed=0, shared=False):
    """Weights, samples, labels and E of n networks, exact in float32."""
    rng = np.random.default_rng(seed)
    weights = []
    for name, shape in zip(layers.names, layers.shapes):
        a = rng.normal(size=(n, *shape)) / (np.sqrt(shape[-1]) if len(shape) == 2 else 3)
        weights.append(1 + a if name.startswith("gain") else rng.uniform(0.2, 0.9, n) if name.startswith("strength") else a)
    own = () if shared else (n,)
    X, y = rng.normal(size=(*own, samples, layers.inputs)), rng.choice([-1.0, 1.0], (*own, samples, layers.outputs))
    E = rng.uniform(0, 2, (*own, samples))
    return [w.astype(np.float32).astype(float) for w in weights], *(a.astype(np.float32).astype(float) for a in (X, y, E))


def with_norm(layers, **changes):
    """The same layers with another normalisation."""
    norm = Norm(**(vars(layers.norm) | changes)) if layers.norm else None
    return Layers(**(vars(layers) | {"norm": norm}))


def of(i, *arrays):
    return [a[i] for a in arrays]


def off(found, expected):
    """The largest difference of weights, relative to the largest of them."""
    return max(np.abs(a - b).max() for a, b in zip(found, expected)) / max(np.abs(b).max() for b in expected)


# ------------------------------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("layers, kind", CASES)
def test_everything_that_is_evaluated(layers, kind, eps):
    layers = with_norm(layers, eps=eps)
    weights, X, y, E = given(layers)
    found = evaluate_layers(layers, weights, X, y, kind, E)
    for i in range(2):
        f, layer, gates, sigmas = naive.layered(layers, of(i, *weights), X[i], E[i])
        np.testing.assert_allclose(found.outputs[i], f, rtol=0, atol=1e-12)
        for l, (x, on) in enumerate(zip(layer, gates)):
            np.testing.assert_allclose(found.activations[l][i].T, x, rtol=0, atol=1e-12)
            assert np.array_equal(found.gates[l][i].T, on)
        for l in range(len(layers.hidden) if layers.norm else 0):
            np.testing.assert_allclose(found.sigmas[l][i], np.array(sigmas[l]), rtol=1e-12)
        slopes = naive.layered_slopes(layers, of(i, *weights), X[i], y[i], kind, E[i])
        for name, got, want in zip(layers.names, found.slopes, slopes):
            np.testing.assert_allclose(got[i], want, rtol=0, atol=1e-11, err_msg=name)


@pytest.mark.parametrize(
    "layers, kind, dtype", [(*case, "float64") for case in CASES] + [(*case, "float32") for case in CASES[::3]]
)
def test_training(layers, kind, dtype):
    """Every parameter moves, with decay and momentum or without."""
    for k, (decay, momentum) in enumerate([(0.0, 0.0), (0.25, 0.5)]):
        layers = with_norm(layers, trained=EVERY if k else ("shift", "strength"), eps=0.05)
        weights, X, y, E = given(layers, seed=k + 1, shared=k == 0)
        networks = LayeredNetworks(weights, X, y, kind, dtype, None, decay, momentum, layers=layers, roughness=E)
        networks.advance(0, ETAS[:2])
        networks.advance(2, ETAS[2:])
        data = (X, y, E) if k == 0 else of(1, X, y, E)
        want = naive.layered_train(layers, of(1, *weights), *data[:2], kind, ETAS, data[2], decay, momentum)
        assert off(of(1, *networks.weights()), want) <= TOLERANCE[dtype]


@pytest.mark.parametrize("layers", [Layers(3, (5,), 2), Layers(3, (5, 4), 1, True, norm=Norm("r_layernorm", "input"))])
def test_minibatches(layers):
    layers = with_norm(layers, trained=EVERY)
    rng = np.random.default_rng(3)
    for shared in (False, True):
        weights, X, y, E = given(layers, 3, 9, shared=shared)
        orders = np.array([[rng.permutation(9)[:5] for _ in ETAS] for _ in range(3)], np.int32)
        orders[:, 2, 3:] = -1
        networks = LayeredNetworks(weights, X, y, "mse", "float64", layers=layers, roughness=E)
        networks.advance(0, ETAS, orders=orders)
        for i in range(3):
            data = (X, y, E) if shared else of(i, X, y, E)
            want = naive.layered_train(layers, of(i, *weights), *data[:2], "mse", ETAS, data[2], orders=orders[i])
            assert off(of(i, *networks.weights()), want) <= 1e-10


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: f"{norm.kind}-{norm.of}")
def test_slopes_are_differences_of_the_loss(norm):
    """Central differences of the kernels' own loss, in every weight, with E of x in one and two dimensions."""
    layers, h = Layers(6, (5, 4), 1, True, norm=norm), 1e-5
    weights, X, y, _ = given(layers, 1, seed=4, shared=True)
    places = [(k, index) for k, w in enumerate(weights) for index in np.ndindex(w.shape[1:])]
    moved = [np.repeat(w, 2 * len(places), axis=0) for w in weights]  # up and down by h, a network for each
    for n, (k, index) in enumerate(places):
        moved[k][(2 * n, *index)] += h
        moved[k][(2 * n + 1, *index)] -= h
    for shape in (None, (2, 3)):
        E = roughness_of(X, shape and Image(*shape))
        slopes = evaluate_layers(layers, weights, X, y, "logistic", E).slopes
        losses = [naive.loss(f, y, "logistic") for f in evaluate_layers(layers, moved, X, y, "logistic", E).outputs]
        for n, (k, index) in enumerate(places):
            slope = (losses[2 * n + 1] - losses[2 * n]) / (2 * h)
            assert slope == pytest.approx(slopes[k][(0, *index)], rel=0, abs=1e-9)


@pytest.mark.parametrize("shape", [None, (3, 4), (1, 12), (6, 2)])
def test_roughness(shape):
    X = np.random.default_rng(5).normal(size=(3, 5, 12))
    found = roughness_of(X, shape and Image(*shape), 0.1)
    assert found.shape == (3, 5)
    as_image = None if shape is None or shape[0] == 1 else shape
    assert found[1, 2] == pytest.approx(naive.roughness(X[1, 2], 0.1, as_image), rel=1e-13)


# ------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: f"{norm.kind}-{norm.of}")
def test_weights_are_orthogonal_to_their_slope(norm):
    """<W, ∂L/∂W> = 0 at eps = 0: a network does not change when the weights of a layer grow."""
    layers = Layers(4, (7, 5), 2, norm=Norm(norm.kind, norm.of, eps=0))
    weights, X, y, E = given(layers, 9, 11)
    slopes = evaluate_layers(layers, weights, X, y, "mse", E).slopes
    for W, G in zip(weights[:2], slopes[:2]):
        inner, sizes = (W * G).sum((1, 2)), np.sqrt((W**2).sum((1, 2)) * (G**2).sum((1, 2)))
        assert (sizes > 1e-3).all() and (np.abs(inner) < 1e-13 * sizes).all()


def sigma_of(rate, alpha, E):
    """σ_eff over that of LayerNorm, for E of the input."""
    layers = [Layers(3, (4,), norm=Norm(kind, "input", alpha, 0.0)) for kind in ("bayesian_r_layernorm", "layernorm")]
    weights, X, y, _ = given(layers[0], 1, len(E))
    weights[-1][:] = rate
    bayesian, plain = (evaluate_layers(l, weights, X, y, "mse", E).sigmas[0][0] for l in layers)
    return bayesian / plain


def test_psi():
    """ψ(0) = 0, ψ ≈ t²/2 at small t, and 0 ≤ ψ' ≤ 1."""
    t = np.concatenate([[0], np.logspace(-4, 3, 200)])
    psi = np.log(sigma_of(1.0, 1.0, t))
    assert psi[0] == 0
    small = (t > 3e-3) & (t < 1e-2)
    np.testing.assert_allclose(psi[small], t[small] ** 2 / 2, rtol=0.02)
    np.testing.assert_allclose(psi, np.log1p(t) - t / (1 + t), rtol=0, atol=3e-15 * (1 + psi.max()))
    slope = np.diff(psi[1:]) / np.diff(t[1:])
    assert (slope > -1e-9).all() and (slope <= 1).all()


def test_one_layer_agrees_with_the_kernels_of_one_layer():
    weights, X, y, _ = given(layers := Layers(7, (9,)), 20, 13)
    deep = LayeredNetworks(weights, X, y, "logistic", "float64", layers=layers)
    flat = OneLayerNetworks(weights[0], weights[1][:, 0], X, y[:, :, 0], "logistic", "float64", MarkTable.none(20))
    for networks in (deep, flat):
        networks.advance(0, np.full(50, 0.2))
    W, V = deep.weights()
    assert off((W, V[:, 0]), flat.weights()) < 1e-13


# ------------------------------------------------------------------------------------------------- the same bits


@BOTH
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", [None, Norm("bayesian_r_layernorm", trained=EVERY), Norm("r_layernorm", "input")])
def test_a_network_is_the_same_in_any_company(dtype, residual, norm):
    """Alone, in every lane, in any batch, and whatever chunk of samples is taken at once."""
    layers = Layers(5, (6, 6), 1, True, residual, norm)
    weights, X, y, E = given(layers, 19, 21)

    def trained(some, chunk=None):
        data = (a[some] for a in (X, y))
        networks = LayeredNetworks([w[some] for w in weights], *data, "mse", dtype, layers=layers, roughness=E[some])
        networks.chunk = chunk or networks.chunk
        networks.advance(0, ETAS)
        return networks.weights()

    whole = trained(np.arange(19))
    for some in ([0], [3], [18], [7, 2, 11, 5], list(range(18, 0, -1))):
        assert all(np.array_equal(a, b[some]) for a, b in zip(trained(np.array(some)), whole))
    for chunk in (4, 12):
        assert all(np.array_equal(a, b) for a, b in zip(trained(np.arange(19), chunk), whole))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("norm", [None, Norm("bayesian_r_layernorm", eps=0.0)])
def test_what_is_not_finite_stays_so_and_infects_no_neighbour(norm, bad):
    layers = Layers(5, (6, 3), 2, norm=norm)
    weights, X, y, E = given(layers, 9, 7)
    free = evaluate_layers(layers, weights, X, y, "mse", E)
    ill = [w.copy() for w in weights]
    ill[0][4, 2, 1] = bad
    found = evaluate_layers(layers, ill, X, y, "mse", E)
    well = np.arange(9) != 4
    assert np.array_equal(found.outputs[well], free.outputs[well])
    assert all(np.array_equal(a[well], b[well]) for a, b in zip(found.slopes, free.slopes))
    networks = LayeredNetworks(ill, X, y, "mse", "float32", layers=layers)
    networks.advance(0, ETAS)
    assert np.array_equal(networks.finite, well)


def test_velocities_carry_on():
    layers = Layers(3, (5,), 1, True, norm=Norm(trained=EVERY))
    weights, X, y, _ = given(layers, 9)

    def begun(weights, velocity=None):
        return LayeredNetworks(weights, X, y, "mse", "float64", None, 0.01, 0.75, velocity, layers)

    whole, half = begun(weights), begun(weights)
    whole.advance(0, ETAS)
    half.advance(0, ETAS[:2])
    rest = begun(half.weights(), half.velocities())
    rest.advance(2, ETAS[2:])
    assert all(np.array_equal(a, b) for a, b in zip(whole.weights(), rest.weights()))


def test_marks_stop_and_keep():
    layers = Layers(3, (5,), 1, True, norm=Norm("r_layernorm", trained=EVERY))
    weights, X, y, _ = given(layers, 3)
    marks = MarkTable(np.full((3, 1), -1.0), np.array([[2], [NEVER], [0]]), np.array([True]), 0)
    networks = LayeredNetworks(weights, X, y, "mse", "float64", marks, layers=layers)
    networks.retire(np.array([False, False, False]))
    networks.advance(0, ETAS, look=True)
    assert networks.met[:, 0].tolist() == [2, -1, 0] and networks.alive.tolist() == [False, True, False]
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(networks.kept(0), networks.weights()))
    assert all(np.array_equal(a[2], b[2]) for a, b in zip(networks.weights(), weights))


# ------------------------------------------------------------------------------------------------- the edges


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: f"{norm.kind}-{norm.of}")
def test_units_that_are_all_equal(norm):
    """σ = 0 at eps = 0: z = β, and no slope but those of the shift and of what lies above."""
    layers = Layers(4, (7,), 1, True, norm=Norm(norm.kind, norm.of, eps=0))
    weights, X, y, E = given(layers, 3)
    weights[0][:], weights[2][:] = weights[0][:, :1], weights[2][:, :1]
    found = evaluate_layers(layers, weights, X, y, "mse", E)
    parts, slopes = layers.parts(weights), layers.parts(found.slopes)
    shift = np.maximum(parts.shifts[0], 0)[:, :, None]
    assert np.array_equal(found.activations[0], np.broadcast_to(shift, found.activations[0].shape))
    assert (found.sigmas[0] == 0).all() and np.isinf(found.uncertainties[0]).all()
    assert all((a == 0).all() for a in (slopes.matrices[0], slopes.biases[0], slopes.gains[0], slopes.rates[0]))
    assert all(np.isfinite(a).all() for a in found.slopes) and (slopes.shifts[0] != 0).any()


@BOTH
@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_fewer_units_than_a_window(dtype, units, eps):
    """A single unit is its own mean and its own neighbour: z = β."""
    layers = Layers(4, (units,), norm=Norm("bayesian_r_layernorm", eps=eps, trained=EVERY))
    weights, X, y, _ = given(layers, 3)
    networks = LayeredNetworks(weights, X, y, "mse", dtype, layers=layers)
    networks.advance(0, ETAS)
    assert networks.finite.all()
    if units == 1:
        assert np.array_equal(networks.weights()[0], weights[0])
        x = evaluate_layers(layers, weights, X, y, "mse").activations[0]
        assert np.array_equal(x, np.broadcast_to(np.maximum(weights[3], 0)[:, :, None], x.shape))


def test_roughness_of_constant_and_of_tiny_samples():
    assert (roughness_of(np.full((3, 10), 0.1)) == 0).all() and (roughness_of(np.full((3, 12), 0.1), Image(3, 4)) == 0).all()
    assert roughness_of(np.array([[0.7]])) == 0 and roughness_of(np.array([[0.7]]), Image(1, 1)) == 0
    assert roughness_of(np.array([[0.0, 3.0]])) == pytest.approx(8 / 9)
    assert np.isnan(roughness_of(np.array([[1.0, np.nan, 2.0]]))).all()


def test_a_trained_rate_stays_in_its_range():
    layers = Layers(4, (6,), norm=Norm("r_layernorm", "input", trained=("strength",)))
    weights, X, y, E = given(layers, 17, 8)
    weights[-1][:] = 0.5
    samples, met = LayeredSamples(layers, X, y, "mse", E), []
    for size in (20.0, -20.0):  # down the loss, and up
        networks = LayeredNetworks(weights, X, y, "mse", "float64", layers=layers, roughness=E)
        networks.advance(0, np.full(20, size))
        met += networks.weights()[-1].tolist()
        assert np.isfinite(samples.evaluate(networks.weights()).outputs).all()
    assert min(met) == 1e-3 and max(met) == 1.0
    fixed = with_norm(layers, trained=())
    networks = LayeredNetworks(weights, X, y, "mse", "float64", layers=fixed, roughness=E)
    networks.advance(0, ETAS)
    assert all(np.array_equal(a, b) for a, b in zip(networks.weights()[2:], weights[2:]))
