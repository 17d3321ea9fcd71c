"""Verdicts: the rules on made-up numbers, the statistics on made-up networks, and both predictions on a small run."""

import json
import math

import numpy as np
import pytest

import mcrace
from mcrace.errors import StudyError
from mcrace.predictions import PREDICTIONS, Verdict
from mcrace.predictions.base import Evidence
from mcrace.predictions.forms import Measured, judge_mean
from mcrace.predictions.judging import _adjusted, with_options
from mcrace.predictions.mutual_alignment import alignment_gain, clusters_share
from mcrace.predictions.racing import cluster_ranks, exact_score_slopes, growth_slopes, start_ranks, tau_ranks
from mcrace.statistics import Margin, benjamini_hochberg, equivalence_p, holm

END = "level=0.1"
INIT = {"balanced": True, "ratio": 1.0}


class Cell:
    """What predictions see of a cell of a results file."""

    def __init__(self, name, values=(), first=0, status=None, at=None, role="main", of="", neurons=40, init=None):
        self.name, self.values = name, np.asarray(values, float)
        count = len(next(iter(at.values()))) if at else len(self.values)
        self.seeds = np.arange(first, first + count)
        self.status = np.zeros(count, np.int8) if status is None else np.asarray(status)
        self._at = at or {}
        self.attributes = {"role": role, "of": of}
        network = {"hidden": [neurons], "init": {**INIT, **(init or {})}}
        self.config = {"network": network, "training": {"method": "gd"}}

    def __getitem__(self, name):
        return {"status": self.status}[name]

    def at(self, observable, state):
        return self._at[observable, state]


def around(mean, count=60, spread=0.05, seed=0):
    """Numbers with exactly this mean."""
    values = np.random.default_rng(seed).normal(size=count)
    return mean + spread * (values - values.mean()) / values.std()


MARGIN = Margin(0.9, 1.1)


def judged(main, control, half=None, margin=MARGIN, needs_half_step=False, **options):
    """The verdict on the mean of `values`, whose control fails below 0.5."""
    evidence, fails = Evidence(1, main, control, half, needs_half_step), lambda interval: interval.high < 0.5
    return judge_mean(PREDICTIONS["racing"], evidence, "mean", margin, lambda cell: cell.values, fails, **options)


# ------------------------------------------------------------------------------------------------- the rules


@pytest.mark.parametrize("mean, beside, verdict", [
    (1.0, 0.1, "supported"),
    (1.0, 1.0, "not discriminating"),
    (1.0, 0.7, "inconclusive"),  # the control neither fails nor agrees
    (0.5, 0.1, "refuted"),
    (1.5, 1.5, "refuted"),
    (0.9, 0.1, "inconclusive"),  # across an end
    (1.1, 0.1, "inconclusive"),
    (1.0, 0.5, "inconclusive"),  # the control's interval reaches over its bound
])
def test_the_verdict_follows_from_both_intervals(mean, beside, verdict):
    found = judged(Cell("main", around(mean)), Cell("lazy", around(beside, seed=1)))
    assert found.verdict == verdict
    assert found.estimate == pytest.approx(mean) and found.low < mean < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.05 / math.sqrt(60), rel=0.15)
    assert found.control.estimate == pytest.approx(beside) and found.control.cell == "lazy"
    assert found.control.failed == (beside < 0.45) and ("did not fail" in found.note) == (beside > 0.45)
    assert found.p == equivalence_p(around(mean), MARGIN) and found.networks == 60 and found.dropped == 0


def test_without_a_control_nothing_is_judged():
    found = judged(Cell("main", around(1.0)), None)
    assert found.verdict == "not testable here" and "control" in found.note and math.isnan(found.estimate)


def test_thirty_networks_are_needed():
    for count, verdict in ((29, "not testable here"), (30, "supported")):
        assert judged(Cell("main", around(1.0, count)), Cell("lazy", around(0.1, count))).verdict == verdict
    assert judged(Cell("main", around(1.0)), Cell("lazy", around(0.1), first=60)).verdict == "not testable here"


