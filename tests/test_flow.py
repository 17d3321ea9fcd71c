"""The flow, the adaptive method, signs, activations and population gradients, as study files ask for them."""

import itertools

import naive
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import mcrace
from mcrace.completion import complete
from mcrace.errors import StudyError
from mcrace.kernels import Dynamics, FieldNetworks
from mcrace.kernels.field_networks import population_drifts
from mcrace.recording import GAVE_UP, Status
from mcrace.sections import recording_steps
from mcrace.training import draw, train
from mcrace.worker import kernel_of

COUNT = 20
TASK = {"kind": "gaussian", "dimension": 5, "samples": 12, "loss": "mse"}
TEACHER = {"kind": "teacher", "dimension": 5, "samples": 12, "loss": "mse", "teacher_neurons": 3, "labels": "value"}
NETWORK = {"hidden": [10], "init": {"scale": 0.3}}
GIVES_UP = {"evaluations": 600, "rtol": 1e-5, "atol": 1e-7}  # some of the networks
TANH = {**NETWORK, "activation": "tanh"}


def toml(value):
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def study(task=TASK, network=NETWORK, observables=("loss",), stages=(), times="{ spacing = 'linear', count = 11 }", **training):
    """A study of one cell."""
    training = {"step_size": 0.1, "steps": 100, "dtype": "float64", **training}
    return mcrace.parse_study(f"""
[study]
name = "flow"
seeds = {COUNT}
entropy = 5
[record]
observables = {list(observables)}
stages = {list(stages)}
weights = "ends"
times = {times}
""" + "".join(f"[{name}]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in table.items())
              for name, table in (("task", task), ("network", network), ("training", training))))


def record(batch=16, count=COUNT, **tables):
    """What the networks of a study are recorded to do."""
    config = complete(study(**tables)).cells[0].config
    times = recording_steps(config.record.times, config.training.steps)
    return train(config, {}, 5, np.arange(count), times, batch)


def final(run):
    """All weights at the end, in a row for each network."""
    return np.concatenate([run.weights["W_final"].reshape(COUNT, -1), run.weights["v_final"]], axis=1)


# ------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("training", [{"method": "sign", "step_size": 1e-3}, {"method": "flow", "weight_decay": 0.01},
                                      {"method": "adaptive", **GIVES_UP}])
def test_no_bit_hangs_on_the_company_or_on_where_one_records(training):
    one, other = record(batch=16, **training), record(batch=7, times="[0, 3, 58, 100]", **training)
    assert np.array_equal(final(one), final(other)) and np.array_equal(one.stop_step, other.stop_step)
    assert np.array_equal(one.status, other.status)
    assert training["method"] != "adaptive" or 0 < np.isin(one.status, GAVE_UP).sum() < COUNT


def test_a_network_that_is_given_up_stays_where_its_last_whole_step_ended():
    run = record(method="adaptive", **GIVES_UP)
    given_up = np.flatnonzero(np.isin(run.status, GAVE_UP) & (run.stop_step > 10))
    assert len(given_up) > 2
    for row in given_up[:3]:
        short = record(method="adaptive", **GIVES_UP, steps=int(run.stop_step[row]))
        assert short.status[row] == Status.STEPS
        assert np.array_equal(final(short)[row], final(run)[row])
        assert np.isnan(run.grid["loss"][row, 10]) and run.grid["loss"][row, 1] > 0


def test_reasons_are_told_apart():
    status = lambda **training: set(record(method="adaptive", **training).status)
    assert status(network=TANH) == {Status.STEPS}
    assert status(network=TANH, until={"loss_drop": 0.3}) <= {Status.STEPS, Status.STOPPED}
    assert status(network=TANH, step_size=50.0, steps=1, evaluations=12) == {Status.EVALUATIONS}
    assert status(rtol=1e-10, atol=1e-13, evaluations=3000) == {Status.CHATTER}
    huge = {"hidden": [10], "init": {"scale": 1e6}}
    with np.errstate(all="ignore"):
        assert Status.TOLERANCE in status(network=huge, step_size=1e6, rtol=1e-13)
    assert all("adaptive" in s.text for s in GAVE_UP)


