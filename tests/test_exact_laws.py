"""The exact laws: what is recorded for them against plain NumPy, their statistics on made-up networks, and on real ones."""


from dataclasses import replace

import naive
import numpy as np
import pytest
from test_predictions import Cell

import mcrace
from mcrace.completion import complete
from mcrace.predictions import fixed_gate_race, growth_law, span_freezing
from mcrace.predictions.balancedness import drift_slopes, drifts, limit_drifts, shares_left
from mcrace.predictions.base import Evidence
from mcrace.predictions.judging import with_options
from mcrace.predictions.sign_and_death import flip_shares, flips_less_law, moved_shares, signs_not_by_law
from mcrace.sections import Until
from mcrace.training import train

TRAINING = {"method": "gd", "step_size": 0.1, "weight_decay": 0.0, "batch": None, "dtype": "float64",
            "schedule": {"kind": "constant", "warm_up": 0}}


class Made(Cell):
    """A made-up cell with a training table, paths, and steps of states."""

    def __init__(self, at, name="main", paths=(), steps=100, **training):
        super().__init__(name, at=at)
        self.config = {**self.config, "training": {**TRAINING, **training}}
        self.paths, self.steps = dict(paths), steps

    def __getitem__(self, name):
        return self.paths[name] if name in self.paths else super().__getitem__(name)

    def state_step(self, state):
        return np.broadcast_to(self.steps, self.seeds.shape)


def judge(name, main, control=None, half=None, cells=(), halves=(), **options):
    prediction, options = with_options(name, options)
    needs_half = prediction.needs(options).half_step
    return prediction.judge(Evidence(5, main, control, half, needs_half, cells or (main,), dict(halves)), options)