@pytest.mark.parametrize("arm", ["main", "lazy"])
@pytest.mark.parametrize("missing, verdict", [(10, "supported"), (11, "inconclusive"), (75, "not testable here")])
def test_networks_that_miss_the_state_in_either_arm_are_dropped_from_both(arm, missing, verdict):
    values = {"main": around(1.0, 100), "lazy": around(0.1, 100, seed=1)}
    values[arm][:missing] = np.nan
    found = judged(Cell("main", values["main"]), Cell("lazy", values["lazy"]))
    assert (found.verdict, found.dropped, found.networks) == (verdict, missing, 100 - missing)
    if missing < 75:
        assert found.estimate == pytest.approx(values["main"][missing:].mean())
        assert found.control.estimate == pytest.approx(values["lazy"][missing:].mean())


def test_networks_are_paired_by_seed():
    """The control has other seeds, of which half are those of the main cell."""
    main = Cell("main", np.r_[around(5.0, 50), around(1.0, 50)])
    control = Cell("lazy", np.r_[around(0.1, 50), around(9.0, 50)], first=50)
    found = judged(main, control)
    assert (found.networks, found.dropped, found.verdict) == (50, 0, "supported")
    assert found.estimate == pytest.approx(1.0) and found.control.estimate == pytest.approx(0.1)


@pytest.mark.parametrize("arm", ["main", "lazy"])
@pytest.mark.parametrize("diverged, verdict", [(5, "supported"), (6, "inconclusive")])
def test_too_many_diverged_networks(arm, diverged, verdict):
    status = {name: np.zeros(100, np.int8) for name in ("main", "lazy")}
    status[arm][:diverged] = 2
    found = judged(Cell("main", around(1.0, 100), status=status["main"]),
                   Cell("lazy", around(0.1, 100), status=status["lazy"]))
    assert found.verdict == verdict and ("diverged" in found.note) == (verdict == "inconclusive")


@pytest.mark.parametrize("change, margin, verdict", [
    (0.024, Margin(0.9, 1.1), "supported"), (-0.024, Margin(0.9, 1.1), "supported"),
    (0.026, Margin(0.9, 1.1), "inconclusive"), (-0.026, Margin(0.9, 1.1), "inconclusive"),
    (0.07, Margin(low=0.3), "supported"), (0.08, Margin(low=0.3), "inconclusive")])
def test_half_the_step_may_change_a_quarter_of_the_margin(change, margin, verdict):
    half = Cell("half", around(1.0)[:40] + change)
    found = judged(Cell("main", around(1.0)), Cell("lazy", around(0.1)), half, margin, True)
    assert found.verdict == verdict and found.half_step_change == pytest.approx(abs(change))


def test_a_change_at_half_the_step_that_is_not_known_is_a_doubt():
    main, control = Cell("main", around(1.0)), Cell("lazy", around(0.1))
    for half in (None, Cell("half", np.full(40, np.nan)), Cell("half", around(1.0), first=60)):
        found = judged(main, control, half, needs_half_step=True)
        assert found.verdict == "inconclusive" and "half the step" in found.note and math.isnan(found.half_step_change)
    assert judged(main, control).verdict == "supported", "a law that needs none is judged without"


def test_a_refutation_is_not_spoken_where_there_are_doubts():
    status = np.where(np.arange(60) < 10, 2, 0)
    assert judged(Cell("main", around(0.2), status=status), Cell("lazy", around(0.1))).verdict == "inconclusive"


def test_values_are_found_by_seed():
    measured = Measured("x", np.array([3, 4, 7]), np.array([1.0, 2.0, 3.0]))
    assert measured.on(np.array([7, 3])).tolist() == [3.0, 1.0]


def test_the_same_evidence_gives_the_same_verdict():
    one, other = (judged(Cell("main", around(1.0)), Cell("lazy", around(0.1))) for _ in range(2))
    assert one.plain() == other.plain()
    elsewhere = judged(Cell("other", around(1.0)), Cell("lazy", around(0.1)))
    assert elsewhere.low != one.low, "resampling draws from (entropy, prediction, cell)"


