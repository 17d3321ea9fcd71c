"""winner-concentration: what is recorded, the statistic on made-up networks that obey the law or do not, and real networks."""

import math

import numpy as np
import pytest
from scipy import stats
from test_predictions import Cell

import mcrace
from mcrace.errors import StudyError
from mcrace.predictions import PREDICTIONS
from mcrace.predictions.base import Evidence
from mcrace.predictions.forms import Measured, judge_level, judge_uniform, level_band
from mcrace.predictions.winner_concentration import clocks, link_slopes, whole_law_p
from mcrace.statistics.directional import SphericalCauchy, VonMisesFisher, uniform_directions
from mcrace.statistics.directional_tests import fit_p
from mcrace.tasks.gaussian import Gaussian

NAME = "winner-concentration"
LAW, STEP, DRIFT = PREDICTIONS[NAME], 0.1, 0.05
RATE = math.log1p(STEP * DRIFT)
INIT = {"norms": "equal", "direction": None}


def options(**more):
    return LAW.options(**{"control": "even", "link_control": "link-control", "bootstraps": 19, **more})


class Directions(Cell):
    """A cell of made-up networks whose directions were dilated by the clock, from uniform or concentrated starts."""

    def __init__(self, name, networks=60, neurons=300, d=5, kappa=None, factor=1.0, seed=0, symmetric=True, **init):
        rng = np.random.default_rng(seed)
        start = uniform_directions(rng, networks, neurons, d)
        if kappa:
            start = VonMisesFisher(d, np.full(networks, kappa)).directions(rng, neurons)
        v = np.where(rng.random((networks, neurons)) < 0.5, -1.0, 1.0)
        side = v[:, :, None] * start
        self.steps = {f"tau={tau:g}": math.ceil(tau / (STEP * DRIFT)) for tau in (1, 1.5, 2)}
        self.steps["start"] = 0
        at = {("output_weight", "start"): v, ("drift_norm", "start"): np.full(v.shape, DRIFT)}
        for state, steps in self.steps.items():
            tau = factor * steps * RATE
            grown = np.cosh(tau) + side[:, :, 0] * np.sinh(tau)
            moved = np.concatenate([(np.sinh(tau) + side[:, :, :1] * np.cosh(tau)), side[:, :, 1:]], axis=2) / grown[:, :, None]
            at["direction", state], at["axis_cosine", state] = moved, moved[:, :, 0]
            at["norm_product", state] = grown**2
            for label, mine in (("positive", v > 0), ("negative", v < 0)):
                mean = np.sum(moved * mine[:, :, None], axis=1) / mine.sum(axis=1)[:, None]
                at[f"resultant_{label}", state] = np.sqrt(np.sum(mean**2, axis=1))
        super().__init__(name, at=at, neurons=neurons, init={**INIT, "direction": {"kappa": kappa} if kappa else None, **init})
        self.config["task"] = {"symmetric": symmetric}
        self.config["training"] |= {"step_size": STEP, "weight_decay": 0.0, "batch": None,
                                    "schedule": {"kind": "constant", "warm_up": 0}}

    def state_step(self, state):
        return np.full(len(self.seeds), self.steps[state])


def judged(main, *controls, **more):
    known = {cell.name: cell for cell in controls}
    verdicts = LAW.judge(Evidence(1, main, known.get("even"), main, True, controls=known), options(**more))
    return {v.statistic: v for v in verdicts}


# ------------------------------------------------------------------------------------------------- forms


def level(main, control):
    """The verdict on p-values of networks, beside those of a control."""
    arms = (Measured(name, np.arange(len(p)), np.asarray(p, float)) for name, p in (("main", main), ("even", control)))
    return judge_level(LAW, Evidence(1, Cell("main"), None, None), "level", *arms)


