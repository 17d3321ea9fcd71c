"""The benchmark: every peer computes what the oracle does, and the table divides the right figures."""

import importlib.util
import json
import sys

import naive
import numpy as np
import pytest

from mcrace.bench import SHAPES, deep_peers, measure, measure_whole, peers, table, whole, whole_table
from mcrace.bench.measure import ETA, LayeredShape, Mcrace, Shape, layered_start, start
from mcrace.bench.peak import PEAK, Peak
from mcrace.completion import complete
from mcrace.errors import McraceError, StudyError
from mcrace.kernels import Layers, Norm
from mcrace.study import parse_study

timing = sys.modules[measure.__module__]  # its name in the package is the function's
STEPS, LARGE = 5, 0.2
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
RACING = """
[study]
name = "r"
seeds = 4
entropy = 1
[task]
kind = "gaussian"
dimension = 3
samples = 8
[network]
hidden = [4]
[training]
step_size = 0.1
steps = 3
[[cells]]
name = "lazy"
"network.init.scale" = 2.0
[predictions]
racing = { control = "lazy" }
"""
FEW_AND_MANY_INPUTS = [Shape(3, 5, 7), Shape(11, 5, 7)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", FEW_AND_MANY_INPUTS)
@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.library)
def test_a_peer_trains_as_the_oracle_does(peer, shape, dtype):
    pytest.importorskip(peer.module)
    W, v, X, y = start(shape, 3, dtype)
    training = peer(W, v, X, y, LARGE)
    training.run(2)
    training.run(STEPS - 2)
    expected = [naive.train(*(a.astype(float) for a in (w, out, X, y)), "mse", [LARGE] * STEPS) for w, out in zip(W, v)]
    for got, want, before in zip(training.weights(), zip(*expected), (W, v)):
        assert np.abs(np.array(want) - before).max() > 0.01
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("norm", [None, "layernorm"])
@pytest.mark.parametrize("peer", deep_peers.DEEP_PEERS, ids=lambda peer: peer.library)
def test_a_layered_peer_trains_as_the_oracle_does(peer, norm):
    pytest.importorskip(peer.module)
    shape = LayeredShape(3, (5, 4), 7, norm)
    weights, X, y = layered_start(shape, 2, "float64")
    layers = Layers(3, (5, 4), norm=Norm(norm, eps=deep_peers.EPS, trained=("gain", "shift")) if norm else None)
    training = peer([w.copy() for w in weights], 2, X, y, LARGE)
    training.run(2)
    training.run(2)
    for i in range(2):
        start_of = dict(zip([name for name in layers.names if not name.startswith("strength")], (w[i] for w in weights)))
        whole = [start_of.get(name, np.float64(1.0)) for name in layers.names]
        want = naive.layered_train(layers, whole, X, y[:, None], "mse", [LARGE] * 4)
        want = [w for name, w in zip(layers.names, want) if name in start_of]
        for got, w in zip(training.weights(), want, strict=True):
            np.testing.assert_allclose(got[i], w, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"loss": "logistic"}, {"momentum": 0.9, "decay": 1e-3}, {"fresh": True}])
def test_mcrace_takes_the_steps_it_is_timed_for(options):
    shape, options = Shape(3, 5, 7), dict(options)
    training = Mcrace(shape, "float64", **options)
    training.run(2)
    training.run(STEPS - 2)
    W, v, X, y = start(shape, training.networks.count, "float64", options.pop("fresh", False))
    kind = options.pop("loss", "mse")
    got = training.networks.weights()
    for i in (0, len(W) - 1):
        samples = (X[i], y[i]) if X.ndim == 3 else (X, y)
        want = naive.train(W[i], v[i], *samples, kind, [ETA] * STEPS, **options)
        for g, w in zip(got, want):
            np.testing.assert_allclose(g[i], w, rtol=0, atol=1e-10)


def row(library, speed, shape="A", dtype="float32"):
    return {"shape": shape, "dtype": dtype, "library": library, "steps_per_second": speed}