def test_statuses_of_the_kernels_are_those_of_the_records():
    from mcrace.kernels import integrators

    for status in GAVE_UP:
        assert getattr(integrators, status.name) == GAVE_UP.index(status) + 1


def test_the_kernel_is_told():
    assert kernel_of(study().cells[0].config) == "one-layer-lanes"
    for tables in ({"network": TANH}, {"method": "flow"}, {"task": TEACHER, "gradient": "population"}):
        assert kernel_of(study(**tables).cells[0].config) == "one-layer-field"


def test_networks_that_learn_from_a_population_are_recorded_on_it():
    for more in ({}, {"fresh_teacher": True}, {"scale": "none", "center": False}):
        task = {**TEACHER, **more}
        run = record(task=task, gradient="population", method="flow",
                     observables=("loss", "zero_loss", "drift_norm@final", "growth@final"))
        config = study(task=task).cells[0].config
        population = config.task.population_of(5, np.arange(COUNT))
        W, v = run.weights["W_final"], run.weights["v_final"]
        D, losses = population_drifts(W, v, population)
        _, zero = population_drifts(0 * W, 0 * v, population)
        place = run.states.index("final")
        assert np.array_equal(run.grid["loss"][:, -1], losses) and np.array_equal(run.grid["zero_loss"][:, 0], zero)
        assert np.allclose(run.at["drift_norm"][:, place], np.linalg.norm(D, axis=2), rtol=1e-13)
        along = (W * D).sum(axis=2) * (v**2 + (W**2).sum(axis=2)) / (v * (W**2).sum(axis=2))
        assert np.abs(run.at["growth"][:, place] - along).max() < 1e-6 * np.abs(along).max()
        assert (np.diff(run.grid["loss"], axis=1) < 0).all()


def test_a_population_is_what_large_samples_come_from():
    task = {**TEACHER, "samples": 20_000}
    config = study(task=task).cells[0].config
    group = draw(config, {}, 5, np.arange(3), np.arange(3))
    D, losses = population_drifts(*group.weights, config.task.population_of(5, group.seeds))
    for i in range(3):
        (W, v), (X, y) = (a[i] for a in group.weights), (group.X[i], group.y[i])
        found, _, loss = naive.slopes(W, v, X, y, "mse", "relu", 0.0)
        assert abs(loss / losses[i] - 1) < 0.1 and np.linalg.norm(found - D[i]) < 0.1 * np.linalg.norm(D[i])


