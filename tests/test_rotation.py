"""Rotation: tasks and what breaks their symmetry, angular momentum against plain NumPy, the order of directions, verdicts."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

import mcrace
from mcrace.errors import StudyError
from mcrace.kernels import Layers, evaluate_layers
from mcrace.kernels.field_networks import population_drifts
from mcrace.observe import OBSERVABLES
from mcrace.observe.rotation import _of_vectors, _sample_momenta, _vector_momenta, hotelling, momenta
from mcrace.predictions import PREDICTIONS
from mcrace.predictions.angular_momentum import p_values
from mcrace.predictions.base import Evidence
from mcrace.predictions.forms import level_band
from mcrace.seeds import Stream
from mcrace.tasks import Equivariant, Invariant

ENTROPY = 20260210


def invariant(**options):
    """The task, with raw inputs in four dimensions."""
    return Invariant(**{"kind": "invariant", "dimension": 4, "samples": 50, "scale": "none", **options})


# ------------------------------------------------------------------------------------------------- tasks


@pytest.mark.parametrize("function, law", [
    ("norm", lambda X: np.sqrt(np.sum(X**2, axis=1) / 4)), ("square", lambda X: np.sum(X**2, axis=1) / 4),
    ("linear", lambda X: X[:, 0]), ("quadratic", lambda X: (X[:, 0] ** 2 - X[:, 1] ** 2) / 2)])
def test_labels_are_those_of_the_function(function, law):
    X, y = invariant(function=function).sample({}, ENTROPY, 3)
    np.testing.assert_allclose(y, law(X), rtol=1e-14)
    X, more = invariant(function=function, epsilon=0.3).sample({}, ENTROPY, 3)
    np.testing.assert_allclose(more, law(X) + 0.3 * X[:, 0], rtol=1e-13)
    assert invariant(function=function).symmetric == (function in ("norm", "square"))
    assert not any(invariant(**breaks).symmetric for breaks in ({"epsilon": 0.1}, {"anisotropy": 2.0}, {"center": True}))


def test_signs_are_about_as_often_plus_as_minus():
    for function in ("norm", "square", "linear", "quadratic"):
        _, y = invariant(function=function, labels="sign", loss="logistic", samples=4000).sample({}, ENTROPY, 0)
        assert set(y) == {-1.0, 1.0} and abs(np.mean(y)) < 4 / np.sqrt(4000) + 0.02


def test_the_deviations_of_inputs_fall_as_a_geometric_series():
    X, _ = invariant(samples=20_000, anisotropy=8.0).sample({}, ENTROPY, 0)
    np.testing.assert_allclose(X.std(axis=0), 8.0 ** np.array([0.5, 1 / 6, -1 / 6, -0.5]), rtol=0.03)


def test_samples_come_in_orbits_of_the_plane():
    X, y = invariant(dimension=2, order=6, samples=24).sample({}, ENTROPY, 1)
    c, s = np.cos(np.pi / 3), np.sin(np.pi / 3)
    turned = X @ np.array([[c, s], [-s, c]])
    distance = np.linalg.norm(turned[:, None] - X[None], axis=2)
    assert distance.min(axis=1).max() < 1e-12 and len(np.unique(distance.argmin(axis=1))) == 24
    assert len(np.unique(y.round(12))) == 4
    assert np.array_equal(X[::6], Stream(ENTROPY, "data", 1).normals(4, 2))


def test_vector_labels_turn_along():
    X, y = Equivariant(kind="equivariant", dimension=3, samples=30, scale="none").sample({}, ENTROPY, 2)
    np.testing.assert_allclose(y, X * (np.linalg.norm(X, axis=1) / np.sqrt(3))[:, None], rtol=1e-14)
    linear = Equivariant(kind="equivariant", dimension=3, samples=30, function="linear", epsilon=0.5, scale="none")
    X, y = linear.sample({}, ENTROPY, 2)
    assert np.array_equal(y[:, 1:], np.zeros((30, 2))) and not linear.symmetric and linear.outputs() == 3
    np.testing.assert_allclose(y[:, 0], 1.5 * X[:, 0], rtol=1e-14)


STUDY = """
[study]
name = "rotation"
seeds = {seeds}
entropy = 20260210
[task]
kind = "invariant"
{task}
[network]
hidden = [{hidden}]
init = {{ scale = {scale}, ratio = {ratio} }}
[training]
step_size = {step_size}
steps = {steps}
dtype = "float64"
[record]
times = {{ spacing = "linear", count = {count} }}
observables = [{observables}]
{more}
"""


def study(more="", **options):
    """A study of small networks."""
    usual = {"seeds": 60, "task": "dimension = 3\nsamples = 150\ntest_samples = 150", "hidden": 12, "scale": 0.3, "ratio": 1.0,
             "step_size": 0.1, "steps": 400, "count": 4, "observables": '"loss"', "more": more}
    return mcrace.parse_study(STUDY.format(**{**usual, **options}))


@pytest.mark.parametrize("task, words", [
    ('dimension = 3\nsamples = 8\nlabels = "sign"', 'labels = "sign" with loss = "logistic"'),
    ("dimension = 3\nsamples = 9\norder = 3", "order goes with dimension = 2"),
    ("dimension = 2\nsamples = 8\norder = 3", "samples must be a multiple of order = 3"),
    ("dimension = 1\nsamples = 8", "dimension")])
def test_mistakes_are_told(task, words):
    with pytest.raises(StudyError, match=words):
        study(task=task)


# ------------------------------------------------------------------------------------------------- angular momentum


def networks_of(count=5, neurons=7, inputs=4, seed=0):
    """Weights of some networks."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, neurons, inputs)), rng.normal(size=(count, neurons))


