"""How far networks are from their start: tangent kernels, gates and parameters against plain NumPy; test samples."""

import numpy as np
import pytest
from test_observe import networks, value

import mcrace
from mcrace.errors import StudyError
from mcrace.tasks import TASKS


def kernel(W, v, X):
    """The tangent kernel of one network, as the sum over all its parameters of the products of derivatives."""
    on = (X @ W.T > 0).astype(float)
    by_W = on[:, :, None] * v[None, :, None] * X[:, None, :]
    J = np.concatenate([by_W.reshape(len(X), -1), np.maximum(X @ W.T, 0)], axis=1)
    return J @ J.T


@pytest.mark.parametrize("shared", [True, False])
def test_kernels_gates_and_parameters_against_plain_numpy(shared):
    W, v, X, y = networks(1)
    W0, v0, _, _ = networks(2)
    X, y = (X[0], y[0]) if shared else (X, y)
    found = {name: value(name, W, v, X, y, start=(W0, v0)) for name in
             ("kernel_distance", "kernel_change", "kernel_alignment", "gate_distance", "parameter_distance")}
    for i in range(len(W)):
        x, t = (X, y) if shared else (X[i], y[i])
        K, K0 = kernel(W[i], v[i], x), kernel(W0[i], v0[i], x)
        norm, norm0 = np.linalg.norm(K), np.linalg.norm(K0)
        expected = {
            "kernel_distance": 1 - (K * K0).sum() / (norm * norm0), "kernel_change": np.linalg.norm(K - K0) / norm0,
            "kernel_alignment": t @ K @ t / (norm * (t @ t)),
            "gate_distance": np.mean((x @ W[i].T > 0) != (x @ W0[i].T > 0)),
            "parameter_distance": np.sqrt(((W[i] - W0[i]) ** 2).sum() + ((v[i] - v0[i]) ** 2).sum())
            / np.sqrt((W0[i] ** 2).sum() + (v0[i] ** 2).sum())}
        for name, number in expected.items():
            assert found[name][i] == pytest.approx(number, rel=1e-12), name


def test_a_network_at_its_start_has_gone_nowhere():
    W, v, X, y = networks(3)
    for name in ("kernel_distance", "kernel_change", "gate_distance", "parameter_distance"):
        assert value(name, W, v, X, y) == pytest.approx(0, abs=1e-15), name


def test_a_kernel_that_only_grows_has_not_turned():
    """All weights doubled: the kernel is four times as large, and in the same direction; no gate has changed."""
    W, v, X, y = networks(4)
    found = {n: value(n, 2 * W, 2 * v, X, y, start=(W, v)) for n in ("kernel_distance", "kernel_change", "gate_distance")}
    assert found["kernel_distance"] == pytest.approx(0, abs=1e-12) and found["kernel_change"] == pytest.approx(3)
    assert (found["gate_distance"] == 0).all()
    assert value("parameter_distance", 2 * W, 2 * v, X, y, start=(W, v)) == pytest.approx(1)


STUDY = """
[study]
name = "tests"
seeds = 5
entropy = 3
[task]
kind = "gaussian"
samples = 20
test_samples = {test}
dimension = 4
fresh = {fresh}
[network]
hidden = [6]
init = {{ scale = 0.5 }}
[training]
step_size = 0.5
steps = 60
dtype = "float64"
[record]
times = [0, 60]
observables = ["test_loss", "test_accuracy@final", "test_loss@final"]
weights = "ends"
"""


@pytest.mark.parametrize("fresh", ["true", "false"])
def test_test_samples_are_those_of_the_task(fresh, tmp_path):
    study = mcrace.parse_study(STUDY.format(test=30, fresh=fresh))
    cell = mcrace.run(study, tmp_path, workers=0).cell("main")
    task = TASKS["gaussian"].model_validate(study.cells[0].config.task.model_dump())
    X, y = task.test_samples_of({}, 3, np.arange(5))
    for i in range(5):
        x, t = (X[i], y[i]) if fresh == "true" else (X, y)
        f = np.maximum(x @ cell["W_final"][i].T, 0) @ cell["v_final"][i]
        assert cell.at("test_loss", "final")[i] == pytest.approx(np.logaddexp(0, -t * f).mean(), rel=1e-12)
        assert cell.at("test_accuracy", "final")[i] == pytest.approx((f * t > 0).mean())
        assert cell["test_loss"][i, 1] == cell.at("test_loss", "final")[i] != cell["test_loss"][i, 0]


def test_tests_without_test_samples_are_told_at_once(tmp_path):
    study = mcrace.parse_study(STUDY.format(test=0, fresh="true"))
    with pytest.raises(StudyError, match=r"task\.test_samples: is 0 in cell main, but 'test_loss' needs test samples"):
        mcrace.run(study, tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()
