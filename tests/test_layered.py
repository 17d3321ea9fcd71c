"""Layered networks from a study file to what is recorded of them, against plain NumPy; and what they are refused."""

import naive
import numpy as np
import pytest

from mcrace import engine
from mcrace.errors import StudyError
from mcrace.initial import initial_weights, layers_of, parameters_of
from mcrace.kernels import Norm
from mcrace.observe.layered import as_layered
from mcrace.recording import Status
from mcrace.repeat import network
from mcrace.results import open_results
from mcrace.schedule import step_sizes
from mcrace.sections import recording_steps
from mcrace.seeds import Stream, batches
from mcrace.study import parse_study
from mcrace.tasks.corruption import Image
from mcrace.tasks.normalisation import InputNorm, normalised_inputs
from mcrace.training import _snapshot, draw, train
from mcrace.worker import kernel_of

ENTROPY = 23
OBSERVABLES = ("loss", "accuracy", "zero_loss@start", "loss@start", "loss@level=0.5", "loss@final")


def text(network, task="", training="", cells="", observables=OBSERVABLES, seeds=5):
    listed = ", ".join(f'"{o}"' for o in observables)
    return f"""
[study]
name = "layers"
seeds = {seeds}
entropy = {ENTROPY}
[task]
kind = "gaussian"
samples = 6
test_samples = 5
dimension = 4
loss = "mse"
{task}
[network]
{network}
[training]
step_size = 0.3
steps = 6
dtype = "float64"
{training}
[record]
times = [0, 2, 5, 6]
weights = "ends"
observables = [{listed}]
{cells}
"""


def config(*args, **options):
    return parse_study(text(*args, **options)).cells[0].config


def run(config, seeds=5, batch=16, times=None):
    times = recording_steps(config.record.times, config.training.steps) if times is None else np.array(times)
    return train(config, {}, ENTROPY, np.arange(seeds), times, batch)


NORMS = ("layernorm", "r_layernorm", "bayesian_r_layernorm")
NETWORKS = {
    "deep": "hidden = [5, 3]",
    "three layers, biases, residual": "hidden = [4, 4, 3]\nbias = true\nresidual = true",
    "normalised": 'hidden = [5]\nnorm = { kind = "layernorm", trained = ["gain", "shift"] }',
    "roughness of h": 'hidden = [5, 4]\nnorm = { kind = "r_layernorm", trained = ["strength"], strength = 0.5 }',
    "roughness of x": 'hidden = [5]\nnorm = { kind = "bayesian_r_layernorm", roughness_of = "input", eps = 0.0 }',
    "lazy": "hidden = [5, 3]\ninit = { subtract_start = true }",
}


def trained_by_hand(config, seed, steps):
    """Weights of one network, and its labels and E, after so many steps."""
    X, y = config.task.sample({}, ENTROPY, seed)
    layers = layers_of(config)
    weights = [w[0] for w in initial_weights(config, ENTROPY, np.array([seed]))]
    norm = config.network.norm
    given = None
    if norm is not None and norm.roughness_of == "input":
        given = np.array([naive.roughness(x, norm.eps) for x in X])
        if norm.roughness == "frozen":
            given[:] = given.mean()
        if norm.roughness == "shuffled":
            given = given[Stream(ENTROPY, "roughness", seed).permutation(len(given))]
    offset = naive.layered(layers, weights, X, given)[0] if config.network.init.subtract_start else 0.0
    training, orders = config.training, None
    if training.batch:
        orders = batches(ENTROPY, np.array([seed]), 0, steps, len(X), training.batch)[0]
    weights = naive.layered_train(layers, weights, X, y[:, None] + offset, "mse", step_sizes(training, 0, steps), given,
                                  training.weight_decay, training.kept_velocity, orders)
    f = (naive.layered(layers, weights, X, given)[0] - offset)[:, 0]
    return weights, ((f - y) ** 2 / 2).mean(), (f * y > 0).mean()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_run_is_that_of_plain_numpy(name):
    found = config(NETWORKS[name])
    record = run(found, seeds=2)
    assert kernel_of(found) == "layers-lanes"
    for seed in range(2):
        for place, step in enumerate(record.times):
            weights, loss, accuracy = trained_by_hand(found, seed, int(step))
            assert record.grid["loss"][seed, place] == pytest.approx(loss, rel=1e-10)
            assert record.grid["accuracy"][seed, place] == accuracy
        for key, w in zip(parameters_of(found), weights):
            assert record.weights[f"{key}_final"][seed] == pytest.approx(w, rel=1e-9, abs=1e-12), key