def test_a_verdict_is_plain_json():
    found = judged(Cell("main", around(1.0)), Cell("lazy", around(0.1)), margin=Margin(low=0.3))
    plain = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert plain["verdict"] == "supported" and plain["margin"] == [0.3, None] and plain["p"] == found.p
    assert plain["control"] == {"cell": "lazy", "estimate": found.control.estimate, "low": found.control.low,
                                "high": found.control.high, "failed": True}
    assert plain["half_step_change"] is None and plain["p_adjusted"] is None
    blank = json.loads(json.dumps(judged(Cell("main", around(1.0)), None).plain(), allow_nan=False))
    assert blank["estimate"] is None and blank["control"] is None
    keys = {"prediction", "cell", "statistic", "estimate", "low", "high", "p", "margin", "control", "verdict"}
    assert keys <= set(blank)


def test_p_values_are_corrected_in_two_families():
    p = [0.01, 0.04, math.nan, 0.03, 0.2, 0.04]
    primary = [True, False, True, True, False, False]
    found = _adjusted([Verdict("x", "main", str(k), "-", primary=b, p=v) for k, (v, b) in enumerate(zip(p, primary))])
    assert [found[k].p_adjusted for k in (0, 3)] == holm(np.array([0.01, 0.03])).tolist()
    assert [found[k].p_adjusted for k in (1, 4, 5)] == benjamini_hochberg(np.array([0.04, 0.2, 0.04])).tolist()
    assert math.isnan(found[2].p_adjusted) and [v.statistic for v in found] == list("012345")


def test_options_are_told_by_their_key():
    assert with_options("racing", {"margin": 0.2})[1].margin == 0.2
    for name, table, message in (("racing", {"margin": 2}, "predictions.racing.margin: input should be less than 1"),
                                 ("raceing", {}, "predictions.raceing: unknown prediction 'raceing': did you mean")):
        with pytest.raises(StudyError, match=message):
            with_options(name, table)


# ------------------------------------------------------------------------------------------------- racing


def race(networks=50, neurons=40, exponent=1.0, noise=0.0, seed=0):
    """Networks whose log(a_T/a_0) is `exponent` times what the law says, with a constant of its own for each sign."""
    rng = np.random.default_rng(seed)
    shape = (networks, neurons)
    cosine, v = rng.uniform(-0.94, 1, shape), rng.choice([-1.0, 1.0], shape)
    a0 = rng.exponential(size=shape)
    shift = np.where(v > 0, rng.normal(size=(networks, 1)), 5 + rng.normal(size=(networks, 1)))
    handicap = 2 * np.log((1 + cosine) / 2)
    score = 2 * np.log(np.cosh(1) + cosine * np.sinh(1))
    late = a0 * np.exp(exponent * handicap + shift + noise * rng.normal(size=shape))
    at = {("cosine", "start"): cosine, ("cosine_permuted", "start"): rng.uniform(-1, 1, shape),
          ("norm_product", "start"): a0, ("output_weight", "start"): v, ("norm_product", END): late,
          ("active", END): np.ones(shape, int), ("cluster", END): (v > 0) + 1,
          ("norm_product", "tau=1"): a0 * np.exp(exponent * score + shift), ("cosine", "tau=1"): cosine,
          ("alignment", "start"): np.full(networks, 0.1), ("alignment", END): np.full(networks, 0.9),
          ("clusters_95", END): np.full(networks, 2.0)}
    return {key: np.array(value) for key, value in at.items()}


@pytest.mark.parametrize("exponent", [1.0, 0.3, 0.0, -1.0])
def test_the_slope_of_the_race_is_the_exponent(exponent):
    cell = Cell("main", at=race(exponent=exponent))
    assert np.allclose(growth_slopes(cell), exponent, atol=1e-10)
    assert np.allclose(exact_score_slopes(cell), exponent, atol=1e-10)
    assert abs(growth_slopes(cell, "cosine_permuted").mean()) < 0.1