@pytest.mark.parametrize("rejected, beside, verdict", [
    (5, 100, "supported"), (1, 100, "supported"), (0, 100, "inconclusive"), (11, 100, "inconclusive"), (25, 100, "refuted"),
    (5, 5, "not discriminating"), (5, 12, "not discriminating"),
])
def test_a_true_law_is_rejected_in_one_of_twenty(rejected, beside, verdict):
    main, control = (np.where(np.arange(100) < count, 0.01, 0.5) for count in (rejected, beside))
    found = level(main, control)
    assert found.verdict == verdict and found.estimate == rejected / 100 and found.control.estimate == beside / 100
    assert found.margin == level_band(100) and found.networks == 100
    most = round(100 * found.margin.high)
    assert stats.binom.cdf(most, 100, 0.05) >= 0.975 > stats.binom.cdf(most - 1, 100, 0.05)


def test_sixty_networks_are_needed_to_test_a_level():
    for count, verdict in ((59, "not testable here"), (60, "supported")):
        found = level(np.linspace(0.01, 1, count), np.zeros(count))
        assert found.verdict == verdict
    missing = np.r_[np.full(11, np.nan), np.linspace(0.01, 1, 89)]
    found = level(missing, np.zeros(100))
    assert found.verdict == "inconclusive" and "11%" in found.note and found.dropped == 11


@pytest.mark.parametrize("power, verdict", [(1.0, "supported"), (1.2, "refuted")])
def test_numbers_of_all_networks_are_uniform(power, verdict):
    numbers = ((np.arange(2000) + 0.5) / 2000) ** power
    found = judge_uniform(LAW, Evidence(1, Cell("main"), None, None), "places", numbers, numbers**3, "even")
    assert found.verdict == verdict and found.control.failed
    assert found.estimate == pytest.approx(stats.kstest(numbers, "uniform").statistic)
    same = judge_uniform(LAW, Evidence(1, Cell("main"), None, None), "places", numbers, numbers, "even")
    assert same.verdict == ("not discriminating" if power == 1 else "refuted")


# ------------------------------------------------------------------------------------------------- made-up networks


def test_networks_that_obey_the_law():
    main, even = (Directions(name, d=10, factor=factor, seed=7) for name, factor in (("main", 1.0), ("even", 0.2)))
    found = judged(main, even)
    primary = found["winners, top 0.25: share of p ≤ 0.05"]
    assert primary.primary and primary.verdict == "supported" and primary.control.estimate == 1
    assert {v.verdict for v in found.values() if "rejects the Cauchy" not in v.statistic} == {"supported"}
    # a control that obeys the law of another clock is kept by the test that fits it
    assert found["all neurons: share that rejects the Cauchy law"].verdict in ("not discriminating", "inconclusive")
    assert abs(clocks(main, "tau=2")[0] - 2) < 0.01


def test_another_clock_or_shuffled_winners_are_refuted():
    """Any neurons of a law look like its winners but for one thing: the law is not cut off for them."""
    even = Directions("even", factor=0.2, seed=1, neurons=300)
    slow = judged(Directions("main", factor=0.8), even)
    assert slow["winners, top 0.25: share of p ≤ 0.05"].verdict == "refuted"
    assert slow["all neurons: gain of log-likelihood less the law's"].verdict != "supported"
    shuffled = Directions("main")
    assert np.mean(whole_law_p(shuffled, 0.25).values <= 0.05) == 1
    shuffled._at["norm_product", "tau=2"] = np.random.default_rng(3).random((60, 300))
    assert np.mean(whole_law_p(shuffled, 0.25).values <= 0.05) < 0.2