def tensor(W, velocity):
    """J of one network, by its definition."""
    return sum(np.outer(w, u) - np.outer(u, w) for w, u in zip(W, velocity))


def test_j_is_its_definition():
    W, _ = networks_of()
    U, _ = networks_of(seed=1)
    for w, u, j in zip(W, U, momenta(W, U)):
        norms = np.linalg.norm(w, axis=1) * np.linalg.norm(u, axis=1)
        assert j == pytest.approx(np.linalg.norm(tensor(w, u)) / (np.sqrt(2) * norms.sum()), rel=1e-13)
    w, u = np.zeros((1, 1, 3)), np.zeros((1, 1, 3))
    w[0, 0, 0], u[0, 0, 1] = 2.0, 3.0
    assert momenta(w, u) == pytest.approx(1.0) and np.isnan(momenta(w, 0 * u)[0])


def test_j_is_the_mean_of_what_each_sample_gives():
    """mean r ∇f(x)∧x over samples, and Σ w∧vD, are the same J."""
    (W,), (v,) = networks_of(1)
    rng = np.random.default_rng(3)
    X, r = rng.normal(size=(40, 4)), rng.normal(size=40)
    sample = np.empty((40, 6))
    _sample_momenta(W, v, X, r, sample)
    D = ((X @ W.T > 0) * r[:, None]).T @ X / 40
    np.testing.assert_allclose(sample.mean(axis=0), tensor(W, v[:, None] * D)[np.tril_indices(4, -1)], atol=1e-13)


@pytest.mark.parametrize("components", [1, 3, 6])
def test_hotellings_statistic_is_that_of_numpy(components):
    rng = np.random.default_rng(components)
    sample = rng.normal(size=(80, components)) @ rng.normal(size=(components, components)) + 0.1
    mean, S = sample.mean(axis=0), np.cov(sample.T).reshape(components, components)
    square = 80 * mean @ np.linalg.solve(S, mean)
    assert hotelling(sample) == pytest.approx(square * (80 - components) / (components * 79), rel=1e-10)
    if components == 1:
        assert hotelling(sample) == pytest.approx(stats.ttest_1samp(sample[:, 0], 0).statistic ** 2, rel=1e-10)
    assert np.isnan(hotelling(sample[:components])) and np.isnan(hotelling(np.repeat(sample[:, :1], 2, axis=1)))