def normals(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# ------------------------------------------------------------------------------------------------- what is recorded

TINY = """
[study]
name = "tiny"
seeds = 36
entropy = 5
[task]
kind = "gaussian"
samples = 6
test_samples = 10
dimension = 8
center = false
loss = "mse"
[network]
hidden = [20]
init = { scale = 0.03, ratio = 3.0 }
[training]
step_size = 0.3
steps = 200
dtype = "float64"
[record]
times = { spacing = "linear", count = 201 }
observables = ["growth", "displacement", "span_sine", "span_shift", "part_span_sine", "sign_flips", "balance_drift",
               "balance_drift_predicted", "drift_norm_permuted@start"]
weights = "all"
[predictions]
growth-law = {}
span-freezing = {}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return mcrace.run(mcrace.parse_study(TINY), tmp_path_factory.mktemp("tiny") / "run", workers=0)


def samples_of(results):
    return results.study.cells[0].config.task.samples_of({}, 5, results.cell("main").seeds)


def test_growth_is_that_of_the_flow(tiny):
    cell, (X, y) = tiny.cell("main"), samples_of(tiny)
    for i in range(0, 36, 12):
        for k in (0, 50, 200):
            W, v = cell["W"][i, k], cell["v"][i, k]
            D = naive.drift(W, v, X[i], y[i], "mse")
            square = (W * W).sum(1)
            expected = (W * D).sum(1) * (v / square + 1 / v)
            assert cell["growth"][i, k] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_displacements_and_sign_flips_are_those_of_the_weights(tiny):
    cell = tiny.cell("main")
    W, v = cell["W"], cell["v"]
    moved = np.sqrt(((W - W[:, :1]) ** 2).sum(3) + (v - v[:, :1]) ** 2)
    assert np.allclose(cell["displacement"], moved, rtol=1e-13, atol=0)
    assert np.array_equal(cell["sign_flips"], (np.diff(np.sign(v), axis=1) != 0).sum(axis=1))
    assert 0 < cell["sign_flips"].sum() < cell["sign_flips"].size


def test_the_part_off_the_span_is_that_of_a_factorisation(tiny):
    cell, (X, _) = tiny.cell("main"), samples_of(tiny)
    W = cell["W"]
    for i in range(0, 36, 12):
        for name, some in (("span_sine", X[i]), ("part_span_sine", X[i, :1])):
            basis = np.linalg.qr(some.T)[0]
            off = np.linalg.norm(W[i] - W[i] @ basis @ basis.T, axis=2)
            assert np.allclose(cell[name][i], off / np.linalg.norm(W[i], axis=2), rtol=1e-10)
    assert cell["span_shift"][:, 0].max() == 0 and cell["span_shift"].max() < span_freezing.MOST_MOVED


def test_the_drift_of_the_balance_is_added_up_to_the_onset(tiny):
    """Up to the last record with 99 % of the loss left; the sum is of trapezoids, so right to the order of the step."""
    cell, (X, y) = tiny.cell("main"), samples_of(tiny)
    for i in range(0, 36, 12):
        W, v = cell["W"][i], cell["v"][i]
        last = cell.state_step("onset")[i] - 1
        assert last > 3
        balance = (W * W).sum(2) - v * v
        assert cell["balance_drift"][i] == pytest.approx(balance[last] - balance[0], rel=1e-12, abs=1e-15)
        rate = []
        for k in range(last + 1):
            D = naive.drift(W[k], v[k], X[i], y[i], "mse")
            rate.append(v[k] ** 2 * (D * D).sum(1) - (W[k] * D).sum(1) ** 2)
        rate = 0.3**2 * np.array(rate)
        assert cell["balance_drift"][i] == pytest.approx(rate[:-1].sum(0), rel=1e-9, abs=1e-14), "the law is exact"
        assert cell["balance_drift_predicted"][i] == pytest.approx((rate[1:] + rate[:-1]).sum(0) / 2, rel=1e-9, abs=1e-14)


def test_what_is_recorded_depends_on_no_neighbour():
    config = complete(mcrace.parse_study(TINY)).cells[0].config
    more = ("kernel_distance", "kernel_alignment@onset", "gate_distance", "parameter_distance", "test_loss",
            "test_accuracy@final")
    record = config.record.model_copy(update={"observables": (*config.record.observables, *more), "weights": "none"})
    training = config.training.model_copy(update={"until": Until(loss_drop=0.8)})
    config, times = replace(config, record=record, training=training), np.array([0, 3, 10, 20, 40, 80, 160, 200])
    one, other = (train(config, {}, 5, np.arange(12), times, batch) for batch in (12, 5))
    assert len(set(one.stop_step)) > 6, "networks leave at different times"
    for kind in ("grid", "paths", "at"):
        for name, values in getattr(one, kind).items():
            assert np.array_equal(values, getattr(other, kind)[name], equal_nan=True), name


def test_growth_and_freezing_are_judged_on_a_run(tiny):
    found = {v.statistic: v for v in mcrace.test(tiny)}
    assert {v.verdict for v in found.values()} == {"supported"} and all(v.control.failed for v in found.values())
    assert found["relative error of growth, level=0.5"].estimate < 1e-9
    assert found["slope of log sin θ on log |w|"].estimate == pytest.approx(-1, abs=1e-9)


# ------------------------------------------------------------------------------------------------- growth-law


def grown(factor=1.0, seed=0):
    norm, v, drift = (abs(normals((40, 20), seed + k)) + 0.1 for k in range(3))
    cosine, other = np.random.default_rng(seed).uniform(-1, 1, (2, 40, 20))
    growth = factor * (norm**2 + v**2) / (norm * v) * drift * cosine
    values = {"input_norm": norm, "output_weight": -v, "drift_norm": drift, "cosine": cosine, "growth": growth,
              "drift_norm_permuted": drift[::-1], "cosine_permuted": other}
    return {(name, state): value for state in growth_law.STATES for name, value in values.items()}


@pytest.mark.parametrize("factor, verdict", [
    (1.0, "supported"), (1 + 5e-7, "supported"), (1 + 2e-6, "refuted"), (2.0, "refuted")])
def test_growth_is_judged_by_its_relative_error(factor, verdict):
    found = judge("growth-law", Made(grown(factor)))
    assert [v.verdict for v in found] == [verdict] * 3 and [v.primary for v in found] == [True, False, False]
    assert found[0].estimate == pytest.approx(abs(1 / factor - 1), abs=1e-14) and found[0].control.estimate > 0.1


def test_growth_by_a_drift_that_labels_do_not_change_discriminates_nothing():
    at = grown()
    for state in growth_law.STATES:
        at["drift_norm_permuted", state], at["cosine_permuted", state] = at["drift_norm", state], at["cosine", state]
    assert judge("growth-law", Made(at))[0].verdict == "not discriminating"


def test_dead_neurons_have_no_growth_to_judge():
    at = grown()
    for state in growth_law.STATES:
        at["cosine", state][:, :3], at["growth", state][:, :3] = np.nan, 0
    assert judge("growth-law", Made(at))[0].estimate < 1e-14


# ------------------------------------------------------------------------------------------------- balancedness


def balanced(step=0.1, exponent=1.0, constant=0.0, coefficient=1.0, **options):
    """Networks whose balance drifts as step^exponent, and by a constant, in units of |w_0|² = 1."""
    start, rate = np.zeros((40, 20)), abs(normals((40, 20))) + 0.5
    drift = rate * step**exponent + constant
    at = {("balancedness", "start"): start, ("balancedness", "onset"): start + drift, ("input_norm", "start"): start + 1}
    return Made(at, paths={"balance_drift": drift, "balance_drift_predicted": drift / coefficient}, step_size=step, **options)


@pytest.mark.parametrize("exponent, constant, coefficient, verdicts", [
    (1.0, 0.0, 1.0, ["supported"] * 3), (1.1, 0.0, 1.0, ["refuted", "supported", "supported"]),
    (1.0, 0.0, 1.2, ["supported", "refuted", "supported"]), (1.0, 0.2, 1.0, ["refuted", "supported", "refuted"])])
def test_the_drift_of_the_balance_has_an_exponent_a_coefficient_and_a_limit(exponent, constant, coefficient, verdicts):
    made = lambda step, name="main", **more: balanced(step, exponent, constant, coefficient, name=name, **more)
    control, fine = balanced(0.1, 0.0, name="ball", coefficient=50), balanced(0.025, 0.0, name="ball+half", coefficient=50)
    found = judge("balancedness", made(0.1), control, made(0.05), halves={"ball": fine})
    assert [v.verdict for v in found] == verdicts and all(v.control.failed for v in found)
    if not constant:
        assert found[0].estimate == pytest.approx(exponent) and found[1].estimate == pytest.approx(coefficient)
        assert found[2].estimate < 0.06


def test_the_balance_without_half_steps_or_a_control_is_not_judged():
    assert judge("balancedness", balanced(), balanced(name="ball"), balanced(0.05))[0].verdict == "not testable here"
    assert "no control" in judge("balancedness", balanced(), None, balanced(0.05))[0].note
    varying = balanced(schedule={"kind": "cosine", "warm_up": 0})
    assert judge("balancedness", varying, balanced(name="ball"))[0].verdict == "not testable here"


def test_drifts_are_found_by_seed():
    whole, half = balanced(0.1), balanced(0.05)
    half.seeds = half.seeds + 30
    assert drift_slopes(whole, half).seeds.tolist() == limit_drifts(whole, half).seeds.tolist() == list(range(30, 40))


def test_weight_decay_shrinks_the_balance():
    """By (1 - ηλ)² a step, which is e^{-2λt} for small steps."""
    start = normals((40, 20))
    at = {("balancedness", "start"): start, ("balancedness", "onset"): start * (1 - 0.1 * 0.02) ** 200}
    cell = Made(at, steps=100, weight_decay=0.02)
    assert np.allclose(drifts(cell), 0, atol=1e-13)
    assert shares_left(cell) == pytest.approx((1 - 0.002) ** 200 / np.exp(-0.4))
    assert shares_left(cell, decays=False) == pytest.approx((1 - 0.002) ** 200)
    never = Made(at, steps=-1, weight_decay=0.02)
    assert np.isnan(drifts(never)).all()


def test_only_the_control_of_a_limit_is_run_at_half_the_step():
    cells = {c.name: c for c in complete(mcrace.parse_study(LAWS)).cells}
    halves = {name for name in cells if name.endswith("+half-step")}
    assert halves == {f"{name}+half-step" for name in ("main", "above", "few-samples", "heavy-ball")}
    assert cells["heavy-ball+half-step"].config.training.step_size == cells["heavy-ball"].config.training.step_size / 4
    assert cells["heavy-ball+half-step"].of == "heavy-ball" and cells["heavy-ball"].role == "control"


# ------------------------------------------------------------------------------------------------- fixed-gate-race


def raced(steps=60, ratio=1.0, seed=0):
    """Networks under descent with a drift that stays, step by step."""
    rng = np.random.default_rng(seed)
    W, D = rng.normal(size=(40, 20, 5)), rng.normal(size=(40, 1, 5))
    norm = np.linalg.norm(W, axis=2)
    v = rng.choice([-1.0, 1.0], norm.shape) * norm / ratio
    cosine = np.sign(v) * (W * D).sum(2) / (norm * np.linalg.norm(D, axis=2))
    at = {("input_norm", "start"): norm, ("output_weight", "start"): v, ("cosine", "start"): cosine,
          ("drift_norm", "start"): np.broadcast_to(np.linalg.norm(D, axis=2), norm.shape),
          ("norm_product", "start"): norm * abs(v), ("cosine_permuted", "start"): rng.uniform(-1, 1, norm.shape)}
    at["drift_norm_permuted", "start"] = at["drift_norm", "start"]
    for _ in range(steps):
        W, v = W + 0.02 * v[:, :, None] * D, v + 0.02 * (W * D).sum(2)
    at["norm_product", "onset"] = np.linalg.norm(W, axis=2) * abs(v)
    at["output_weight", "onset"] = v
    return at


@pytest.mark.parametrize("ratio", [1.0, 0.2, 5.0])
def test_the_closed_form_is_descent_with_a_drift_that_stays(ratio):
    at = raced(ratio=ratio)
    cell = Made(at, steps=60, step_size=0.02)
    found = np.log(at["norm_product", "onset"] / at["norm_product", "start"])
    assert np.allclose(fixed_gate_race.predicted_log_growth(cell), found, rtol=1e-9, atol=1e-9)
    balanced_form = 2 * np.log(np.cosh(1) + 0.3 * np.sinh(1))
    one = {k: np.full((40, 1), x) for k, x in ((("input_norm", "start"), 2.0), (("output_weight", "start"), -2.0),
                                               (("cosine", "start"), 0.3), (("drift_norm", "start"), 0.5))}
    flow = fixed_gate_race.predicted_log_growth(Made(one, steps=200_000, step_size=1e-5))
    assert flow == pytest.approx(balanced_form, rel=1e-4)


def test_the_closed_form_is_judged_beside_shuffled_labels():
    cell, half = Made(raced(), steps=60, step_size=0.02), Made(raced(), name="half", steps=60, step_size=0.02)
    (found,) = judge("fixed-gate-race", cell, half=half)
    assert found.verdict == "supported" and found.estimate < 1e-9 and found.control.estimate > 0.1
    wrong = Made(raced(), steps=66, step_size=0.02)
    assert judge("fixed-gate-race", wrong, half=wrong)[0].verdict == "refuted"
    decays = Made(raced(), steps=60, step_size=0.02, weight_decay=0.1)
    assert judge("fixed-gate-race", decays, half=half)[0].verdict == "not testable here"


# ------------------------------------------------------------------------------------------------- span-freezing


def frozen(slope=-1.0, shift=1e-13):
    at, size = {}, abs(normals((40, 20))) + 0.5
    for k, state in enumerate(span_freezing.STATES):
        norm = size * 3.0**k
        at["input_norm", state], at["span_sine", state] = norm, 0.5 * (norm / size) ** slope
        at["part_span_sine", state] = np.full((40, 20), 0.7)
    at["span_shift", span_freezing.END], at["part_span_shift", span_freezing.END] = shift * size, size
    return at


@pytest.mark.parametrize("slope, shift, verdicts", [
    (-1.0, 1e-13, ["supported", "supported"]), (-1.0005, 1e-13, ["supported", "supported"]),
    (-1.01, 1e-13, ["refuted", "supported"]), (-1.0, 1e-9, ["supported", "refuted"])])
def test_freezing_has_a_slope_and_a_rest(slope, shift, verdicts):
    found = judge("span-freezing", Made(frozen(slope, shift)))
    assert [v.verdict for v in found] == verdicts and found[0].estimate == pytest.approx(slope)
    assert found[0].control.estimate == pytest.approx(0) and all(v.control.failed for v in found)


def test_freezing_beside_a_cell_with_weight_decay():
    decayed = Made(frozen(-1.3, 0.2), name="decay", weight_decay=0.1)
    assert [v.control.cell for v in judge("span-freezing", Made(frozen()), decayed)] == ["decay"] * 2


def test_freezing_needs_few_samples_and_double_precision():
    everywhere = Made({**frozen(), ("span_sine", "start"): np.full((40, 20), np.nan)})
    for cell in (everywhere, Made(frozen(), dtype="float32"), Made(frozen(), weight_decay=0.1)):
        assert judge("span-freezing", cell)[0].verdict == "not testable here"


# ------------------------------------------------------------------------------------------------- sign-and-death


def signed(ratio, name="main", obeys=1.0, dead=0, seed=0, **training):
    """Networks whose signs change where the law says, but for a share of neurons that do not obey."""
    rng = np.random.default_rng(seed)
    shape = (40, 50)
    norm, cosine, v = rng.exponential(size=shape) + 0.1, rng.uniform(-1, 1, shape), rng.choice([-1.0, 1.0], shape)
    v *= norm / ratio
    flips = (cosine < -1 / ratio) & (rng.random(shape) < obeys)
    moved = np.ones(shape)
    moved[:, :dead], cosine[:, :dead], flips[:, :dead] = 0, np.nan, False
    at = {("input_norm", "start"): norm, ("output_weight", "start"): v, ("cosine", "start"): cosine,
          ("cosine_permuted", "start"): rng.uniform(-1, 1, shape), ("active", "start"): np.isfinite(cosine).astype(int),
          ("output_weight", "onset"): np.where(flips, -v, v), ("displacement", "final"): moved}
    return Made(at, name, paths={"sign_flips": flips.astype(int)}, **training)


def signs(cells, lazy=None):
    halves = {c.name: c for c in cells}
    found = judge("sign-and-death", cells[0], lazy, cells[0], tuple(cells), halves)
    assert [v.primary for v in found] == [True] + [False] * (len(found) - 1)
    return {(v.cell, v.statistic.split(",")[0]): v for v in found}


def test_signs_are_judged_over_the_cells():
    cells = [signed(1.0), signed(2.0, "two"), signed(4.0, "four"), signed(0.5, "half", dead=2)]
    found = signs(cells, signed(4.0, "lazy", obeys=0.0))
    assert {v.verdict for v in found.values()} == {"supported"} and len(found) == 7
    assert next(iter(found)) == ("four", "share of sign flips less the law's")
    assert found["main", "share of sign flips"].control.cell == "four"
    assert found["half", "share of dead neurons that moved"].estimate == 0
    assert "0 sign flips of 2,000 neurons" in found["main", "share of sign flips"].note


def test_signs_that_do_not_obey_are_refuted():
    found = signs([signed(4.0, obeys=0.7)], signed(4.0, "lazy", obeys=0.0))
    assert {v.verdict for v in found.values()} == {"refuted"}
    assert found["main", "share of sign flips less the law's"].estimate == pytest.approx(-0.3 * 0.375, abs=0.02)


def test_signs_of_sheltered_neurons_that_change_are_refuted():
    cell = signed(1.0)
    cell.paths["sign_flips"][:, :2] = 1
    found = signs([cell, signed(4.0, "four")], signed(4.0, "lazy", obeys=0.0))
    assert found["main", "share of sign flips"].verdict == "refuted" and np.allclose(flip_shares(cell), 0.04)
    alone = signs([signed(1.0)])
    assert alone["main", "share of sign flips"].verdict == "not testable here"


def test_dead_neurons_that_move_are_refuted():
    cell = signed(1.0, dead=2)
    cell.at("displacement", "final")[:, 0] = 1e-300
    found = signs([cell, signed(4.0, "four")])
    assert found["main", "share of dead neurons that moved"].verdict == "refuted"
    assert (moved_shares(cell, "dead") == 0.5).all() and (moved_shares(cell, "living") == 1).all()
    still = signed(1.0, dead=2)
    still.at("displacement", "final")[:] = 0
    found = signs([still, signed(4.0, "four")])
    assert found["main", "share of dead neurons that moved"].verdict == "not discriminating", "nothing moved at all"


def test_networks_that_never_get_there_have_no_share_of_flips():
    cell = signed(2.0)
    cell.at("output_weight", "onset")[3], cell.paths["sign_flips"][3] = np.nan, -1
    for values in (flips_less_law(cell), signs_not_by_law(cell), flip_shares(cell)):
        assert np.flatnonzero(np.isnan(values)).tolist() == [3]


def test_signs_need_plain_descent():
    (found,) = signs([signed(4.0, weight_decay=0.1)]).values()
    assert found.verdict == "not testable here"


# ------------------------------------------------------------------------------------------------- real runs

LAWS = """
[study]
name = "laws"
seeds = 60
entropy = 4
[task]
kind = "gaussian"
dimension = 10
samples = 40
symmetric = true
[network]
hidden = [40]
init = { scale = 1e-4 }
[training]
step_size = 0.1
steps = 20_000
until = { loss_drop = 0.91 }
dtype = "float64"
[record]
times = { count = 96 }
[[cells]]
name = "above"
network.init.ratio = 4.0
[[cells]]
name = "lazy"
network.init = { scale = 2.0, ratio = 4.0, paired = true }
[[cells]]
name = "few-samples"
task = { samples = 5, symmetric = false, center = false, loss = "mse" }
[[cells]]
name = "heavy-ball"
training = { method = "heavy-ball", friction = 1.0 }
[predictions]
growth-law = {}
balancedness = { control = "heavy-ball", cells = ["main", "above"] }
fixed-gate-race = { cells = ["main", "above"] }
span-freezing = { cells = ["few-samples"] }
sign-and-death = { control = "lazy" }
"""


@pytest.fixture(scope="module")
def laws(tmp_path_factory):
    results = mcrace.run(mcrace.parse_study(LAWS), tmp_path_factory.mktemp("laws") / "run", workers=0)
    return {(v.prediction, v.cell, v.statistic.split(",")[0]): v for v in mcrace.test(results)}


@pytest.mark.laws
def test_the_growth_law_holds_at_any_loss_and_any_time(laws):
    found = [v for (name, *_), v in laws.items() if name == "growth-law"]
    assert len(found) == 3 and all(v.verdict == "supported" and v.high < 1e-6 and v.control.low > 0.01 for v in found)


@pytest.mark.laws
@pytest.mark.parametrize("cell", ["main", "above"])
def test_the_balance_drifts_as_the_step_with_the_coefficient_of_the_law(laws, cell):
    slope, ratio = (laws["balancedness", cell, s] for s in ("slope of log drift on log η", "drift over predicted drift"))
    limit = laws["balancedness", cell, "drift at η → 0 over |w_0|²"]
    assert slope.low > 0.95 and slope.high < 1.05 and ratio.low > 0.95 and ratio.high < 1.05 and limit.high < 1e-2
    assert all(v.verdict == "supported" and v.control.failed for v in (slope, ratio, limit)) and limit.control.low > 1e-2


@pytest.mark.laws
@pytest.mark.parametrize("cell", ["main", "above"])
def test_the_closed_form_predicts_growth_up_to_the_onset(laws, cell):
    found = laws["fixed-gate-race", cell, "relative error of log growth"]
    assert found.high < 0.005 and found.verdict == "supported" and found.control.low > 0.05


@pytest.mark.laws
def test_what_lies_off_the_span_is_frozen(laws):
    statistics = ("slope of log sin θ on log |w|", "move of the part off the span")
    slope, move = (laws["span-freezing", "few-samples", s] for s in statistics)
    assert slope.verdict == move.verdict == "supported" and move.high < 1e-10 and abs(slope.estimate + 1) < 1e-3


@pytest.mark.laws
def test_signs_change_where_the_law_says(laws):
    of = lambda cell, statistic: laws["sign-and-death", cell, statistic]
    assert of("main", "share of sign flips").estimate == of("few-samples", "share of sign flips").estimate == 0
    share = of("above", "share of sign flips less the law's")
    assert abs(share.low) < 0.02 and abs(share.high) < 0.02 and share.control.high < -0.05
    assert of("above", "signs not by the law").high < 0.02
    assert of("few-samples", "share of dead neurons that moved").estimate == 0
    assert {v.verdict for (name, *_), v in laws.items() if name == "sign-and-death"} == {"supported"}