def test_neurons_that_point_away_or_are_idle_are_left_out():
    at = race()
    cosine = at["cosine", "start"]
    cosine[:, 0], cosine[:, 1] = -0.96, np.nan
    at["active", END][:, 2] = 0
    at["norm_product", END][:, :3] = 1e9  # would spoil the slope
    at["norm_product", END][:, 3] = 0  # no logarithm
    assert np.allclose(growth_slopes(Cell("main", at=at)), 1, atol=1e-10)
    at["active", END][7] = -1  # this network never got there
    at["norm_product", END][7] = np.nan
    slopes = growth_slopes(Cell("main", at=at))
    assert np.isnan(slopes[7]) and np.isfinite(np.delete(slopes, 7)).all()


def test_ranks_are_within_sign_and_clusters():
    at = race(seed=3)
    a = at["norm_product", END]
    a[:] = np.exp(at["cosine", "start"]) * np.where(at["output_weight", "start"] > 0, 1e6, 1)
    cell = Cell("main", at=at)
    assert np.allclose(start_ranks(cell), 1) and np.allclose(tau_ranks(cell), 1)
    rng = np.random.default_rng(4)
    at["cluster", END] = rng.integers(1, 4, a.shape)
    a *= 1e9 ** at["cluster", END]  # each cluster its own level
    assert np.allclose(cluster_ranks(cell), 1) and start_ranks(cell).max() < 0.9


def evidence(main, control, needs_half_step=False, half=None):
    return Evidence(5, main, control, half, needs_half_step)


def judge(name, main, control, half=None, **options):
    prediction, options = with_options(name, options)
    found = prediction.judge(evidence(main, control, half=half), options)
    assert json.dumps([v.plain() for v in found], allow_nan=False)
    assert [v.primary for v in found] == [True] + [False] * (len(found) - 1)
    return found


def test_racing_on_networks_that_race_and_a_control_that_does_not():
    main, lazy = Cell("main", at=race(noise=0.1)), Cell("lazy", at=race(exponent=0.05, noise=0.1, seed=1))
    slope, shuffled, permutation, exact, *ranks = judge("racing", main, lazy)
    assert slope.verdict == shuffled.verdict == permutation.verdict == exact.verdict == "supported"
    assert slope.control.cell == "lazy" and shuffled.control.cell == "main" and shuffled.control.estimate < 0.2
    assert permutation.p == 0.001 and permutation.control is None and len(ranks) == 3
    assert str(slope.margin) == "1 ± 0.1" and judge("racing", main, lazy, margin=0.3)[0].margin == Margin(0.7, 1.3)


@pytest.mark.parametrize("exponent, verdict", [(0.6, "refuted"), (1.5, "refuted"), (0.0, "refuted")])
def test_racing_on_networks_that_do_not(exponent, verdict):
    slope, _, permutation, *_ = judge("racing", Cell("main", at=race(exponent=exponent, noise=0.1)),
                                      Cell("lazy", at=race(exponent=0.0, noise=0.1, seed=1)))
    assert slope.verdict == verdict
    assert permutation.verdict == ("supported" if exponent else "inconclusive")
    assert permutation.p == 0.001 if exponent else permutation.p > 0.01


def test_racing_in_a_control_that_races_as_well_discriminates_nothing():
    main, lazy = Cell("main", at=race(noise=0.1)), Cell("lazy", at=race(noise=0.1, seed=1))
    slope, shuffled, *_ = judge("racing", main, lazy)
    assert slope.verdict == "not discriminating" and shuffled.verdict == "supported"


@pytest.mark.parametrize("init", [{"balanced": False}, {"ratio": 2.0}])
def test_racing_of_unbalanced_starts_is_judged_by_their_own_handicap(init):
    main, lazy = race(noise=0.1), race(exponent=0.05, noise=0.1, seed=1)
    for at in (main, lazy):
        at["input_norm", "start"] = np.abs(at["output_weight", "start"])
    slope, shuffled, *ranks = judge("racing", Cell("main", at=main, init=init), Cell("lazy", at=lazy, init=init))
    assert slope.statistic == "slope of log a_T on log H beside log a_0" and slope.verdict == "supported"
    assert slope.control.estimate < 0.2 and shuffled.control.cell == "main" and len(ranks) == 3
    slow = race(exponent=0.6, noise=0.1)
    slow["input_norm", "start"] = np.abs(slow["output_weight", "start"])
    assert judge("racing", Cell("main", at=slow, init=init), Cell("lazy", at=lazy, init=init))[0].verdict == "refuted"