def test_the_link_to_the_variance_of_the_start():
    """1 for a start that is narrow for its dimension; more than 1 for a wide one; nothing without a control."""
    narrow, wide = (Directions("main", kappa=kappa, d=10, networks=40) for kappa in (1000.0, 30.0))
    assert np.mean(link_slopes(narrow)) == pytest.approx(1, abs=0.01) and np.mean(link_slopes(wide)) > 1.05
    control = Directions("link-control", kappa=1000.0, networks=40)
    for side in ("positive", "negative"):
        control._at[f"resultant_{side}", "tau=1"] = control.at(f"resultant_{side}", "start")
    statistic = "slope of log κ gain on log a gain"
    assert judged(narrow, control)[statistic].verdict == "supported"
    assert judged(wide, control)[statistic].verdict == "refuted"
    assert "link_control" in judged(narrow)["-"].note
    iid = Directions("main", kappa=1000.0, networks=40, symmetric=False)
    assert [v.verdict for v in judged(iid, control).values()] == ["reported"]


@pytest.mark.parametrize("change, why", [
    ({"symmetric": False}, "pairs x, -x"), ({"balanced": False}, "balanced"), ({"kappa": 20.0}, "κ₀ ≥ 30"),
    ({"norms": "normal"}, "norms are equal"), ({"neurons": 29}, "30 neurons"), ({"d": 1}, "two inputs"),
])
def test_what_the_law_does_not_speak_of(change, why):
    found = judged(Directions("main", networks=3, **change), Directions("even", networks=3, seed=1))
    assert why in next(iter(found.values())).note
    assert next(iter(found.values())).verdict == "not testable here"


# ------------------------------------------------------------------------------------------------- what is recorded

STUDY = """
[study]
name = "concentration"
seeds = {seeds}
entropy = 20260206
[task]
kind = "gaussian"
dimension = {d}
samples = {samples}
symmetric = true
[network]
hidden = [{hidden}]
init = {{ scale = 1e-4, norms = "equal" }}
[training]
step_size = 0.2
steps = {steps}
[record]
times = {{ count = 2 }}
weights = "all"
[[cells]]
name = "even"
task.labels = "even"
{more}
[predictions.winner-concentration]
control = "even"
"""
SMALL = {"seeds": 3, "d": 4, "samples": 20, "hidden": 6, "steps": 200, "more": ""}


def study(**changes):
    return STUDY.format(**{**SMALL, **changes})


def test_what_is_recorded_of_directions(tmp_path):
    text = study().replace("times = { count = 2 }", "times = { count = 201, spacing = 'linear' }")
    cell = mcrace.run(mcrace.parse_study(text), tmp_path / "results", workers=0).cell("main")
    W, v, drift = cell["W"], cell["v"], np.median(cell.at("drift_norm", "start"), axis=1)
    for state in ("tau=1", "tau=1.5", "tau=2"):
        assert cell.state_step(state).tolist() == np.ceil(float(state[4:]) / drift / 0.2).tolist()
    for i in range(3):
        start, then = W[i, 0], W[i, cell.state_step("tau=1.5")[i]]
        side = np.sign(v[i, 0])[:, None]
        np.testing.assert_allclose(cell.at("direction", "tau=1.5")[i], side * then / np.linalg.norm(then, axis=1)[:, None],
                                   rtol=1e-6)
        X, y = mcrace.tasks.TASKS["gaussian"](**{k: v for k, v in cell.config["task"].items()}).sample({}, 20260206, i)
        axis = (y[:, None] * X).mean(axis=0)
        late = side * W[i, cell.state_step("tau=2")[i]]
        np.testing.assert_allclose(cell.at("axis_cosine", "tau=2")[i],
                                   late @ axis / np.linalg.norm(late, axis=1) / np.linalg.norm(axis), rtol=1e-5)
        for label, mine in (("positive", v[i, 0] > 0), ("negative", v[i, 0] < 0)):
            mean = np.mean(start[mine] / np.linalg.norm(start[mine], axis=1)[:, None], axis=0)
            assert cell.at(f"resultant_{label}", "start")[i] == pytest.approx(np.linalg.norm(mean))


