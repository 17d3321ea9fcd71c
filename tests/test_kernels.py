"""Every kernel against plain NumPy at every size, and the same network in whatever company."""

from functools import cache
from itertools import pairwise

import naive
import numpy as np
import pytest

from mcrace.kernels import NEVER, GramNetworks, LayeredNetworks, MarkTable, OneLayerNetworks, Samples, lane_networks
from mcrace.kernels.gram import HELD, RENEW
from mcrace.kernels.registers import VECTOR, WIDE

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}  # of the largest weight
ETAS = np.float32(0.3 / (1 + 0.3 * np.arange(10))).astype(float)  # exact in both dtypes
DTYPES = ["float32", "float64"]


class OneLayerOfMany(LayeredNetworks):
    """A layered network of one hidden layer and one output, in the form of the other kernels."""

    def __init__(self, W, v, X, y, loss, dtype, marks, decay=0.0, momentum=0.0, velocity=None):
        velocity = velocity and (velocity[0], velocity[1][:, None])
        super().__init__([W, v[:, None]], X, y[..., None], loss, dtype, marks, decay, momentum, velocity)

    def weights(self):
        W, V = super().weights()
        return W, V[:, 0]

    def kept(self, mark):
        W, V = super().kept(mark)
        return W, V[:, 0]


KERNELS = {"lanes": OneLayerNetworks, "gram": GramNetworks, "layers": OneLayerOfMany}
ALL = pytest.mark.parametrize("kernel", KERNELS)
BOTH = pytest.mark.parametrize("dtype", DTYPES)
WITH_MEMORY = pytest.mark.parametrize("kernel", ["lanes", "layers"])


def problem(rng, n, N, m, d, shared=False, kind="logistic"):
    """Weights, samples and labels of n networks, of moderate size, exact in float32."""
    W, v = rng.normal(size=(n, m, d)) / np.sqrt(d), rng.normal(size=(n, m)) / np.sqrt(m)
    X = rng.normal(size=(N, d) if shared else (n, N, d)) / np.sqrt(d)
    y = rng.choice([-1.0, 1.0], X.shape[:-1]) if kind == "logistic" else rng.normal(size=X.shape[:-1])
    return tuple(a.astype(np.float32).astype(float) for a in (W, v, X, y))


def of(i, X, y):
    """The samples and labels of network i."""
    return (X[i], y[i]) if X.ndim == 3 else (X, y)


def build(kernel, W, v, X, y, kind, dtype, marks=None, **options):
    return KERNELS[kernel](W, v, X, y, kind, dtype, marks or MarkTable.none(len(W)), **options)


def error(found, expected):
    """The largest difference of weights (W, v), relative to the largest weight."""
    scale = max(np.abs(a).max() for a in expected)
    return max(np.abs(a - b).max() for a, b in zip(found, expected)) / scale


@cache
def solved(seed, n, N, m, d, shared, kind):
    """A problem with its solution by NumPy, after each step."""
    given = problem(np.random.default_rng(seed), n, N, m, d, shared, kind)
    W, v, X, y = given
    return given, [naive.path(W[i], v[i], *of(i, X, y), kind, ETAS) for i in range(n)]


def check(kernel, dtype, seed, n, N, m, d, shared, kind):
    """Train 1 and then 9 more steps, and compare all networks with NumPy."""
    given, paths = solved(seed, n, N, m, d, shared, kind)
    networks = build(kernel, *given, kind, dtype)
    for here, there in ((0, 1), (1, 10)):
        networks.advance(here, ETAS[here:there])
        W, v = networks.weights()
        assert W.shape == given[0].shape and v.shape == given[1].shape and W.dtype == v.dtype == float
        for i in range(n):
            off = error((W[i], v[i]), paths[i][there])
            assert off <= TOLERANCE[dtype], f"N={N} m={m} d={d} {kind}, step {there}: off by {off}"


# ------------------------------------------------------------------------------------------------- sizes


@ALL
@BOTH
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_every_remainder_of_every_size(kernel, dtype, shared):
    for axis in range(3):
        for size in range(1, 18):
            N, m, d = (size if k == axis else fixed for k, fixed in enumerate((6, 5, 7)))
            for kind in ("mse", "logistic"):
                check(kernel, dtype, 100 * axis + size, 2, N, m, d, shared, kind)