def test_the_momentum_on_samples_without_end_is_the_limit_of_that_on_samples():
    """For each law with a closed form; and it is exactly the same when all is turned, where the labels are invariant."""
    W, v = networks_of(4)

    def state_of(task):
        config = SimpleNamespace(task=task)
        return SimpleNamespace(weights=(W, v), W=W, v=v, origin=SimpleNamespace(config=config, entropy=1, seeds=np.arange(4)))

    compute = OBSERVABLES["angular_momentum_population"].compute
    for options in ({}, {"function": "square"}, {"function": "linear"}, {"epsilon": 0.5}, {"scale": "unit-rms"}):
        task = invariant(samples=200_000, **options)
        found = compute(state_of(task))
        X, y = task.sample({}, ENTROPY, 0)
        on = X @ W[0].T
        D = ((on > 0) * (y - np.maximum(on, 0) @ v[0])[:, None]).T @ X / len(X)
        assert momenta(W[:1], (v[0][:, None] * D)[None])[0] == pytest.approx(found[0], abs=4e-3)
        assert found.max() < 1e-14 if task.symmetric else found.min() > 0.01
    assert np.isnan(compute(state_of(invariant(function="quadratic")))).all()


@pytest.mark.parametrize("options", [{}, {"function": "square"}, {"function": "linear", "epsilon": 0.5}, {"epsilon": -0.7},
                                     {"function": "square", "scale": "unit-rms", "epsilon": 0.4}])
def test_the_population_is_what_samples_are_drawn_from(options):
    """Drifts and losses of a million samples are those of the population within six times their standard error."""
    W, v = networks_of(1)
    task = invariant(samples=200_000, **options)
    D, loss = population_drifts(W, v, task.population_of(0, np.arange(1)))
    terms, lost = [], []
    for network in range(5):
        X, y = task.sample({}, ENTROPY, network)
        on = X @ W[0].T
        r = y - np.maximum(on, 0) @ v[0]
        terms.append([((on > 0) * r[:, None]).T @ (X / len(X)), ((on > 0) * r[:, None] ** 2).T @ (X**2 / len(X))])
        lost.append([np.mean(r**2) / 2, np.var(r**2) / 4])
    (mean, square), (found, variance) = np.mean(terms, axis=0), np.mean(lost, axis=0)
    assert (abs(mean - D[0]) < 6 * np.sqrt(square / 1e6)).all() and abs(found - loss[0]) < 6 * np.sqrt(variance / 1e6)


@pytest.mark.parametrize("options, words", [
    ({"function": "quadratic"}, 'task.function = "quadratic" has no closed form'), ({"anisotropy": 2.0}, "anisotropy = 1.0"),
    ({"dimension": 2, "order": 5}, "task.order = 1"), ({"labels": "sign", "loss": "logistic"}, 'task.labels = "value"'),
    ({"center": True}, "task.center = false"), ({"center_samples": True}, "task.center_samples = false"),
    ({"whiten": True}, "task.whiten = false"), ({"scale": "unit-norm"}, 'task.scale = "none" or "unit-rms"'),
    ({"permute_labels": True}, "task.permute_labels = false"), ({"permute_inputs": True}, "task.permute_inputs = false"),
    ({"corruption": {"sigma": 0.1, "of": "train"}}, "without task.corruption of training samples")])
def test_a_population_without_a_closed_form_is_refused(options, words):
    with pytest.raises(StudyError, match=r'^training\.gradient = "population"') as error:
        invariant(**options).population_of(0, np.arange(1))
    assert words in str(error.value) and "\n" not in str(error.value)