def test_the_clock_of_descent_is_none_of_a_heavy_ball():
    main = Cell("main", at=race(noise=0.1))
    main.config["training"]["method"] = "heavy-ball"
    found = judge("racing", main, Cell("lazy", at=race(exponent=0.05, noise=0.1, seed=1)))
    at_tau = [v for v in found if "τ = 1" in v.statistic]
    assert len(found) == 7 and len(at_tau) == 2 and {v.verdict for v in at_tau} == {"not testable here"}
    assert found[0].verdict == "supported"


def test_racing_without_enough_networks_or_a_control_claims_nothing():
    few = judge("racing", Cell("main", at=race(20)), Cell("lazy", at=race(20)))
    assert {v.verdict for v in few} == {"not testable here"} and all(math.isnan(v.p) for v in few)
    slope, shuffled, permutation, *_ = judge("racing", Cell("main", at=race(noise=0.1)), None)
    assert slope.verdict == permutation.verdict == "not testable here" and shuffled.verdict == "supported"
    assert math.isnan(permutation.p) and math.isnan(permutation.estimate)


# ------------------------------------------------------------------------------------------------- mutual alignment


def aligned(start, end, clusters, count=60, neurons=40, seed=0):
    rng = np.random.default_rng(seed)
    jitter = lambda: 0.01 * rng.normal(size=count)
    return Cell("main", neurons=neurons, at={
        ("alignment", "start"): start + jitter(), ("alignment", END): end + jitter(),
        ("clusters_95", END): clusters + rng.integers(0, 2, count).astype(float),
        ("cluster", END): rng.integers(0, 3, (count, neurons))})


def lazy():
    cell = aligned(0.0, 0.03, 30, seed=1)
    cell.name = "lazy"
    return cell


@pytest.mark.parametrize("end, clusters, verdict", [
    (0.9, 2, "supported"), (0.2, 2, "refuted"), (0.9, 20, "refuted"), (0.2, 20, "refuted"),
    (0.3, 2, "inconclusive"), (0.9, 9.5, "inconclusive"), (0.3, 20, "refuted")])
def test_alignment_needs_the_gain_and_the_clusters(end, clusters, verdict):
    main = aligned(0.0, end, clusters)
    both, share = judge("mutual-alignment", main, lazy())
    assert both.verdict == verdict
    assert both.estimate == pytest.approx(alignment_gain(main).mean()) and share.estimate == clusters_share(main).mean()
    assert both.p >= share.p and "dead neurons" in both.note
    assert ("decided by: clusters N95 / neurons" in both.note) == (clusters > 5 and end != 0.2)


def test_alignment_is_not_discriminating_where_the_control_aligns_too():
    control = aligned(0.0, 0.9, 2, seed=2)
    control.name = "lazy"
    assert judge("mutual-alignment", aligned(0.0, 0.9, 2), control)[0].verdict == "not discriminating"
    spread = aligned(0.0, 0.9, 30, seed=2)
    spread.name = "lazy"
    assert judge("mutual-alignment", aligned(0.0, 0.9, 2), spread)[0].verdict == "not discriminating"


def test_alignment_where_one_of_both_cannot_be_tested():
    main = aligned(0.0, 0.9, 2)
    main.at("clusters_95", END)[:] = np.nan
    both, share = judge("mutual-alignment", main, lazy())
    assert both.verdict == share.verdict == "not testable here" and math.isnan(both.p)


def test_the_margin_of_alignment_is_an_option():
    assert judge("mutual-alignment", aligned(0.0, 0.5, 2), lazy(), margin=0.6)[0].verdict == "refuted"


# ------------------------------------------------------------------------------------------------- a real run