@ALL
@BOTH
def test_two_hundred_random_sizes(kernel, dtype):
    sizes = np.random.default_rng(1).integers(1, 41, (200, 3))
    for k, (N, m, d) in enumerate(sizes.tolist()):
        check(kernel, dtype, 1000 + k, 1 + k % 2, N, m, d, k % 3 == 0, ("mse", "logistic")[k // 2 % 2])


@ALL
@BOTH
def test_large_sizes(kernel, dtype):
    """Several tables and tiles, more samples than a chunk of activations holds, sizes round the padding of 48."""
    for k, (N, m, d) in enumerate([(47, 17, 33), (48, 16, 64), (49, 33, 65), (200, 40, 3), (3, 130, 21), (97, 100, 5)]):
        check(kernel, dtype, 2000 + k, 2, N, m, d, k % 2 == 0, ("mse", "logistic")[k % 2])


@BOTH
@pytest.mark.parametrize("d", [1, 2, 3])
def test_few_inputs(dtype, d):
    for size in range(1, 10):
        for k, (N, m) in enumerate(((size, 5), (6, size))):
            check("lanes", dtype, 4000 + 100 * d + 2 * size + k, 2, N, m, d, size % 2 == 0, ("mse", "logistic")[k])


@ALL
@BOTH
def test_any_number_of_networks(kernel, dtype):
    for n in [*range(1, 18), 31, 32, 33]:
        check(kernel, dtype, 3000 + n, n, 5, 3, 4, n % 2 == 0, "logistic")


# ------------------------------------------------------------------------------------------------- methods


@WITH_MEMORY
@BOTH
def test_weight_decay_momentum_and_velocity(kernel, dtype):
    rng = np.random.default_rng(5)
    for k in range(60):
        N, m, d = rng.integers(1, 18, 3)
        W, v, X, y = problem(rng, 2, N, m, d, k % 2 == 0, kind := ("mse", "logistic")[k // 2 % 2])
        decay, momentum = [(0.5, 0.0), (0.0, 0.75), (0.25, 0.5)][k % 3]
        U, u = (np.float32(0.01 * rng.normal(size=a.shape)).astype(float) for a in (W, v))
        velocity = (U, u) if k % 4 == 0 else None
        networks = build(kernel, W, v, X, y, kind, dtype, decay=decay, momentum=momentum, velocity=velocity)
        networks.advance(0, ETAS)
        found = networks.weights()
        for i in range(2):
            start = velocity and (U[i], u[i])
            expected = naive.train(W[i], v[i], *of(i, X, y), kind, ETAS, decay, momentum, start)
            assert error([a[i] for a in found], expected) <= TOLERANCE[dtype], (N, m, d, decay, momentum)


def test_velocities_carry_on():
    """A heavy ball taken out and put back goes on as if nothing had been."""
    W, v, X, y = problem(np.random.default_rng(6), 9, 7, 6, 5)
    whole = build("lanes", W, v, X, y, "mse", "float64", momentum=0.75)
    whole.advance(0, ETAS)
    half = build("lanes", W, v, X, y, "mse", "float64", momentum=0.75)
    half.advance(0, ETAS[:4])
    rest = build("lanes", *half.weights(), X, y, "mse", "float64", momentum=0.75, velocity=half.velocities())
    rest.advance(4, ETAS[4:])
    assert all(np.array_equal(a, b) for a, b in zip(whole.weights(), rest.weights()))


@BOTH
def test_minibatches(dtype):
    rng = np.random.default_rng(7)
    for k in range(40):
        n, N, m, d = rng.integers(1, 18, 4)
        size = int(rng.integers(1, N + 1))
        W, v, X, y = problem(rng, n, N, m, d, k % 2 == 0, kind := ("mse", "logistic")[k // 2 % 2])
        orders = np.full((n, 10, size), -1, np.int32)
        filled = rng.integers(1, size + 1, 10)  # the same for all networks, as the last batch of an epoch is
        for i in range(n):
            for t in range(10):
                orders[i, t, : filled[t]] = rng.permutation(N)[: filled[t]]
        momentum = 0.5 * (k % 3 == 0)
        networks = build("lanes", W, v, X, y, kind, dtype, momentum=momentum)
        networks.advance(0, ETAS / 8, orders=orders)
        found = networks.weights()
        for i in range(n):
            expected = naive.train(W[i], v[i], *of(i, X, y), kind, ETAS / 8, momentum=momentum, orders=orders[i])
            assert error([a[i] for a in found], expected) <= TOLERANCE[dtype], (n, N, m, d, size)


def test_marks_of_minibatches_look_at_all_samples():
    W, v, X, y = problem(np.random.default_rng(8), 3, 9, 4, 5)
    orders = np.tile(np.int32([[0, 1], [2, 3]] * 5), (3, 1, 1))
    paths = [naive.path(W[i], v[i], X[i], y[i], "logistic", ETAS, orders=orders[i]) for i in range(3)]
    losses = [[naive.loss(naive.outputs(*step, X[i]), y[i], "logistic") for step in paths[i]] for i in range(3)]
    levels = np.array([[np.mean(values[3:5])] for values in losses])
    marks = MarkTable(levels, np.full((3, 1), NEVER), np.array([True]), -1)
    networks = build("lanes", W, v, X, y, "logistic", "float64", marks)
    networks.advance(0, ETAS, look=True, orders=orders)
    expected = [naive.met(losses[i], levels[i, 0], NEVER) for i in range(3)]
    assert networks.met[:, 0].tolist() == expected and max(expected) > 0
    for i, step in enumerate(expected):
        if step >= 0:
            assert error([a[i] for a in networks.kept(0)], paths[i][step]) < 1e-12


@BOTH
@pytest.mark.parametrize("widths, outputs", [((5,), 1), ((5,), 3), ((4, 6), 1), ((9, 3, 7), 2), ((17, 2, 1, 5), 5)])
def test_depth_and_several_outputs(dtype, widths, outputs):
    rng = np.random.default_rng(len(widths) + outputs)
    for k in range(8):
        n, N, d = 2, *rng.integers(1, 18, 2)
        sizes = [d, *widths, outputs]
        weights = [rng.normal(size=(n, b, a)) * np.sqrt(2 / a) for a, b in pairwise(sizes)]
        X = rng.normal(size=(n, N, d)) / np.sqrt(d)
        y = rng.choice([-1.0, 1.0], (n, N, outputs))
        if k % 2:
            X, y = X[0], y[0]
        weights, X, y = [w.astype(np.float32).astype(float) for w in weights], X.astype(np.float32).astype(float), y
        kind, decay, momentum = ("mse", "logistic")[k // 2 % 2], *((0.0, 0.0), (0.25, 0.5))[k // 4]
        networks = LayeredNetworks(weights, X, y, kind, dtype, decay=decay, momentum=momentum)
        networks.advance(0, ETAS / 4)
        found = networks.weights()
        for i in range(n):
            inputs, labels = (X, y) if k % 2 else (X[i], y[i])
            expected = naive.deep_train([w[i] for w in weights], inputs, labels, kind, ETAS / 4, decay, momentum)
            assert error([w[i] for w in found], expected) <= TOLERANCE[dtype]


# ------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_outputs_drift_and_activity(shared):
    rng = np.random.default_rng(9)
    for _ in range(60):
        n, N, m, d = rng.integers(1, 18, 4)
        kind = ("mse", "logistic")[rng.integers(2)]
        W, v, X, y = problem(rng, n, N, m, d, shared, kind)
        samples = Samples(X, y, kind)
        f, D, active = samples.evaluate(W, v)
        without = samples.evaluate(W, v, drifts=False)
        assert np.array_equal(f, without[0]) and without[1] is None and np.array_equal(active, without[2])
        assert f.shape == (n, N) and D.shape == W.shape and active.shape == (n, m) and active.dtype == bool
        for i in range(n):
            inputs, labels = of(i, X, y)
            assert np.abs(f[i] - naive.outputs(W[i], v[i], inputs)).max() < 1e-13
            assert np.abs(D[i] - naive.drift(W[i], v[i], inputs, labels, kind)).max() < 1e-13
            assert np.array_equal(active[i], (inputs @ W[i].T > 0).any(axis=0))


@pytest.mark.parametrize("kind", ["mse", "logistic"])
def test_the_drift_is_the_slope_of_the_loss(kind):
    """Central differences of the naive loss in every weight: dL/dw_a = -v_a D_a and dL/dv_a = -w_a.D_a."""
    rng, h = np.random.default_rng(10), 1e-6
    for _ in range(10):
        N, m, d = rng.integers(1, 9, 3)
        W, v, X, y = problem(rng, 1, N, m, d, True, kind)
        if np.abs(X @ W[0].T).min() < 1e-4:
            continue  # a kink within reach of the differences
        _, D, _ = Samples(X, y, kind).evaluate(W, v)
        value = lambda w, u, X=X, y=y: naive.loss(naive.outputs(w, u, X), y, kind)
        for a in range(m):
            up, down = v[0].copy(), v[0].copy()
            up[a], down[a] = v[0, a] + h, v[0, a] - h
            slope = (value(W[0], up) - value(W[0], down)) / (2 * h)
            assert slope == pytest.approx(-(W[0, a] @ D[0, a]), abs=1e-8)
            for k in range(d):
                up, down = W[0].copy(), W[0].copy()
                up[a, k], down[a, k] = W[0, a, k] + h, W[0, a, k] - h
                slope = (value(up, v[0]) - value(down, v[0])) / (2 * h)
                assert slope == pytest.approx(-v[0, a] * D[0, a, k], abs=1e-8)


@ALL
@BOTH
def test_a_neuron_at_zero_is_off(kernel, dtype):
    """relu'(0) = 0: zero weights, and samples at zero, move nothing but the output weights of other neurons."""
    W, v, X, y = problem(np.random.default_rng(11), 3, 6, 4, 5)
    W[:, 0], X[:, 0] = 0, 0
    networks = build(kernel, W, v, X, y, "logistic", dtype)
    networks.advance(0, ETAS)
    found = networks.weights()
    assert (found[0][:, 0] == 0).all() and np.array_equal(found[1][:, 0], v[:, 0])
    for i in range(3):
        assert error([a[i] for a in found], naive.train(W[i], v[i], X[i], y[i], "logistic", ETAS)) <= TOLERANCE[dtype]


@ALL
@BOTH
def test_confident_outputs_do_not_overflow(kernel, dtype):
    """Margins of ±1e4, far beyond what exp can hold."""
    W, v, X, y = problem(np.random.default_rng(12), 4, 6, 4, 5)
    W, v = 64 * W, 256 * v
    networks = build(kernel, W, v, X, y, "logistic", dtype)
    networks.advance(0, ETAS[:1])
    found = networks.weights()
    for i in range(4):
        assert np.abs(naive.outputs(W[i], v[i], X[i])).max() > 1000
        expected = naive.train(W[i], v[i], X[i], y[i], "logistic", ETAS[:1])
        assert error([a[i] for a in found], expected) <= TOLERANCE[dtype]


@BOTH
def test_the_gram_form_does_not_drift_from_the_weights(dtype):
    W, v, X, y = problem(np.random.default_rng(13), 2, 9, 6, 12)
    etas = np.full(2300, 2.0**-6)
    networks = build("gram", W, v, X, y, "logistic", dtype)
    networks.advance(0, etas)
    found = networks.weights()
    for i in range(2):
        expected = naive.train(W[i], v[i], X[i], y[i], "logistic", etas)
        assert error([a[i] for a in found], expected) <= 10 * TOLERANCE[dtype]


def test_outputs_of_the_gram_form_are_those_of_its_weights_after_ten_thousand_steps():
    """To 1e-5 in float32, at the last step before H is computed anew; not where no step's number ever asks for that."""
    rng = np.random.default_rng(3)
    W, v, X = rng.normal(size=(1, 60, 100)), rng.normal(size=(1, 60)) / 60, rng.normal(size=(80, 100)) / 10
    y, steps, errors = rng.choice((-1.0, 1.0), 80), (10_000 // RENEW + 2) * RENEW - 1, []
    for whole in (True, False):
        networks = build("gram", W, v, X, y, "mse", "float32")
        for first, count in [(0, steps)] if whole else [(1, RENEW - 2)] * (steps // (RENEW - 2)):
            networks.advance(first, np.full(count, 0.02))
        networks.advance(1, np.empty(0), look=True)
        a, b = (part[0] for part in networks.weights())
        errors.append(np.abs(naive.outputs(a, b, X.astype(np.float32)) - networks.held[0][0, :80]).max())
    assert errors[0] <= 1e-5 < errors[1]


# ------------------------------------------------------------------------------------------------- the same bits


def bits(networks):
    return [a.copy() for a in networks.weights()]


def trained(kernel, dtype, W, v, X, y, marks=None, kind="logistic", **options):
    networks = build(kernel, W, v, X, y, kind, dtype, marks, **options)
    networks.advance(0, ETAS)
    return bits(networks)


@BOTH
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_what_is_kept_of_few_inputs_changes_no_bit(dtype, momentum, d, monkeypatch):
    """Gate bits or activations, in steps of one sort or another, and of weights that are not finite."""
    for k, (N, m) in enumerate([(7, 6), (8, 3), (30, 9)]):
        W, v, X, y = problem(np.random.default_rng(40 + k), 18, N, m, d, k == 1)
        W[2, 0], W[3, 1, 0], W[4, 2, 0], v[5, 0], v[6, 1] = -0.0, np.inf, np.nan, -0.0, -np.inf
        orders = np.random.default_rng(k).permuted(np.tile(np.arange(N, dtype=np.int32), (18, 10, 1)), axis=2)[:, :, : N // 2]
        for given in (None, orders):
            found = []
            for bound in (lane_networks.FEW_BYTES, 0):
                monkeypatch.setattr(lane_networks, "FEW_BYTES", bound)
                networks = build("lanes", W, v, X, y, "mse", dtype, momentum=momentum)
                assert (networks.on.ndim == 4) == (bound > 0 and not WIDE)
                networks.advance(0, ETAS[:1], orders=None if given is None else given[:, :1])
                first = bits(networks)
                networks.advance(1, ETAS[1:], orders=None if given is None else given[:, 1:])
                found.append([*first, *bits(networks)])
                monkeypatch.undo()
            for a, b in zip(*found):
                assert np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b))
            assert not np.array_equal(found[0][0], W)


@BOTH
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_how_much_is_at_hand_changes_no_bit(dtype, momentum, shared, monkeypatch):
    """Steps beside the pass forward of the next, and steps apart with r x of some samples at a time."""
    for k, (N, m, d) in enumerate([(7, 6, 2), (8, 3, 5), (30, 9, 10), (31, 4, 13), (70, 5, 1)]):
        W, v, X, y = problem(np.random.default_rng(60 + k), 18, N, m, d, shared)
        W[2, 0], W[3, 1, 0], W[4, 2, 0], v[5, 0], v[6, 1] = -0.0, np.inf, np.nan, -0.0, -np.inf
        found = []
        for at_hand in (N, 1, 4):
            monkeypatch.setattr(lane_networks, "AT_HAND", lane_networks.AT_HAND if at_hand == N else 0)
            monkeypatch.setattr(lane_networks, "SPAN", at_hand * d * VECTOR)
            networks = build("lanes", W, v, X, y, "mse", dtype, momentum=momentum)
            assert networks.room.rx.shape[0] == at_hand
            networks.advance(0, ETAS[:1])
            first = bits(networks)
            networks.advance(1, ETAS[1:])
            found.append([*first, *bits(networks)])
            monkeypatch.undo()
        for other in found[1:]:
            for a, b in zip(found[0], other):
                assert np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b))


@ALL
@BOTH
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_a_network_is_the_same_in_any_company(kernel, dtype, shared):
    """Alone, in every lane, and in batches of every size: the same bits."""
    W, v, X, y = problem(np.random.default_rng(14), 20, 7, 6, 5, shared)
    whole = trained(kernel, dtype, W, v, X, y)
    for i in range(20):
        data = (X, y) if shared else (X[i : i + 1], y[i : i + 1])
        alone = trained(kernel, dtype, W[i : i + 1], v[i : i + 1], *data)
        assert all(np.array_equal(a[0], b[i]) for a, b in zip(alone, whole)), i
    rng = np.random.default_rng(15)
    for size in (2, 5, 16, 17):
        some = rng.permutation(20)[:size]
        part = trained(kernel, dtype, W[some], v[some], *((X, y) if shared else (X[some], y[some])))
        assert all(np.array_equal(a, b[some]) for a, b in zip(part, whole)), some


@BOTH
def test_evaluation_is_the_same_in_any_company(dtype):
    W, v, X, y = problem(np.random.default_rng(16), 19, 7, 6, 5)
    f, D, active = Samples(X, y, "mse").evaluate(W, v)
    for i in range(19):
        one = Samples(X[i : i + 1], y[i : i + 1], "mse").evaluate(W[i : i + 1], v[i : i + 1])
        assert all(np.array_equal(a[0], b[i]) for a, b in zip(one, (f, D, active)))


@ALL
@BOTH
def test_steps_may_be_taken_in_pieces(kernel, dtype):
    W, v, X, y = problem(np.random.default_rng(17), 3, 7, 6, 5)
    whole = trained(kernel, dtype, W, v, X, y)
    for cuts in ([0, 10], [0, 0, 3, 3, 10], list(range(11))):
        networks = build(kernel, W, v, X, y, "logistic", dtype)
        for here, there in pairwise(cuts):
            networks.advance(here, ETAS[here:there])
            networks.weights()
        assert all(np.array_equal(a, b) for a, b in zip(bits(networks), whole))


def test_renewal_of_the_gram_form_hangs_on_the_step_alone():
    W, v, X, y = problem(np.random.default_rng(18), 2, 7, 6, 9)
    etas = np.full(2100, 2.0**-6)
    found = []
    for cuts in ([0, 2100], [0, 1000, 1024, 1025, 2048, 2100]):
        networks = build("gram", W, v, X, y, "logistic", "float32")
        for here, there in pairwise(cuts):
            networks.advance(here, etas[here:there])
            networks.weights()
        found.append(bits(networks))
    assert all(np.array_equal(a, b) for a, b in zip(*found))


# ------------------------------------------------------------------------------------------------- marks


def random_marks(rng, paths, X, y, kind, marks=4):
    """Marks at losses halfway between those of two steps, so that rounding cannot decide, and at steps."""
    n = len(paths)
    data = [of(i, X, y) for i in range(n)]
    losses = np.array([[naive.loss(naive.outputs(*step, data[i][0]), data[i][1], kind) for step in paths[i]]
                       for i in range(n)])
    levels, at = np.full((n, marks), -1.0), np.full((n, marks), NEVER)
    for i in range(n):
        for j in range(marks):
            what, step = rng.integers(4), int(rng.integers(0, 11))
            if what < 2:
                levels[i, j] = losses[i, step - 1 : step + 1].mean() if step else 2 * losses[i, 0]
            elif what == 2:
                at[i, j] = step
    return losses, levels, at


@ALL
@BOTH
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_marks_are_met_where_a_scan_of_the_loss_says(kernel, dtype, shared):
    rng = np.random.default_rng(19)
    seen = set()
    for k in range(12):
        n = int(rng.integers(1, 40))
        kind = ("mse", "logistic")[k % 2]
        W, v, X, y = problem(rng, n, 7, 6, 5, shared, kind)
        paths = [naive.path(W[i], v[i], *of(i, X, y), kind, ETAS) for i in range(n)]
        losses, levels, at = random_marks(rng, paths, X, y, kind)
        stop, keep = [-1, 3][k % 3 > 0], np.array([True, False, True, k % 2 == 0])
        networks = build(kernel, W, v, X, y, kind, dtype, MarkTable(levels, at, keep, stop))
        cuts = sorted({0, 10, *rng.integers(0, 11, 2).tolist()})
        for here, there in pairwise(cuts):
            networks.advance(here, ETAS[here:there], look=there == 10)
        weights, kept = networks.weights(), {j: networks.kept(j) for j in np.flatnonzero(keep)}
        assert networks.met.shape == (n, 4)
        for i in range(n):
            end = naive.met(losses[i], levels[i, stop], at[i, stop]) if stop >= 0 else -1
            last = 10 if end < 0 else end
            expected = [naive.met(losses[i][: last + 1], levels[i, j], at[i, j]) for j in range(4)]
            assert networks.met[i].tolist() == expected, (i, levels[i], at[i], losses[i])
            assert networks.alive[i] == (end < 0)
            assert error([a[i] for a in weights], paths[i][last]) <= TOLERANCE[dtype]
            for j, values in kept.items():
                if expected[j] >= 0:
                    assert error([a[i] for a in values], paths[i][expected[j]]) <= TOLERANCE[dtype]
                else:
                    assert all((a[i] == 0).all() for a in values)
            seen |= {(j, step) for j, step in enumerate(expected)}
    assert {step for _, step in seen} == set(range(-1, 11)), "every step, the start and the last look were seen"


@ALL
@BOTH
def test_a_network_that_stops_moves_no_more_and_changes_no_other(kernel, dtype):
    n = 18
    W, v, X, y = problem(np.random.default_rng(20), n, 7, 6, 5)
    free = trained(kernel, dtype, W, v, X, y)
    for stopped in ([0], [17], [3, 4, 16], list(range(1, n))):
        at = np.full((n, 1), NEVER)
        at[stopped] = 4
        marks = MarkTable(np.full((n, 1), -1.0), at, np.array([True]), 0)
        networks = build(kernel, W, v, X, y, "logistic", dtype, marks)
        networks.advance(0, ETAS)
        found, kept = bits(networks), networks.kept(0)
        going = np.setdiff1d(np.arange(n), stopped)
        assert all(np.array_equal(a[going], b[going]) for a, b in zip(found, free))
        short = build(kernel, W, v, X, y, "logistic", dtype)
        short.advance(0, ETAS[:4])
        for a, b, c in zip(found, kept, short.weights()):
            assert np.array_equal(a[stopped], b[stopped]) and np.array_equal(a[stopped], c[stopped])
        assert np.array_equal(np.flatnonzero(~networks.alive), stopped)
        networks.advance(10, ETAS)
        assert all(np.array_equal(a[stopped], b[stopped]) for a, b in zip(networks.weights(), found))


@BOTH
@WITH_MEMORY
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("d", [3, 6])
def test_a_network_that_has_stopped_keeps_the_signs_of_zeros_and_what_is_not_finite(kernel, dtype, momentum, d):
    W, v, X, y = problem(np.random.default_rng(3), 3, 9, 5, d)
    W[1, 0], W[1, 1, 0], W[1, 2, 0], v[1, 3], v[1, 4] = -0.0, np.inf, np.nan, -0.0, -np.inf
    at = np.array([[NEVER], [0], [NEVER]])
    marks = MarkTable(np.full((3, 1), -1.0), at, np.array([False]), 0)
    networks = build(kernel, W, v, X, y, "mse", dtype, marks, decay=momentum / 10, momentum=momentum)
    networks.advance(0, ETAS)
    assert networks.alive.tolist() == [True, False, True]
    for found, given in zip(networks.weights(), (W, v)):
        assert np.array_equal(found[1], given[1], equal_nan=True)
        assert np.array_equal(np.signbit(found[1]), np.signbit(given[1]))
        assert not np.array_equal(found[0], given[0])


@pytest.mark.parametrize("kernel", ["lanes", "gram"])
def test_a_retired_network_moves_no_more_and_meets_no_mark(kernel):
    n = 18
    W, v, X, y = problem(np.random.default_rng(21), n, 7, 6, 5)
    free = trained(kernel, "float64", W, v, X, y)
    marks = MarkTable(np.full((n, 1), -1.0), np.full((n, 1), 7), np.array([False]), -1)
    networks = build(kernel, W, v, X, y, "logistic", "float64", marks)
    networks.advance(0, ETAS[:4])
    before, out = bits(networks), np.isin(np.arange(n), [2, 9, 17])
    networks.retire(out)
    networks.advance(4, ETAS[4:], look=True)
    assert all(np.array_equal(a[out], b[out]) for a, b in zip(networks.weights(), before))
    assert all(np.array_equal(a[~out], b[~out]) for a, b in zip(networks.weights(), free))
    assert np.array_equal(networks.alive, ~out) and np.array_equal(networks.met[:, 0], np.where(out, -1, 7))


@ALL
def test_marks_change_no_bit(kernel):
    W, v, X, y = problem(np.random.default_rng(22), 10, 7, 6, 5)
    marks = MarkTable(np.full((10, 2), 0.6), np.full((10, 2), 5), np.array([True, False]), -1)
    marked = trained(kernel, "float32", W, v, X, y, marks)
    assert all(np.array_equal(a, b) for a, b in zip(marked, trained(kernel, "float32", W, v, X, y)))


def test_marks_at_any_step_find_the_weights_that_the_gram_form_has_there():
    """Whose steps wait for some time until they count; none is lost or counted twice."""
    W, v, X, y = problem(np.random.default_rng(26), 1, 7, 6, 9)
    etas, at = np.full(150, 2.0**-6), [1, 7, HELD - 1, HELD, HELD + 1, RENEW - 1, RENEW, RENEW + 5, 149]
    marks = MarkTable(np.full((1, len(at)), -1.0), np.array([at]), np.full(len(at), True), -1)
    marked, free = (build("gram", W, v, X, y, "logistic", "float32", m) for m in (marks, None))
    marked.advance(0, etas)
    for mark, (here, there) in enumerate(pairwise([0, *at])):
        free.advance(here, etas[here:there])
        assert all(np.array_equal(a, b) for a, b in zip(marked.kept(mark), free.weights()))
    free.advance(at[-1], etas[at[-1] :])
    assert all(np.array_equal(a, b) for a, b in zip(bits(marked), bits(free)))


# ------------------------------------------------------------------------------------------------- NaN and infinity


@ALL
@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["W", "v", "y"])
def test_what_is_not_finite_stays_so_and_infects_no_neighbour(kernel, dtype, where, bad):
    n, ill = 18, [1, 16]
    given = dict(zip(("W", "v", "X", "y"), problem(np.random.default_rng(23), n, 7, 6, 5)))
    free = trained(kernel, dtype, **given, kind="mse")
    for i in ill:
        given[where][i].flat[1] = bad
    networks = build(kernel, *given.values(), "mse", dtype)
    networks.advance(0, ETAS)
    found, well = networks.weights(), np.setdiff1d(np.arange(n), ill)
    assert np.array_equal(np.flatnonzero(~networks.finite), ill)
    assert all(not np.isfinite(np.concatenate([a[i].reshape(-1) for a in found])).all() for i in ill)
    assert all(np.array_equal(a[well], b[well]) for a, b in zip(found, free))


@BOTH
@ALL
def test_a_nan_among_the_inputs_is_seen(kernel, dtype):
    W, v, X, y = problem(np.random.default_rng(24), 5, 7, 6, 5)
    X[2, 3, 1] = np.nan
    networks = build(kernel, W, v, X, y, "mse", dtype)
    networks.advance(0, ETAS)
    assert np.flatnonzero(~networks.finite).tolist() == [2]


@pytest.mark.parametrize("where", ["W", "X"])
def test_a_nan_stays_a_nan_in_outputs(where):
    given = dict(zip(("W", "v", "X", "y"), problem(np.random.default_rng(25), 5, 7, 6, 5)))
    given[where][2, 3, 1] = np.nan
    f, _, _ = Samples(given["X"], given["y"], "mse").evaluate(given["W"], given["v"])
    assert np.array_equal(np.isfinite(f).all(axis=1), np.arange(5) != 2)


def test_outputs_of_infinite_weights_infect_no_neighbour():
    W, v, X, y = problem(np.random.default_rng(26), 9, 7, 6, 5)
    free = Samples(X, y, "logistic").evaluate(W, v)
    for bad in (np.nan, np.inf, -np.inf):
        ill = v.copy()
        ill[4, 2] = bad
        f, D, active = Samples(X, y, "logistic").evaluate(W, ill)
        well = np.arange(9) != 4
        assert not np.isfinite(f[4]).all()
        assert all(np.array_equal(a[well], b[well]) for a, b in zip((f, D, active), free))


@ALL
def test_a_nan_meets_no_level_but_every_step(kernel):
    W, v, X, y = problem(np.random.default_rng(27), 3, 7, 6, 5)
    v[1, 2] = np.nan
    levels, at = np.tile([1e6, -1.0], (3, 1)), np.tile([NEVER, 6], (3, 1))
    networks = build(kernel, W, v, X, y, "logistic", "float64", MarkTable(levels, at, np.array([False, False]), -1))
    networks.advance(0, ETAS)
    assert networks.met.tolist() == [[0, 6], [-1, 6], [0, 6]]


@ALL
@BOTH
def test_divergence_is_noticed(kernel, dtype):
    """A step far too large: from finite numbers to none, and the neighbours do not care."""
    W, v, X, y = problem(np.random.default_rng(28), 6, 7, 6, 5, kind="mse")
    W[3], v[3] = 1e3 * W[3], 1e3 * v[3]
    networks = build(kernel, W, v, X, y, "mse", dtype)
    networks.advance(0, np.full(40, 0.25))
    assert np.flatnonzero(~networks.finite).tolist() == [3]