def vectors_of(seed=0, samples=4000, **options):
    """A network with as many outputs as inputs on an equivariant task, in plain arrays, and J of each kind of its weights."""
    rng = np.random.default_rng(seed)
    W, V = 0.5 * rng.normal(size=(2, 9, 3))
    X, y = Equivariant(**{"kind": "equivariant", "dimension": 3, "samples": samples, **options}).sample({}, ENTROPY, seed)
    h = np.maximum(X @ W.T, 0)
    r = y - h @ V
    w, v = ((h > 0) * (r @ V.T)).T @ X / samples, h.T @ r / samples
    return W, V, X, r, w, v


def test_output_weights_count_where_labels_are_vectors():
    W, V, X, r, w, v = vectors_of(samples=40)
    both, inputs = np.empty((40, 3)), np.empty((40, 3))
    y = r + np.maximum(X @ W.T, 0) @ V
    slopes = evaluate_layers(Layers(3, (9,), 3), (W[None], V.T[None]), X, y, "mse").slopes
    np.testing.assert_allclose(np.concatenate(_of_vectors(slopes), axis=1)[0], np.r_[w, v], atol=1e-14)
    _vector_momenta(W, V, X, r, True, both)
    _vector_momenta(W, V, X, r, False, inputs)
    below = np.tril_indices(3, -1)
    np.testing.assert_allclose(both.mean(axis=0), (tensor(W, w) + tensor(V, v))[below], atol=1e-14)
    np.testing.assert_allclose(inputs.mean(axis=0), tensor(W, w)[below], atol=1e-14)


def test_only_both_momenta_together_are_0_where_labels_turn_along():
    """J of input and output weights together passes Hotelling's test; that of input weights does not, nor do other labels."""
    def shares(**options):
        p = np.empty((40, 2))
        for seed in range(40):
            W, V, X, r, *_ = vectors_of(seed, 500, **options)
            for k, both in enumerate((True, False)):
                sample = np.empty((500, 3))
                _vector_momenta(W, V, X, r, both, sample)
                p[seed, k] = stats.f.sf(hotelling(sample), 3, 497)
        return np.mean(p < 0.05, axis=0)

    together, inputs = shares()
    assert together <= level_band(40).high and inputs > 0.5
    assert shares(function="linear")[0] > 0.9


# ------------------------------------------------------------------------------------------------- order in the plane


def at_angles(angles, norms=1.0, v=1.0):
    """Networks at one moment, from the angles of their neurons [network, neuron]."""
    angles = np.asarray(angles, float)
    W = np.stack([np.cos(angles), np.sin(angles)], axis=2) * np.broadcast_to(norms, angles.shape)[:, :, None]
    v = np.broadcast_to(v, angles.shape).astype(float)
    return SimpleNamespace(W=W, v=v, norm_product=np.linalg.norm(W, axis=2) * np.abs(v))


def followed(name, *states):
    """The value of a path over some moments."""
    path = OBSERVABLES[name].path
    carry = path.begin(states[0])
    for state in states[1:]:
        path.follow(carry, state)
    return path.end(carry)


def order_broken(*angles, **options):
    return followed("order_broken", *(at_angles([a], **options) for a in angles))[0]


def test_an_order_breaks_where_one_neuron_passes_another():
    start = [0.0, 1.0, 2.0]
    assert order_broken(start, [0.0, 1.0, 2.0]) == 0
    assert order_broken(start, [0.0, 1.5, 1.495]) == 0  # by less than 0.01
    assert order_broken(start, [0.0, 1.5, 1.48]) == 1
    assert order_broken(start, [0.0, 1.5, 1.48], start) == 1  # for good
    assert order_broken(start, [1.2, 2.2, 3.2], [2.4, 3.4, 4.4], [3.6, 4.6, 5.6], [4.8, 5.8, 6.8]) == 0  # all turn
    back = np.linspace(0, -2 * np.pi - 0.5, 9)
    assert order_broken(start, *([b, 1.0, 2.0] for b in back[:6])) == 0  # one turns on its own, up to the last ...
    assert order_broken(start, *([b, 1.0, 2.0] for b in back)) == 1  # ... and passes it from the other side