STUDY = """
[study]
name = "symmetric"
seeds = 60
entropy = 7
[task]
kind = "gaussian"
samples = 100
dimension = 10
symmetric = true
[network]
hidden = [40]
init = { scale = 1e-3 }
[training]
step_size = 0.5
steps = 3_000
until = { loss_drop = 0.91 }
[record]
times = { count = 3 }
[[cells]]
name = "lazy"
network.init.scale = 2.0
network.init.paired = true
[predictions]
racing = { control = "lazy" }
mutual-alignment = { control = "lazy" }
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return mcrace.run(mcrace.parse_study(STUDY), tmp_path_factory.mktemp("symmetric") / "results", workers=0)


@pytest.fixture(scope="module")
def verdicts(results):
    return {(v.prediction, v.statistic): v for v in mcrace.test(results)}


def test_neurons_race_on_symmetric_data_and_not_in_lazy_networks(verdicts):
    slope = verdicts["racing", "slope of log growth on handicap"]
    assert slope.verdict == "supported" and abs(slope.estimate - 1) < 0.05 and slope.primary
    assert slope.control.failed and abs(slope.control.estimate) < 0.3 and slope.networks == 60 and slope.dropped == 0
    assert slope.half_step_change < 0.02 and slope.p < 1e-6
    shuffled = verdicts["racing", "slope, control: shuffled labels"]
    assert shuffled.verdict == "supported" and abs(shuffled.control.estimate) < 0.2
    permutation = verdicts["racing", "slope is not 0 (999 permutations)"]
    assert permutation.verdict == "supported" and permutation.p == 0.001
    exact = verdicts["racing", "slope on the exact score at τ = 1"]
    assert abs(exact.estimate - 1) < 0.02


def test_neurons_align_on_symmetric_data_and_not_in_lazy_networks(verdicts):
    gain = verdicts["mutual-alignment", "gain of alignment A"]
    assert gain.verdict == "supported" and gain.estimate > 0.6 and gain.control.estimate < 0.1
    share = verdicts["mutual-alignment", "clusters N95 / neurons"]
    assert share.verdict == "supported" and share.estimate < 0.15 and share.control.estimate > 0.5


def test_the_order_and_the_correction_of_verdicts(results, verdicts):
    found, plain = mcrace.test(results), lambda vs: [v.plain() for v in vs]
    assert [v.prediction for v in found] == ["racing"] * 7 + ["mutual-alignment"] * 2
    primary = [v for v in found if v.primary]
    assert [v.p_adjusted for v in primary] == holm(np.array([v.p for v in primary])).tolist()
    assert plain(found) == plain(verdicts.values()), "the same results, the same verdicts"
    assert plain(mcrace.test(results.path.parent)) == plain(mcrace.test(results.path)) == plain(found)


def test_other_margins_are_tested_on_the_same_results(results):
    (slope, *_) = mcrace.test(results, {"racing": {"control": "lazy", "margin": 1e-5}})
    assert slope.verdict == "inconclusive" and slope.margin == Margin(1 - 1e-5, 1 + 1e-5)
    (alone, *_) = mcrace.test(results, {"racing": {}})
    assert alone.verdict == "not testable here"
    with pytest.raises(StudyError):
        mcrace.test(results, {"racing": {"margin": -1}})


def test_labels_that_say_nothing_give_no_race(results):
    """The same networks with shuffled labels as their task: what they race for is not what δ_0 was measured to."""
    cell = results.cell("main")
    slopes = growth_slopes(cell, "cosine_permuted")
    assert abs(np.nanmean(slopes)) < 4 * np.nanstd(slopes) / math.sqrt(60) + 0.05
    assert np.nanmean(growth_slopes(cell)) > 0.9


def test_lazy_networks_pass_no_test_in_place_of_the_main_cell(results):
    """With the roles exchanged the laws are refuted."""
    main, control, half = (results.cell(n) for n in ("main", "lazy", "main+half-step"))
    for name in ("racing", "mutual-alignment"):
        prediction, options = with_options(name, {})
        first, *_ = prediction.judge(Evidence(7, control, main, half), options)
        assert first.verdict in ("refuted", "inconclusive")