@pytest.mark.parametrize("roughness", ["frozen", "shuffled"])
def test_the_roughness_of_controls(roughness):
    found = config(f'hidden = [5]\nnorm = {{ kind = "r_layernorm", roughness_of = "input", roughness = "{roughness}" }}')
    assert run(found, seeds=1).grid["loss"][0, -1] == pytest.approx(trained_by_hand(found, 0, 6)[1], rel=1e-10)
    own = found.network.norm.model_copy(update={"roughness": "own"})
    other = type(found)(found.task, found.network.model_copy(update={"norm": own}), found.training, found.record)
    assert run(found, seeds=1).grid["loss"][0, -1] != run(other, seeds=1).grid["loss"][0, -1]


@pytest.mark.parametrize("kind", NORMS)
def test_a_normalisation_of_the_input_itself(kind):
    options = f'normalise = {{ kind = "{kind}", strength = 0.7, alpha = 1.3, eps = 0.01 }}'
    plain, found = config("hidden = [5]"), config("hidden = [5]", task=options)
    norm = Norm(kind, "hidden", 1.3, 0.01)
    for samples in ("samples_of", "test_samples_of"):
        raw, seen = (getattr(c.task, samples)({}, ENTROPY, np.arange(2))[0] for c in (plain, found))
        expected = [[naive.normalised(x, 1, 0, 0.7, norm, None)[0] for x in X] for X in raw]
        assert np.allclose(seen, expected, rtol=1e-12, atol=1e-14)


def test_inputs_that_are_all_equal_are_normalised_to_0():
    for kind in NORMS:
        X = normalised_inputs(np.full((2, 9), 0.1), InputNorm(kind=kind, eps=0.0), Image(3, 3))
        assert (X == 0).all()
        assert np.isnan(normalised_inputs(np.array([[1.0, np.nan, 2.0]]), InputNorm(kind=kind), None)).all()


@pytest.mark.parametrize("training", ["batch = 2", 'method = "heavy-ball"\nmomentum = 0.5', "weight_decay = 0.1"])
def test_methods(training):
    found = config(NETWORKS["deep"], training=training)
    assert run(found, seeds=1).grid["loss"][0, -1] == pytest.approx(trained_by_hand(found, 0, 6)[1], rel=1e-10)


def test_the_output_is_0_at_the_start_where_that_is_subtracted():
    record = run(config(NETWORKS["lazy"]))
    places = [record.states.index("start")] * 2
    assert record.at["loss"][:, places[0]] == pytest.approx(record.at["zero_loss"][:, places[1]], rel=1e-15)
    other = run(config(NETWORKS["deep"]))
    assert (record.weights["W1_start"] == other.weights["W1_start"]).all()
    assert abs(other.at["loss"][:, places[0]] - other.at["zero_loss"][:, places[0]]).min() > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_no_bit_hangs_on_the_batch_or_on_recording_times(name):
    found = config(NETWORKS[name], training="batch = 3")
    whole, parts, late = run(found, 20), run(found, 20, batch=7), run(found, 20, times=[6])
    for key in whole.weights:
        assert whole.weights[key].tobytes() == parts.weights[key].tobytes() == late.weights[key].tobytes()
    assert whole.grid["loss"].tobytes() == parts.grid["loss"].tobytes()
    assert whole.grid["loss"][:, -1].tobytes() == late.grid["loss"][:, -1].tobytes()


def test_levels_are_met_and_end_a_network():
    longer = text(NETWORKS["deep"] + "\ninit = { scale = 1.5 }", training="until = { loss_drop = 0.6 }")
    found = parse_study(longer.replace("steps = 6", "steps = 200")).cells[0].config
    record = run(found, 30, times=[0, 200])
    stopped = record.status == Status.STOPPED
    assert stopped.mean() > 0.5
    level, final, zero = (record.at[name][stopped, record.states.index(state)]
                          for name, state in (("loss", "level=0.5"), ("loss", "final"), ("zero_loss", "start")))
    assert (final <= 0.4 * zero * (1 + 1e-12)).all() and (final <= level).all() and (level <= 0.5 * zero * (1 + 1e-12)).all()