def test_observables_know_the_activation():
    network = {**NETWORK, "activation": "softplus", "sharpness": 2.0}
    asked = ("loss", "cosine@final", "drift_norm@final", "cosine_permuted@start", "active@final")
    run = record(network=network, observables=asked)
    config, place = study(network=network).cells[0].config, run.states.index("final")
    group = draw(config, {}, 5, np.arange(COUNT), np.arange(COUNT))
    for i in range(COUNT):
        W, v = run.weights["W_final"][i], run.weights["v_final"][i]
        D, _, loss = naive.slopes(W, v, group.X[i], group.y[i], "mse", "softplus", 2.0)
        norms = np.linalg.norm(D, axis=1)
        assert np.allclose(run.at["drift_norm"][i, place], norms, rtol=1e-12) and abs(run.grid["loss"][i, -1] - loss) < 1e-14
        assert np.allclose(run.at["cosine"][i, place], np.sign(v) * (W * D).sum(axis=1) / norms / np.linalg.norm(W, axis=1))
    assert (run.at["active"][:, place] == 1).all()


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("tables, said", [
    ({"network": {**NETWORK, "activation": "softplus"}}, 'activation = "softplus" needs sharpness'),
    ({"network": {**NETWORK, "leak": 0.1}}, 'leak goes with activation = "leaky-relu"'),
    ({"method": "gd", "halvings": 2}, 'halvings goes with method = "flow"'),
    ({"method": "flow", "rtol": 1e-8}, 'rtol goes with method = "adaptive"'),
    ({"method": "flow", "momentum": 0.9}, 'momentum goes with method = "heavy-ball"'),
    ({"method": "sign", "batch": 4}, 'method = "sign" takes no minibatches'),
    ({"network": TANH, "batch": 4}, 'network.activation = "tanh" takes no minibatches'),
    ({"method": "adaptive", "dtype": "float32"}, 'method = "adaptive" goes with dtype = "float64"'),
    ({"task": TEACHER, "gradient": "population", "dtype": "float32"}, 'gradient = "population" goes with dtype = "float64"'),
    ({"task": TEACHER, "gradient": "population", "batch": 4}, 'gradient = "population" takes no minibatches'),
    ({"gradient": "population"}, 'task.kind = "gaussian" has no closed form'),
    ({"task": {**TEACHER, "labels": "sign"}, "gradient": "population"}, 'goes with task.labels = "value"'),
    ({"task": {**TEACHER, "whiten": True}, "gradient": "population"}, "goes with task.whiten = false"),
    ({"task": {**TEACHER, "scale": "unit-norm"}, "gradient": "population"}, "goes with task.scale"),
    ({"task": TEACHER, "network": TANH, "gradient": "population"}, 'goes with network.activation = "relu"'),
    ({"task": TEACHER, "gradient": "population", "stages": ("tickets",)}, "goes without record.stages"),
    ({"network": {**TANH, "bias": True}}, 'network.activation = "tanh" goes with one hidden layer'),
    ({"method": "flow", "network": {**NETWORK, "hidden": [4, 4]}}, 'method = "flow" goes with one'),
    ({"network": TANH, "observables": ("merge_curve@final",)}, "'merge_curve@final' means something for ReLU neurons only"),
    ({"task": TEACHER, "gradient": "population", "observables": ("cosine_permuted@start",)}, "is about samples that are"),
])
def test_what_is_not_built_is_refused_in_a_sentence(tables, said):
    with pytest.raises(StudyError) as refused:
        complete(study(**tables))
    assert said in str(refused.value)


def test_every_other_combination_runs():
    """What is not refused trains."""
    tried = 0
    for method, activation, population in itertools.product(("gd", "heavy-ball", "sign", "flow", "adaptive"), ("relu", "tanh"),
                                                           (False, True)):
        training = {"method": method, "steps": 3, **({"momentum": 0.5} if method == "heavy-ball" else {})}
        tables = {"task": TEACHER, "network": {**NETWORK, "activation": activation}}
        if population and activation == "tanh":
            continue
        run = record(**tables, **training, gradient="population" if population else "samples")
        assert (run.stop_step == 3).all() and np.isfinite(final(run)).all()
        tried += 1
    assert tried == 15


# ------------------------------------------------------------------------------------------------- the laws


def smooth(seed=1, networks=8):
    """Networks of tanh, and the flow that they should follow for a time of 4, by an independent integrator."""
    rng = np.random.default_rng(seed)
    W, v = rng.normal(size=(networks, 4, 3)), rng.normal(size=(networks, 4))
    X, y = rng.normal(size=(networks, 10, 3)), rng.normal(size=(networks, 10))
    out = []
    for w, u, x, labels in zip(W, v, X, y):
        def slope(_, z, x=x, labels=labels):
            w, u = z[:12].reshape(4, 3), z[12:]
            D, dv, _ = naive.slopes(w, u, x, labels, "mse", "tanh", 0.0)
            return np.concatenate([(u[:, None] * D).ravel(), dv])
        out.append(solve_ivp(slope, (0, 4), np.concatenate([w.ravel(), u]), method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1])
    return (W, v, X, y, "mse", "float64"), np.array(out)