def test_groups_are_of_one_sign_and_of_three_at_least():
    one = [0.0, 1.0, 2.0, 0.5, 1.5, 2.5]
    v = np.array([[1, 1, 1, -1, -1, -1]])
    assert order_broken(one, [0.6, 1.6, 2.6, 0.5, 1.5, 2.5], v=v) == 0
    assert order_broken(one, [0.0, 1.0, 2.0, 1.6, 1.5, 2.5], v=v) == 0.5
    assert np.isnan(order_broken([0.0, 1.0], [1.5, 1.0]))


def test_neurons_that_pass_by_zero_or_change_their_sign_are_left_out():
    start, after = [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 3.4, 3.0]
    states = at_angles([start]), at_angles([after])
    assert followed("order_broken", *states) == 1
    small = at_angles([start], norms=np.array([[1, 1, 9e-4, 1]]))
    assert followed("order_broken", states[0], small, states[1]) == 0
    flipped = at_angles([start], v=np.array([[1, 1, -1, 1]]))
    assert followed("order_broken", states[0], flipped, states[1]) == 0
    far = followed("order_broken", states[0], at_angles([[0.0, 1.0, 3.7, 3.0]]))
    assert np.isnan(far)  # nobody knows which way


def test_only_the_plane_has_an_order():
    W = np.ones((2, 5, 3))
    state = SimpleNamespace(W=W, v=np.ones((2, 5)), norm_product=np.ones((2, 5)))
    assert np.isnan(followed("order_broken", state, state)).all() and np.isnan(followed("swept_area", state, state)).all()


def test_the_area_that_is_swept():
    turns = [at_angles([[0.1 * k, -0.05 * k]], norms=np.array([[1.0, 2.0]])) for k in range(4)]
    swept = followed("swept_area", *turns)[0]
    assert swept == pytest.approx((np.sin(0.1) - 4 * np.sin(0.05)) / (np.sin(0.1) + 4 * np.sin(0.05)), rel=1e-12)


# ------------------------------------------------------------------------------------------------- verdicts


class Cell:
    """What predictions see of a cell."""

    def __init__(self, name, task=(), at=None, ratio=1.0, of=None, count=60, step_size=0.002):
        self.name, self.seeds, self._at, self._of = name, np.arange(count), at or {}, of or {}
        self.attributes = {"role": "main", "of": ""}
        table = invariant(**{"samples": 300, "test_samples": 300, **dict(task)}).model_dump(mode="json")
        self.config = {"task": table, "network": {"hidden": [12], "init": {"balanced": True, "ratio": ratio}},
                       "training": {"step_size": step_size, "method": "gd"}}
        self.status = np.zeros(count, np.int8)

    def __getitem__(self, name):
        return self.status if name == "status" else self._of[name]

    def at(self, observable, state):
        return self._at[observable, state]


def rotating(name, task=(), scale=1.0, population=1e-17, power=0.05, exponent=-0.5, count=60, end=0.2):
    """A cell whose j falls with the samples."""
    rng = np.random.default_rng(len(name))
    size, tests = dict(task).get("samples", 300) * 1.0, dict(task).get("test_samples", 300)
    components = 1 if "order" in dict(task) else 6
    at = {}
    for state in ("start", "level=0.5", "final"):
        j = scale * size**exponent * np.exp(0.1 * rng.normal(size=count))
        at["angular_momentum", state] = j if state != "final" else end * np.exp(0.1 * rng.normal(size=count))
        at["angular_momentum_fresh", state] = j
        at["angular_momentum_population", state] = np.full(count, population)
        p = np.r_[rng.random(round((1 - power) * count)) * 0.95 + 0.05, np.full(count - round((1 - power) * count), 0.01)]
        at["angular_momentum_inputs_f", state] = stats.f.isf(np.full(count, 0.01), components, tests - components)
        at["angular_momentum_f", state] = stats.f.isf(p, components, tests - components)
    return Cell(name, task, at, count=count)