def test_one_hidden_layer_seen_as_layers():
    found = config("hidden = [7]")
    group = draw(found, {}, ENTROPY, np.arange(3), np.arange(3))
    plain = _snapshot(group, 0)
    layered = as_layered(plain)
    assert as_layered(plain) is layered and as_layered(layered) is layered
    assert np.allclose(layered.outputs, plain.outputs, rtol=1e-13)
    assert np.allclose(layered.slopes[0], plain.v[:, :, None] * plain.drift, rtol=1e-12)
    assert np.allclose(layered.slopes[1][:, 0], (plain.W * plain.drift).sum(axis=2), rtol=1e-11)
    assert (layered.active[:, 0] == plain.active).all()
    assert np.allclose(layered.test.outputs, plain.test.outputs, rtol=1e-13)


def test_test_samples_of_layers():
    found = config(NETWORKS["lazy"])
    group = draw(found, {}, ENTROPY, np.arange(2), np.arange(2))
    start = _snapshot(group, 0)
    assert abs(start.test.outputs).max() < 1e-14
    moved = start.with_weights(*(1.1 * w for w in start.weights)).test
    X, y = found.task.test_samples_of({}, ENTROPY, np.arange(2))
    layers, first = layers_of(found), [w[1] for w in start.weights]
    expected = naive.layered(layers, [1.1 * w for w in first], X[1])[0] - naive.layered(layers, first, X[1])[0]
    assert np.allclose(moved.outputs[1], expected[:, 0], rtol=1e-12) and (moved.y[1] == y[1]).all()


def test_the_first_layer_starts_as_that_of_a_network_of_one():
    deep, one = config("hidden = [5, 3]"), config("hidden = [5]")
    W, *_, V = initial_weights(deep, ENTROPY, np.arange(4))
    assert (initial_weights(one, ENTROPY, np.arange(4))[0] == W).all()
    assert V.shape == (4, 1, 3)


def test_results_hold_all_weights(tmp_path):
    study = parse_study(text(NETWORKS["three layers, biases, residual"], cells='[[cells]]\nname = "alike"'))
    engine.run(study, tmp_path / "out", workers=2)
    results = open_results(tmp_path / "out")
    cell = results.cell("alike")
    assert cell.dims("W2_final") == ("seed", "neuron2", "neuron1") and cell.dims("V_start") == ("seed", "output", "neuron3")
    assert cell.dims("b_out_final") == ("seed", "output")
    assert (cell["W2_final"] == results.cell("main")["W2_final"]).all()
    one = network(tmp_path / "out", "alike", 3)
    assert (one["W3_final"] == cell["W3_final"][3]).all() and one["X"].shape == (6, 4)


@pytest.mark.parametrize(("network", "options", "words"), [
    ("hidden = [5, 4]", {"observables": ("cosine",)}, "'cosine' is of networks with one hidden layer"),
    ("hidden = [5]\nbias = true", {"observables": ("unlocking_time",)}, "'unlocking_time' is of networks with one hidden"),
    ("hidden = [5, 4]\ninit = { paired = true }", {}, "init.paired goes with one hidden layer"),
    ("hidden = [5]\ninit = { subtract_start = true }", {"task": "#"}, 'goes with task.loss = "mse"'),
    ('hidden = [5]\nnorm = { kind = "r_layernorm", roughness = "frozen" }', {}, 'goes with roughness_of = "input"'),
    ("hidden = [5]", {"task": 'kind = "sphere"\nintrinsic = 2\nnormalise = { kind = "layernorm" }'}, "would bend the manifold"),
    ('hidden = [5]\nnorm = { kind = "batchnorm" }', {}, "network.norm.kind"),
])
def test_what_is_refused(tmp_path, network, options, words):
    made = text(network, **options)
    if options.get("task") == "#":
        made = made.replace('loss = "mse"', 'loss = "logistic"')
    if "kind" in options.get("task", ""):
        made = made.replace('kind = "gaussian"\n', "")
    with pytest.raises(StudyError, match=words.replace("[", r"\[")):
        engine.run(parse_study(made), tmp_path / "out", workers=1)
