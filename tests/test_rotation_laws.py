"""The laws of rotation under test, on small real runs; every number is that of THEORY.md, with its control beside it."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from test_rotation import followed, invariant, networks_of, study

import mcrace
from mcrace.kernels.field_networks import population_drifts
from mcrace.predictions.angular_momentum import p_values, slopes

ORDERS = """
[[cells]]
name = "light"
network.init.ratio = 0.5
[[cells]]
name = "heavy"
network.init.ratio = 2.0
[[cells]]
name = "linear"
task.function = "linear"
[[cells]]
name = "linear-light"
task.function = "linear"
network.init.ratio = 0.5
[[cells]]
name = "linear-heavy"
task.function = "linear"
network.init.ratio = 2.0
"""


@pytest.mark.laws
def test_the_momentum_of_the_population_is_rounding_and_that_of_samples_falls_as_their_root(tmp_path):
    """Below 1e-14, and slope -0.5 within 0.05 at the start and on fresh samples; on linear labels neither."""
    cells = "".join(f"""
[[cells]]
name = "{function}-{n}"
task.function = "{function}"
task.samples = {n}
task.test_samples = {n}
""" for function, n in (("norm", 1200), ("norm", 4800), ("linear", 300), ("linear", 4800)))
    observables = '"angular_momentum@start", "angular_momentum_fresh@level=0.5", "angular_momentum_population@level=0.5"'
    small = study(cells, seeds=160, task="dimension = 3\nsamples = 300\ntest_samples = 300", steps=120, step_size=0.3, count=2,
                  observables=observables)
    results = mcrace.run(small, tmp_path / "run", workers=0)
    symmetric, linear = ["main", "norm-1200", "norm-4800"], ["linear-300", "linear-4800"]
    for name, state in (("angular_momentum", "start"), ("angular_momentum_fresh", "level=0.5")):
        falls, stays = (slopes([results.cell(c) for c in cells], name, state).values for cells in (symmetric, linear))
        assert np.isfinite(falls).mean() > 0.95 and abs(np.nanmean(falls) + 0.5) < 0.05 and abs(np.nanmean(stays)) < 0.1
    at_half = "angular_momentum_population", "level=0.5"
    assert np.nanmax(results.cell("main").at(*at_half)) < 1e-14 and np.nanmedian(results.cell("linear-300").at(*at_half)) > 0.05


@pytest.mark.laws
def test_on_samples_with_the_symmetry_of_a_polygon_the_momentum_falls_as_its_order(tmp_path):
    cells = "".join(f"""
[[cells]]
name = "C{n}"
task.order = {n}
task.samples = {8 * n}
task.test_samples = {8 * n}
""" for n in (32, 128))
    small = study(cells, seeds=400, task="dimension = 2\norder = 8\nsamples = 64\ntest_samples = 64", steps=2, count=2,
                  hidden=30, observables='"angular_momentum@start"')
    results = mcrace.run(small, tmp_path / "run", workers=0)
    found = slopes([results.cell(c) for c in ("main", "C32", "C128")], "angular_momentum", "start", "order").values
    assert abs(found.mean() + 1) < 0.1 and abs(found.mean() + 1) < 3 * found.std() / 20


@pytest.mark.laws
def test_balanced_neurons_keep_their_cyclic_order_on_any_task(tmp_path):
    """No group breaks when balanced, more than a quarter from |v| = 2|w|, with and without the symmetry; |w| = 2|v| hardly."""
    results = mcrace.run(study(ORDERS, seeds=48, task="dimension = 2\nsamples = 100\ntest_samples = 100", hidden=20, scale=0.1,
                               step_size=0.002, steps=6000, count=601, observables='"order_broken", "largest_drift"'),
                         tmp_path / "run", workers=0)
    for task in ("", "linear-"):
        balanced, light, heavy = (results.cell(c) for c in (task.rstrip("-") or "main", f"{task}light", f"{task}heavy"))
        assert 0.002 * balanced["largest_drift"].max() <= 0.002
        assert np.array_equal(balanced["order_broken"], np.zeros(48))
        assert np.nanmean(light["order_broken"]) > 0.25 and heavy["order_broken"].mean() < 0.02


def rolled(task, mu, steps, eta=0.01, networks=40):
    """Heavy balls on the population of a task: networks after each step, from random velocities."""
    W, v = (0.3 * a for a in networks_of(networks, 20, 4))
    U, u = (eta * a for a in networks_of(networks, 20, 4, seed=1))
    config = SimpleNamespace(training=SimpleNamespace(kept_velocity=mu))
    for k in range(steps + 1):
        yield SimpleNamespace(W=W, v=v, step=np.full(networks, k), origin=SimpleNamespace(config=config))
        D, _ = population_drifts(W, v, task.population_of(0, np.arange(networks)))
        along = np.cumsum(W * D, axis=2)[:, :, -1]
        U, u = mu * U + eta * v[:, :, None] * D, mu * u + eta * along
        W, v = W + U, v + u


@pytest.mark.laws
def test_the_momentum_of_a_heavy_ball_decays_as_its_velocity():
    """J_k = μ^k J_0 to 1e-10 on the population; not on linear labels, and not for another μ."""
    for mu in (0.9, 0.99):
        assert followed("momentum_decay", *rolled(invariant(), mu, 300)).max() < 1e-10
        assert followed("momentum_decay", *rolled(invariant(function="linear"), mu, 300)).min() > 1e-3
    states = list(rolled(invariant(), 0.9, 300))
    for state in states:
        state.origin.config.training.kept_velocity = 0.91
    assert followed("momentum_decay", *states).min() > 1e-3


@pytest.mark.calibration
def test_hotellings_test_holds_its_size_and_has_power(tmp_path):
    """p is uniform over 500 networks, and below 0.05 in nine tenths of them on linear labels; d = 4, N = 300."""
    results = mcrace.run(study("""
[[cells]]
name = "linear"
task.function = "linear"
""", seeds=500, task="dimension = 4\nsamples = 300\ntest_samples = 300", hidden=30, steps=2, count=2,
                               observables='"angular_momentum_f@start"'), tmp_path / "run", workers=0)
    p = p_values(results.cell("main"), "start")
    assert stats.kstest(p, "uniform").pvalue > 0.01 and 0.03 < np.mean(p < 0.05) < 0.07
    assert np.mean(p_values(results.cell("linear"), "start") < 0.05) > 0.9