def test_the_table_divides_by_the_best_peer_of_the_same_shape_and_dtype():
    rows = [row("mcrace", 9.0e6), row("numpy", 1.5e6), row("jax gemms", 2.0e6), row("mcrace logistic", 8e6),
            row("mcrace", 1e4, "E"), row("numpy", 125, "E"), row("jax gemms", 99.96, "E"), row("jax gram", 4e3, "E"),
            row("mcrace", 5.0e6, dtype="float64"), row("numpy", 999_960, dtype="float64")]  # fmt: skip
    single, double = (block.splitlines() for block in table(rows).split("\n\n"))
    cells = {line[:18].strip(): line[18:].split("  ") for line in single}
    cells = {name: [cell.strip() for cell in line if cell.strip()] for name, line in cells.items()}
    assert next(iter(cells)) == "float32, steps/s"
    assert cells["float32, steps/s"] == ["A", "E"]
    assert cells["mcrace"] == ["9M", "10k"]
    assert cells["mcrace logistic"] == ["8M", "-"]
    assert cells["jax gemms"] == ["2M", "100"]
    assert cells["best peer"] == ["jax gemms", "numpy"]
    assert cells["mcrace / jax gram"] == ["-", "2.50×"]
    assert cells["mcrace / best peer"] == ["4.50×", "80.00×"]
    assert double[-1].split() == ["mcrace", "/", "best", "peer", "5.00×"]
    assert double[2].split() == ["numpy", "1M"]
    assert len({len(line) for line in single}) == 1


def test_a_table_without_peers_has_no_ratio():
    assert table([row("mcrace", 9.0e6)]).splitlines()[-1].split()[-1] == "-"


def test_unknown_names_are_the_users_mistake():
    with pytest.raises(StudyError, match="unknown shape 'Z'"):
        measure(["Z"])
    with pytest.raises(StudyError, match="unknown dtype 'float16'"):
        measure(["A"], dtypes=["float16"])


def test_a_measuring_process_that_fails_is_said(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(McraceError, match="exit code 1"):
        measure(["A"])


def test_the_measuring_process_answers():
    assert measure(["A"], dtypes=[]) == []


@pytest.fixture
def numpy_alone(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: importlib.util.find_spec(name) if name == "numpy" else None)


def test_peers_that_are_not_installed_are_left_out(numpy_alone):
    assert peers.installed() == [peers.NumpyBatched]


def test_every_library_has_a_row(numpy_alone, monkeypatch):
    for name, value in {"SECONDS": 1e-3, "TRIAL_SECONDS": 1e-3, "LARGEST_BATCH": 2}.items():
        monkeypatch.setattr(timing, name, value)
    rows = timing._race("B", "float64", 2)
    assert [row["library"] for row in rows] == ["mcrace", "numpy", *timing.VARIANTS, PEAK]
    assert [row["kernel"] for row in rows] == ["one-layer-lanes", None] + ["one-layer-lanes"] * 3 + [None]
    for row in json.loads(json.dumps(rows)):
        assert (row["shape"], row["dtype"], row["rounds"]) == ("B", "float64", 2)
        assert (row["d"], row["m"], row["N"]) == SHAPES["B"]
        assert row["gflops"] == pytest.approx(row["steps_per_second"] * (4 * 100 * 500 + 6 * 5000 + 4 * 500) / 1e9)
    assert table(rows).count("\n") == 9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_of_multiply_adds_that_are_done(dtype):
    peak = Peak(dtype)
    peak.x[:] = 1
    peak.run(2)
    rows, cols, lanes = peak.x[:, :-2].shape
    assert (peak.x[:, :-2] == 1 + 2 * peak.flops / (2 * rows * cols * lanes)).all()


def test_the_whole_command_is_timed_on_what_racing_asks_for():
    config = whole.study(40).cells[0].config
    assert (config.task.inputs(), config.network.hidden, config.task.samples) == (10, (50,), 100)
    asked = [observable for cell in complete(parse_study(RACING)).cells for observable in cell.config.record.observables]
    assert set(config.record.observables) == {"loss", *asked}
    one, two = measure_whole(rounds=1, networks=40)
    for row, workers in ((one, 1), (two, 2)):
        assert (row["workers"], row["networks"], row["rounds"]) == (workers, 40, 1)
        assert 0 < row["shard_seconds"] < row["seconds"]
        assert 0 < row["compiled_share"] < 1


def test_the_table_of_the_whole_command_divides_one_worker_by_two():
    rows = [{"workers": 1, "networks": 20000, "rounds": 3, "seconds": 50.0, "shard_seconds": 45.0, "compiled_share": 0.876},
            {"workers": 2, "networks": 20000, "rounds": 3, "seconds": 25.0, "shard_seconds": 30.0, "compiled_share": 0.874}]
    title, _, one, two, ratio = whole_table(rows).splitlines()
    assert title.startswith("20,000 networks of shape B")
    assert one.split() == ["1", "worker", "50.0", "s", "45.0", "s", "88", "%"]
    assert two.split() == ["2", "workers", "25.0", "s", "30.0", "s", "87", "%"]
    assert ratio.split() == ["ratio", "2.00×", "1.50×"]


def test_a_run_that_fails_is_said(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(McraceError, match="exit code 1"):
        measure_whole(networks=16)