def rotation_verdicts(cells, control):
    evidence = Evidence(1, cells[0], control, None, False, tuple(cells))
    found = PREDICTIONS["angular-momentum"]
    return {v.statistic: v for v in reversed(found.judge(evidence, found.options()))}


def ladder():
    return [rotating("main"), *(rotating(f"N={n}", {"samples": n, "test_samples": n}) for n in (1200, 4800))]


def test_the_verdicts_on_made_up_momenta():
    linear = rotating("linear", {"function": "linear"}, population=0.2, power=0.95)
    knobs = [rotating(f"epsilon={e}", {"epsilon": e}, power=e) for e in (0.2, 0.5)]
    orders = [rotating(f"C{n}", {"dimension": 2, "order": n, "samples": 300 * n, "test_samples": 300 * n}, exponent=-1.0)
              for n in (2, 8, 32)]
    vectors = rotating("vectors")
    vectors.config["task"] = Equivariant(kind="equivariant", dimension=4, samples=300, test_samples=300).model_dump(mode="json")
    found = rotation_verdicts([*ladder(), *knobs, *orders, vectors], linear)
    assert found["share of p < 0.05, vectors, start, control: inputs alone"].verdict == "supported"
    for name in ("population j", "slope of log j on log N, start", "slope of log j on log N, fresh, early",
                 "slope of log j on log n, samples of symmetry C_n", "share of p < 0.05, start"):
        assert found[name].verdict == "supported", name
    assert found["slope of log j on log n, samples of symmetry C_n"].estimate == pytest.approx(-1, abs=0.02)
    assert found["power at ε = 0.5, start"].estimate == pytest.approx(0.5)
    claim = found["text G: j on its own samples, end"]
    assert claim.verdict == "refuted" and "fixes nothing" in claim.note


def test_what_refutes_angular_momentum():
    linear = rotating("linear", {"function": "linear"}, population=0.2, power=0.95)
    bad = [rotating("main", population=1e-10, power=0.3), *(rotating(f"N={n}", {"samples": n, "test_samples": n}, exponent=-0.2)
                                                          for n in (1200, 4800))]
    bad[0]._at["angular_momentum", "start"][:] = 300**-0.2
    found = rotation_verdicts(bad, linear)
    for name in ("population j", "slope of log j on log N, start", "share of p < 0.05, start"):
        assert found[name].verdict == "refuted", name
    alone = rotation_verdicts([linear], linear)
    assert alone["-"].verdict == "not testable here"
    even = rotating("linear", {"function": "linear"}, population=1e-16)
    assert rotation_verdicts(ladder(), even)["population j"].verdict == "not discriminating"


def test_p_values_are_those_of_hotellings_law():
    cell = rotating("main")
    p = p_values(cell, "start")
    assert ((p > 0) & (p < 1)).all() and np.mean(p < 0.05) == pytest.approx(0.05)


def ordered(name, function, ratio, share, drift=0.8, count=60):
    rng = np.random.default_rng(int(100 * share))
    broken = np.where(rng.permutation(count) < round(share * count), 1.0, 0.0)
    return Cell(name, {"dimension": 2, "function": function}, None, ratio,
                {"order_broken": broken, "largest_drift": np.full(count, drift)}, count)


def order_verdicts(cells):
    found = PREDICTIONS["cyclic-order"]
    evidence = Evidence(1, cells[0], None, None, False, tuple(cells))
    return {(v.cell, v.statistic): v for v in found.judge(evidence, found.options())}


def three(function, balanced, light, heavy, **options):
    return [ordered(f"{function}-{r}", function, r, s, **options) for r, s in ((1.0, balanced), (0.5, light), (2.0, heavy))]