def reached(problem, dynamics, steps):
    """The weights after a time of 4."""
    networks = FieldNetworks(*problem, dynamics=dynamics)
    networks.advance(0, np.full(steps, 4 / steps))
    assert not networks.given_up[0].any()
    W, v = networks.weights()
    return np.concatenate([W.reshape(len(W), -1), v], axis=1)


@pytest.mark.laws
@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_the_error_of_the_flow_falls_with_its_order(halvings):
    problem, exact = smooth()
    errors = [np.linalg.norm(reached(problem, Dynamics("tanh", 0.0, "flow", halvings), steps) - exact, axis=1)
              for steps in (40, 80, 160)]
    for one, half in itertools.pairwise(errors):
        assert abs(np.median(np.log2(one / half)) - (1 + halvings)) < 0.2
    as_dear = 160 * (2 ** (halvings + 1) - halvings - 1)
    descent = np.linalg.norm(reached(problem, Dynamics("tanh", 0.0), as_dear) - exact, axis=1)
    assert (errors[-1] < descent / 10).all()


@pytest.mark.laws
@pytest.mark.parametrize("rtol", [1e-5, 1e-7, 1e-9])
def test_the_adaptive_method_agrees_with_an_independent_one_to_its_tolerance(rtol):
    problem, exact = smooth()
    found = reached(problem, Dynamics("tanh", 0.0, "adaptive", rtol=rtol, atol=rtol / 100), 4)
    errors = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert errors.max() < 30 * rtol and errors.max() > rtol / 1000


@pytest.mark.laws
def test_the_flow_of_relu_is_of_its_order_up_to_a_change_of_gates():
    small = {"task": {**TASK, "samples": 6}, "network": {**NETWORK, "hidden": [3]}}
    ends = {steps: record(**small, method="flow", steps=steps, step_size=0.4 / steps, times="[0]")
            for steps in (10, 20, 40, 640)}
    config = study(**small).cells[0].config
    X = draw(config, {}, 5, np.arange(COUNT), np.arange(COUNT)).X
    gates = lambda W: np.einsum("iak,ink->ian", W, X) > 0
    still = (gates(ends[640].weights["W_final"]) == gates(ends[640].weights["W_start"])).all(axis=(1, 2))
    errors = {k: np.linalg.norm(final(run) - final(ends[640]), axis=1) for k, run in ends.items()}
    assert 3 <= still.sum() < COUNT
    for one, half in ((10, 20), (20, 40)):
        assert abs(np.median(np.log2(errors[one][still] / errors[half][still])) - 2) < 0.2
    assert np.median(errors[40][~still]) > 10 * np.median(errors[40][still])


CONTROLS = """
[study]
name = "controls"
seeds = 60
entropy = 20260205
[task]
kind = "gaussian"
dimension = 6
samples = 40
symmetric = true
loss = "logistic"
[network]
hidden = [16]
init = { scale = 1e-4 }
[training]
step_size = 0.1
steps = 20_000
until = { loss_drop = 0.05 }
dtype = "float64"
[record]
times = { spacing = "log", count = 48 }
[[cells]]
name = "heavy-ball"
training = { method = "heavy-ball", friction = 1.0 }
[[cells]]
name = "sign"
training = { method = "sign", step_size = 1e-5 }
[[cells]]
name = "tanh"
network.activation = "tanh"
[[cells]]
name = "softplus"
network = { activation = "softplus", sharpness = 2.0 }
[predictions]
balancedness = { control = "heavy-ball", further_controls = ["sign", "tanh", "softplus"] }
"""


@pytest.mark.laws
def test_balance_is_lost_in_every_control(tmp_path):
    verdicts = mcrace.test(mcrace.run(mcrace.parse_study(CONTROLS), tmp_path / "run", workers=0))
    limits = {v.control.cell: v for v in verdicts if v.statistic.startswith("drift at")}
    assert set(limits) == {"heavy-ball", "sign", "tanh", "softplus"}
    for name, found in limits.items():
        assert found.control.failed and found.control.low > 1e-2, name
        assert found.verdict == "supported" and found.high < 1e-2