def test_labels_that_are_alike_for_x_and_minus_x():
    X, y = Gaussian(dimension=3, samples=2000, symmetric=True, labels="even").sample({}, 1, 0)
    assert np.array_equal(y[:1000], y[1000:]) and np.allclose(X[:1000], -X[1000:]) and abs(y.mean()) < 0.1
    X, y = Gaussian(dimension=3, samples=2000, labels="even", center=False, scale="none").sample({}, 1, 0)
    assert np.array_equal(y > 0, abs(X[:, 0]) > stats.norm.ppf(0.75))


@pytest.mark.parametrize("state", ["tau=0", "tau=0.0", "tau=-1", "tau=1e3", "tau=", "tau=1000", "tau=1.5x"])
def test_a_clock_is_a_positive_number(state):
    with pytest.raises(StudyError, match="a state is start, tau=x, onset"):
        mcrace.parse_study(study().replace('weights = "all"', f'observables = ["loss@{state}"]'))


def test_each_control_has_to_exist():
    text = study().replace('control = "even"', 'control = "even"\nlazy = "lzy"\npermuted = "even"')
    with pytest.raises(StudyError, match=r"predictions.winner-concentration.lazy: no cell 'lzy'"):
        mcrace.run(mcrace.parse_study(text), "nowhere")


# ------------------------------------------------------------------------------------------------- the law in real networks


@pytest.mark.laws
def test_directions_of_real_networks_are_spherical_cauchy(tmp_path):
    """On symmetric data the winners, and all neurons, keep the law and reject others; with even labels they do not."""
    text = study(seeds=62, d=10, samples=100, hidden=300, steps=500).replace('weights = "all"', "")
    found = {v.statistic: v for v in mcrace.test(mcrace.run(mcrace.parse_study(text), tmp_path / "results", workers=0))}
    kept, winners = found["all neurons: share that rejects the Cauchy law"], found["winners, top 0.25: share of p ≤ 0.05"]
    assert winners.verdict == "supported" and winners.estimate <= level_band(62).high and winners.control.estimate == 1
    assert kept.verdict == "supported" and kept.estimate <= level_band(62).high and kept.control.estimate > 0.95
    assert found["all neurons: share that rejects von Mises-Fisher"].estimate > 0.95
    assert found["winners, top 0.25: share that rejects the law not cut off"].estimate == 1
    assert found["winners, top 0.5: share that rejects von Mises-Fisher"].low >= 0.9
    gain = found["all neurons: gain of log-likelihood less the law's"]
    assert gain.verdict == "supported" and abs(gain.estimate) < 0.05 < abs(gain.control.estimate)


@pytest.mark.laws
def test_concentration_gains_what_the_norm_product_gains(tmp_path):
    starts = "network.init.direction = {{ kappa = {}, axis = 0 }}"
    more = "\n".join(f'[[cells]]\nname = "{name}"\n{starts.format(kappa)}\n{extra}' for name, kappa, extra in (
        ("narrow", 300.0, ""), ("wide", 30.0, ""), ("permuted", 300.0, "task.permute_labels = true")))
    text = study(seeds=60, d=10, samples=100, hidden=100, steps=350, more=more).replace('weights = "all"', "")
    text += 'link_control = "permuted"\ncells = ["narrow", "wide"]\n'
    found = {v.cell: v for v in mcrace.test(mcrace.run(mcrace.parse_study(text), tmp_path / "results", workers=0))}
    assert found["narrow"].verdict == "supported" and found["narrow"].low >= 0.95 and found["narrow"].high <= 1.05
    assert found["narrow"].control.failed and found["wide"].verdict == "refuted" and found["wide"].low > 1.05


@pytest.mark.laws
def test_fixed_gates_take_uniform_starts_to_a_spherical_cauchy_law():
    rng = np.random.default_rng(20260206)
    X = Directions("main", networks=62, d=10, seed=5).at("direction", "tau=1.5")
    cauchy, vmf = (np.mean(fit_p(X, kind, rng) <= 0.05) for kind in (SphericalCauchy, VonMisesFisher))
    assert cauchy <= level_band(62).high and vmf > 0.95