def test_the_verdicts_on_made_up_orders():
    found = order_verdicts([*three("linear", 0.0, 0.9, 0.0), *three("norm", 0.0, 0.5, 0.0)])
    most = list(found.values())[:3]
    assert [v.verdict for v in most] == ["supported"] * 3 and [v.primary for v in most] == [True, False, False]
    assert most[1].cell == "norm-0.5" and most[1].estimate == pytest.approx(0.5)  # the task where it breaks least
    claim = found["norm-0.5", "text G: broken orders, J = 0"]
    assert claim.verdict == "refuted" and "what keeps the order is balance" in claim.note and claim.control.cell == "linear-0.5"


def test_what_refutes_cyclic_order():
    found = list(order_verdicts([*three("linear", 0.0, 0.9, 0.3), *three("norm", 0.2, 0.05, 0.0)]).values())[:3]
    assert [v.verdict for v in found] == ["refuted"] * 3
    assert [v.cell for v in found] == ["norm-1.0", "norm-0.5", "linear-2.0"]
    coarse = order_verdicts(three("norm", 0.0, 0.5, 0.0, drift=1.2))
    assert coarse["norm-1.0", "broken orders, balanced"].verdict == "not testable here"
    assert next(iter(order_verdicts(three("norm", 0.0, 0.5, 0.0)[:2]).values())).verdict == "not testable here"


# ------------------------------------------------------------------------------------------------- the whole way


def test_a_small_study_from_file_to_panels(tmp_path):
    more = """
[[cells]]
name = "linear"
task.function = "linear"
[[cells]]
name = "epsilon"
task.epsilon = 0.5
[predictions]
angular-momentum = { control = "linear" }
"""
    results = mcrace.run(study(more), tmp_path / "run", workers=0)
    found = {v.statistic: v for v in reversed(mcrace.test(results))}
    assert found["population j"].verdict == "supported" and found["population j"].high < 1e-14
    assert found["share of p < 0.05, start"].control.estimate > 0.5
    mcrace.plot(results, "angular-momentum").savefig(tmp_path / "figure.svg")


def test_vectors_heavy_balls_and_areas_from_file_to_verdict(tmp_path):
    """One output in closed form beside networks of several outputs: each has the verdicts that are about it."""
    ball = ('task.samples = 8\ntraining = { method = "heavy-ball", momentum = 0.9, initial_velocity = 0.5, steps = 40, '
            'gradient = "population" }\nrecord.times = { spacing = "linear", count = 41 }')
    plane = ('training = { gradient = "population", steps = 40 }\nrecord.times = { spacing = "linear", count = 41 }\n'
             "task.dimension = 2\ntask.samples = 8")
    cells = {"vectors": 'task.kind = "equivariant"', "ball": ball, "ball-linear": ball + '\ntask.function = "linear"',
             "plane": plane, "plane-linear": plane + '\ntask.function = "linear"'}
    more = "".join(f'[[cells]]\nname = "{name}"\n{lines}\n' for name, lines in cells.items())
    results = mcrace.run(study(more + "[predictions]\nangular-momentum = {}", steps=40), tmp_path / "run", workers=0)
    found = {v.cell: v for v in reversed(mcrace.test(results))}
    assert found["vectors"].control.estimate > 0.5 and found["vectors"].estimate <= found["vectors"].margin.high
    assert found["ball"].verdict == "supported" and found["ball"].high < 1e-10 and found["ball"].control.estimate > 0.01
    assert found["plane"].verdict == "supported" and abs(found["plane"].estimate) < 1e-13
    assert found["plane"].control.estimate > 0.01
    vectors = results.cell("vectors")
    assert np.isnan(vectors["momentum_decay"]).all() and np.isnan(vectors["swept_area"]).all()
    assert np.isnan(vectors.at("angular_momentum_population", "start")).all()
    mcrace.plot(results, "angular-momentum").savefig(tmp_path / "figure.svg")
