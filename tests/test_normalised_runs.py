"""Normalised networks in real runs: what cannot change does not, and the laws of their growth on small studies."""

import numpy as np
import pytest

import mcrace
from mcrace.observe.normalised import psi
from mcrace.tasks.corruption import CLEAN, CONDITIONS
from mcrace.tasks.roughness import roughness_of

STUDY = """
[study]
name = "normalised"
seeds = {seeds}
entropy = 20260204
[task]
kind = "digits"
classes = [3, 8]
samples = {samples}
test_samples = 60
center = false
[network]
hidden = [{hidden}]
init = {{ scale = {scale} }}
[training]
step_size = {step_size}
steps = {steps}
dtype = "float64"
[record]
times = {times}
{more}
"""
VALUES = {"seeds": 40, "samples": 60, "hidden": 16, "scale": "1e-2", "step_size": "0.1", "steps": 300,
          "times": '{ spacing = "linear", count = 301 }'}


def run(directory, more, **changes):
    """The results of a study."""
    text = STUDY.format(**{**VALUES, **changes, "more": more})
    return mcrace.run(mcrace.parse_study(text), directory / "results", workers=0)


SWAPPED = """
observables = ["swapped_accuracy@final", "swapped_nll@final", "corrupted_accuracy@final", "corrupted_uncertainty@final",
               "test_uncertainty@final", "test_accuracy@final"]
weights = "ends"
[[cells]]
name = "layernorm"
network.norm = { kind = "layernorm", roughness_of = "input", trained = ["gain"] }
[[cells]]
name = "bayesian"
network.norm = { kind = "bayesian_r_layernorm", roughness_of = "input", trained = ["strength"] }
[[cells]]
name = "shifted"
network.norm = { kind = "bayesian_r_layernorm", roughness_of = "input", trained = ["shift"] }
"""


@pytest.fixture(scope="module")
def swapped(tmp_path_factory):
    """Networks that have learnt for a while, tested behind each normalisation."""
    return run(tmp_path_factory.mktemp("swapped"), SWAPPED, seeds=3, scale=0.3, step_size=1.0, steps=40, times="[0, 40]")


@pytest.mark.parametrize("name", ["layernorm", "bayesian"])
def test_another_normaliser_at_test_changes_no_label(swapped, name):
    """β = 0 and no output bias: f is multiplied by a positive number (THEORY.md, corruption-robustness)."""
    cell = swapped.cell(name)
    accuracy, nll = (cell.at(f"swapped_{what}", "final") for what in ("accuracy", "nll"))
    assert accuracy.shape == (3, 3, 4, 5) and (accuracy == accuracy[:, :1]).all()
    assert np.array_equal(accuracy[:, 0], cell.at("corrupted_accuracy", "final"))
    assert (nll[:, 0] != nll[:, 1]).all() and (nll[:, 1] != nll[:, 2]).all(), "but how sure it is of them"
    assert (accuracy < 1).any(), "there is something to change"


def test_with_a_shift_labels_do_change(swapped):
    accuracy = swapped.cell("shifted").at("swapped_accuracy", "final")
    assert (accuracy[:, 0] != accuracy[:, 1]).any()


def test_networks_without_normalisation_have_none_to_swap(swapped):
    cell = swapped.cell("main")
    for name in ("swapped_accuracy", "swapped_nll", "corrupted_uncertainty", "test_uncertainty"):
        assert np.isnan(cell.at(name, "final")).all()
    assert np.isfinite(cell.at("corrupted_accuracy", "final")).all()


def test_the_uncertainty_of_a_layer_and_its_outputs_in_numpy(swapped):
    """σ_eff = σ exp(αψ(λE)), and outputs, on clean and on corrupted images."""
    cell = swapped.cell("bayesian")
    task = swapped.study.cells[0].config.task
    W, V, strength = (cell[f"{name}_final"] for name in ("W1", "V", "strength1"))
    accuracy, uncertainty = cell.at("corrupted_accuracy", "final"), cell.at("corrupted_uncertainty", "final")
    for k, s, condition in [(k, s, CONDITIONS[k][s]) for k, s in ((0, 4), (1, 1), (2, 2), (3, 3))] + [(-1, -1, CLEAN)]:
        X, y = task.test_samples_of(task.pool(), 20260204, cell.seeds, condition)
        h = np.einsum("iak,ink->ian", W, X)
        h -= h.mean(axis=1, keepdims=True)
        sigma = np.sqrt((h**2).mean(axis=1) + 1e-5) * np.exp(psi(strength[:, None] * roughness_of(X, task.image(), 1e-5)))
        f = np.einsum("ia,ian->in", V[:, 0], np.maximum(h / sigma[:, None], 0))
        clean = condition is CLEAN
        mean = cell.at("test_uncertainty", "final") if clean else uncertainty[:, k, s]
        share = cell.at("test_accuracy", "final") if clean else accuracy[:, k, s]
        assert np.allclose(mean, (1 / sigma**2).mean(axis=1), rtol=1e-9)
        assert np.array_equal(share, (f * y > 0).mean(axis=1))
    assert ((strength >= 1e-3) & (strength < 1)).all(), "λ has learnt"


GROWTH = """
[[cells]]
name = "layernorm"
network.init = { scale = 1e-3, ratio = 1e6 }
training = { step_size = 2e-3, steps = 300, dtype = "float64" }
network.norm = { kind = "layernorm", eps = 0.0 }
[[cells]]
name = "bayesian"
network.init = { scale = 1e-3, ratio = 1e6 }
training = { step_size = 2e-3, steps = 300, dtype = "float64" }
network.norm = { kind = "bayesian_r_layernorm", eps = 0.0, roughness_of = "input" }
[[cells]]
name = "hidden"
network.init = { scale = 1e-3, ratio = 1e6 }
training = { step_size = 2e-3, steps = 300, dtype = "float64" }
network.norm = { kind = "bayesian_r_layernorm", eps = 0.0 }
[predictions]
normalised-growth = { control = "main" }
"""


@pytest.mark.laws
def test_incoming_norms_race_for_a_given_sum_and_outgoing_ones_grow_linearly(tmp_path):
    """THEORY.md, normalised-growth, with every control failing."""
    found = {(v.cell, v.statistic): v for v in mcrace.test(run(tmp_path, GROWTH))}
    for (cell, statistic), v in found.items():  # how E of h ends up takes more networks
        assert v.verdict in ("supported", "reported") or "AUC of E of h" in statistic, (cell, statistic, v)
    for cell in ("layernorm", "bayesian", "hidden"):
        growth = found[cell, "growth of |W|² over Σ η²|∂L/∂W|²"]
        assert abs(growth.estimate - 1) < 1e-6 and growth.control.estimate > 5
        assert found[cell, "|cosine| of W and ∂L/∂W, onset"].high < 1e-12
        slope = found[cell, "slope of log|v(t) - v(0)| on log t"]
        assert slope.low > 0.95 and slope.high < 1.05 and slope.control.low > 1.2
        assert found[cell, "AUC of E of the input at noise 0.5"].low > 0.8
        assert abs(found[cell, "AUC of E of h at noise 0.5, start"].estimate - 0.5) < 0.05
    for cell in ("bayesian", "hidden"):
        assert found[cell, "relative error of the projected growth"].high < 1e-5
