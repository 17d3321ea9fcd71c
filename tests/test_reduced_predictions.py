"""merging, capacity and lottery-ticket: the statistics on made-up networks, the verdicts, and the laws on real ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
import studies
from test_predictions import Cell, around, judge

import mcrace
from mcrace.predictions import PREDICTIONS
from mcrace.predictions.base import Evidence
from mcrace.predictions.capacity import capacity, low_beats_random, merge_capacity
from mcrace.predictions.forms import judge_contrast, report_mean, worst
from mcrace.predictions.lottery_ticket import final_loss, lead_on_match, lead_on_random, onset_slopes, overlap_with_winners
from mcrace.predictions.merging import merged_gain
from mcrace.stages.tickets import OWN, TEN, VARIANTS
from mcrace.statistics import Margin

# ------------------------------------------------------------------------------------------------- forms


def contrast(main, control, margin, half=None, needs=False, **options):
    return judge_contrast(PREDICTIONS["merging"], Evidence(1, main, control, half, needs), "contrast", margin,
                          lambda cell: cell.values, **options)


@pytest.mark.parametrize("ratio, ours, theirs, margin, verdict", [
    (False, 0.0, 0.1, Margin(low=0.02), "supported"),
    (False, 0.0, 0.0, Margin(low=0.02), "refuted"),
    (False, 0.0, 0.02, Margin(low=0.02), "inconclusive"),
    (True, 0.4, 1.0, Margin(high=0.5), "supported"),
    (True, 4.0, 5.0, Margin(high=0.5), "refuted"),
    (True, 0.5, 1.0, Margin(high=0.5), "inconclusive")])
def test_a_contrast_is_judged_by_its_interval(ratio, ours, theirs, margin, verdict):
    main, control = Cell("main", around(ours, spread=0.02)), Cell("lazy", around(theirs, spread=0.02, seed=1))
    found = contrast(main, control, margin, ratio=ratio)
    assert found.verdict == verdict and found.networks == 60
    assert found.estimate == pytest.approx(ours / theirs if ratio else theirs - ours, abs=1e-12)
    assert found.low < found.estimate < found.high and (found.p < 0.02) == (verdict == "supported")
    assert found.control.estimate == pytest.approx(theirs, abs=1e-12) and found.control.failed


def test_a_contrast_is_of_the_networks_that_both_have():
    main = Cell("main", np.r_[around(9.0, 50), around(1.0, 50)])
    control = Cell("lazy", np.r_[around(2.0, 50), around(9.0, 50)], 50)
    found = contrast(main, control, Margin(low=0.5))
    assert (found.networks, found.dropped) == (50, 0) and found.estimate == pytest.approx(1.0)
    control.values[:10] = np.nan
    found = contrast(main, control, Margin(low=0.5))
    assert (found.networks, found.dropped, found.verdict) == (40, 10, "inconclusive") and "missed the state" in found.note
    assert contrast(main, None, Margin(low=0.5)).verdict == "not testable here"
    assert contrast(main, Cell("lazy", around(1.0), 90), Margin(low=0.5)).verdict == "not testable here"


@pytest.mark.parametrize("change, verdict", [(0.09, "supported"), (0.16, "inconclusive")])
def test_half_the_step_may_change_a_ratio_by_a_quarter_of_its_margin(change, verdict):
    """In units of the control, which is 2 here."""
    main, half = Cell("main", around(0.2)), Cell("half", around(0.2)[:40] + 2 * change)
    found = contrast(main, Cell("lazy", around(2.0, seed=1)), Margin(high=0.5), half, True, ratio=True)
    assert found.verdict == verdict and found.half_step_change == pytest.approx(change)


def test_what_is_reported_has_no_margin_and_no_p():
    main, control = Cell("main", np.r_[around(0.3), np.nan]), Cell("lazy", around(0.7))
    found = report_mean(PREDICTIONS["merging"], Evidence(1, main, control, None), "x", lambda cell: cell.values)
    assert (found.verdict, found.networks, found.dropped, found.control) == ("reported", 60, 1, None)
    assert found.low < found.estimate < found.high and math.isnan(found.p) and found.note == "0.7 on lazy"
    few = Evidence(1, Cell("main", around(0.3, 29)), None, None)
    few = report_mean(PREDICTIONS["merging"], few, "x", lambda cell: cell.values)
    assert few.verdict == "not testable here" and "30 are needed" in few.note


def test_a_verdict_that_asks_for_another_is_the_worse_of_both():
    good = contrast(Cell("main", around(0.0)), Cell("lazy", around(1.0)), Margin(low=0.5))
    bad = contrast(Cell("main", around(0.0)), Cell("lazy", around(0.1)), Margin(low=0.5))
    assert worst([good, good]) == good
    both = worst([good, good, replace(bad, statistic="y")])
    assert (both.verdict, both.p, both.note, both.estimate) == ("refuted", bad.p, "decided by: y", good.estimate)
    assert worst([bad, good]).verdict == "refuted" and worst([bad, good]).note == ""


# ------------------------------------------------------------------------------------------------- merging


def merged(gain, random=0.2, many=False, name="main", count=60, neurons=40, seed=0):
    """Networks that lose `gain` L_0 by merging to ten neurons, `random` by a random partition."""
    level = "level=0.2"
    at = {("zero_loss", "start"): np.full(count, 0.5), ("clusters_95", level): np.full(count, 5.0 if many else 4.0)}
    for k, (curve, loss) in enumerate((("merge_curve", gain), ("random_merge_curve", random))):
        at[curve, level] = np.full((count, neurons), 0.1)
        at[curve, level][:, 9] += 0.5 * around(loss, count, 0.002, seed + k)
        at[curve, level][:, :9] = 7.0
    return Cell(name, at=at, neurons=neurons)


def test_the_gain_of_loss_is_at_ten_neurons_and_in_units_of_the_zero_loss():
    assert merged_gain(merged(0.003)).mean() == pytest.approx(0.003)
    assert merged_gain(merged(0.003, 0.04), "random_merge_curve").mean() == pytest.approx(0.04)


@pytest.mark.parametrize("main, lazy, verdict, note", [
    (0.0, 0.05, "supported", ""),
    (0.03, 0.2, "refuted", ""),
    (0.01, 0.2, "inconclusive", ""),
    (0.005, 0.015, "refuted", "decided by: the same, control - main"),  # lazy loses only 0.01 more
    (0.0, 0.0, "refuted", "decided by: the same, control - main")])
def test_merging_needs_a_lossless_merge_and_a_control_that_loses(main, lazy, verdict, note):
    both, more, random = judge("merging", merged(main), merged(lazy, name="lazy", seed=9))
    assert both.verdict == verdict and note in both.note
    assert more.estimate == pytest.approx(lazy - main) and random.verdict == "not testable here"
    assert "0 networks have N95 > 4" in random.note


def test_random_partitions_are_the_control_where_there_are_many_clusters():
    lazy = merged(0.1, name="lazy", seed=9)
    assert judge("merging", merged(0.0, many=True), lazy)[2].verdict == "supported"
    assert judge("merging", merged(0.0, 0.0, many=True), lazy)[2].verdict == "not discriminating"
    some = merged(0.0, many=True)
    some.at("clusters_95", "level=0.2")[:25] = 2.0
    some.at("merge_curve", "level=0.2")[:25] += 1e3  # are not looked at
    random = judge("merging", some, lazy)[2]
    assert (random.networks, random.dropped, random.verdict) == (35, 0, "supported") and "35 networks" in random.note


def test_merging_to_ten_needs_more_than_ten():
    (found,) = judge("merging", merged(0.0, neurons=10), merged(0.1, name="lazy", neurons=10))
    assert found.verdict == "not testable here" and "no more than 10 neurons" in found.note


# ------------------------------------------------------------------------------------------------- capacity


def reduced(merge, rescaled, prune=30, name="main", count=60, neurons=40, seed=0):
    """Networks of which so many neurons are needed, give or take one."""
    rng, at = np.random.default_rng(seed), {("zero_loss", "start"): np.full(count, 0.5)}
    for curve, fewest in (("merge_curve", merge), ("prune_curve_rescaled", rescaled), ("prune_curve", prune)):
        need = fewest + rng.integers(-1, 2, count)
        at[curve, "level=0.1"] = np.where(np.arange(1, neurons + 1) < need[:, None], 0.3, 0.104)
    at["random_prune_curve", "level=0.1"] = at["prune_curve", "level=0.1"] + 0.01
    return Cell(name, at=at, neurons=neurons)


def test_capacities_are_shares_of_the_neurons():
    cell = reduced(4, 8, 30)
    assert merge_capacity(cell).mean() == pytest.approx(0.1, abs=0.01)
    assert capacity(cell, "prune_curve_rescaled").mean() == pytest.approx(0.2, abs=0.01)
    assert low_beats_random(cell) == pytest.approx(np.full(60, 0.02))


@pytest.mark.parametrize("merge, rescaled, verdicts", [
    (4, 6, ["supported", "supported"]), (20, 6, ["refuted", "supported"]), (4, 20, ["supported", "refuted"]),
    (10, 6, ["inconclusive", "supported"])])
def test_capacity_is_compared_with_that_of_the_control(merge, rescaled, verdicts):
    found = judge("capacity", reduced(merge, rescaled), reduced(20, 20, name="lazy", seed=1))
    assert [v.verdict for v in found] == verdicts + ["reported"] * 4
    assert found[0].estimate == pytest.approx(merge / 20, rel=0.05)
    assert found[0].control.estimate == pytest.approx(0.5, abs=0.01)
    assert found[2].estimate == merge_capacity(reduced(merge, rescaled)).mean() and "on lazy" in found[2].note
    assert found[5].estimate == pytest.approx(0.02)


# ------------------------------------------------------------------------------------------------- lottery tickets


class TicketCell(Cell):
    """What the stage stores of networks whose tickets obey the law, to a power and with noise."""

    def __init__(self, name="main", power=1.0, other_power=0.2, noise=0.01, overlap=(0.75, 0.25), count=60, seed=0, **training):
        super().__init__(name, np.zeros(count))
        rng, k = np.random.default_rng(seed), len(VARIANTS)
        self.config["training"] = {"method": "gd", "weight_decay": 0.0, "step_size": 0.5, **training}
        log_handicap = rng.normal(size=(count, k))
        log_handicap[:, VARIANTS.index("ten:handicap")] = 1.0
        log_handicap[:, VARIANTS.index("ten:matched")] = 0.0
        ten = len(TEN)
        log_handicap[:, -ten:] = log_handicap[:, -2 * ten : -ten]
        clock, other = rng.uniform(0.05, 0.1, count), rng.uniform(0.05, 0.1, count)
        power = np.where([v.startswith("other:") for v in VARIANTS], other_power, power)
        tau = 6 - power * log_handicap / 2 + noise * rng.normal(size=(count, k))
        of = np.where([v.startswith("other:") for v in VARIANTS], other[:, None], clock[:, None])
        neurons = np.full((count, k, 16), -1)
        neurons[:, :, :8] = np.arange(8)
        for variant, share in zip(("handicap", "a0"), overlap):
            neurons[:, VARIANTS.index(variant), : 8 - round(8 * share)] += 100
        loss = np.full((count, k), 0.05)
        loss[:, VARIANTS.index("random")] = 0.1
        self.stored = {"variant": np.array(VARIANTS, object), "ticket_handicap": np.exp(log_handicap), "ticket_clock": clock,
                       "ticket_clock_other": other, "ticket_onset_time": 0.5 * tau / np.log1p(0.5 * of),
                       "ticket_neurons": neurons, "ticket_final_loss": loss,
                       "ticket_size": np.where(np.arange(count) < 6, 16, 4)}

    def __getitem__(self, name):
        return self.stored[name] if name in self.stored else super().__getitem__(name)


@pytest.mark.parametrize("power", [1.0, 0.5, -1.0])
def test_the_slope_of_onsets_is_the_power_on_either_clock(power):
    cell = TicketCell(power=power, other_power=0.3, noise=0)
    assert onset_slopes(cell) == pytest.approx(np.full(60, power))
    assert onset_slopes(cell, "other:") == pytest.approx(np.full(60, 0.3))
    assert lead_on_match(cell) == pytest.approx(np.full(60, power))
    assert lead_on_match(cell, "other:") == pytest.approx(np.full(60, 0.3))
    handicap = np.log(cell["ticket_handicap"])
    expected = power * (handicap[:, VARIANTS.index("snip")] - handicap[:, VARIANTS.index("random")])
    assert lead_on_random(cell, "snip") == pytest.approx(expected)


def test_a_network_with_a_ticket_that_never_learns_has_no_slope():
    cell = TicketCell(noise=0)
    cell["ticket_onset_time"][3, VARIANTS.index("ten:random-2")] = np.nan
    cell["ticket_onset_time"][4, VARIANTS.index("random")] = np.nan
    assert np.flatnonzero(np.isnan(onset_slopes(cell))).tolist() == [3]
    assert np.flatnonzero(np.isnan(lead_on_random(cell, "winners"))).tolist() == [4]


def test_overlaps_are_shares_of_the_ticket():
    cell = TicketCell(overlap=(0.75, 0.25))
    cell["ticket_neurons"][7] = -1
    found, by_a0 = overlap_with_winners(cell), overlap_with_winners(cell, "a0")
    assert np.isnan([found[7], by_a0[7]]).all()
    assert (np.delete(found, 7) == 0.75).all() and (np.delete(by_a0, 7) == 0.25).all()
    assert (overlap_with_winners(cell, "winners")[:7] == 1).all()
    assert final_loss(cell, "random") == pytest.approx(np.full(60, 2.0))


@pytest.mark.parametrize("options, verdicts", [
    ({}, ["supported", "supported", "supported"]),
    ({"power": 0.7}, ["refuted", "supported", "supported"]),
    ({"power": 0.2}, ["refuted", "refuted", "supported"]),
    ({"other_power": 1.0}, ["not discriminating", "not discriminating", "supported"]),  # the labels made no difference
    ({"other_power": 0.05}, ["supported", "supported", "supported"]),
    ({"overlap": (0.5, 0.25)}, ["supported", "supported", "refuted"]),
    ({"overlap": (0.75, 0.75)}, ["supported", "supported", "not discriminating"])])
def test_tickets_are_judged_beside_their_labels_of_another_direction(options, verdicts):
    cell = TicketCell(**{"other_power": 0.05, **options})
    found = judge("lottery-ticket", cell, None)
    assert [v.verdict for v in found[:3]] == verdicts and {v.verdict for v in found[3:]} == {"reported"}
    assert found[0].control.cell == "main" and found[-1].estimate == pytest.approx((6 * 16 + 54 * 4) / 60)


@pytest.mark.parametrize("training", [{"method": "heavy-ball"}, {"weight_decay": 0.1}])
def test_the_ticket_law_is_one_of_plain_descent(training):
    (found,) = judge("lottery-ticket", TicketCell(**training), None)
    assert found.verdict == "not testable here" and "plain descent" in found.note


def test_the_study_gets_the_stage_and_what_it_reads():
    prediction = PREDICTIONS["lottery-ticket"]
    assert prediction.needs(prediction.options()).stages == ("tickets",) and len(OWN) == 6


# ------------------------------------------------------------------------------------------------- a real run


def test_a_study_of_all_three_from_its_file_to_its_verdicts(tmp_path):
    text = studies.race(32, hidden="[22]", samples="24", until="{ loss_drop = 0.91 }", loss='"mse"', step_size="0.3")
    text = text.replace("racing", "merging").replace("mutual-alignment", "capacity") + 'lottery-ticket = { control = "lazy" }'
    results = mcrace.run(mcrace.parse_study(text), tmp_path, workers=0)
    found = mcrace.test(results)
    assert [v.prediction for v in found if v.primary] == ["merging", "capacity", "lottery-ticket"]
    lead = next(v for v in found if v.statistic == "lead in 2τ_on of the H ticket")
    assert lead.control.cell == "main" and lead.estimate > lead.control.estimate, "labels matter even here"
    data = results.cell("main").to_xarray()
    assert data["ticket_onset_step"].dims == ("seed", "variant") and data["merge_curve_at"].dims == ("seed", "state", "kept")
    assert data["ticket_onset_step"].sel(variant="ten:handicap").mean() < data["ticket_onset_step"].sel(variant="ten:a0").mean()
    assert np.allclose(data["zero_loss_at"].sel(state="start"), 0.5)


# ------------------------------------------------------------------------------------------------- the laws

STUDY = """
[study]
name = "tickets"
seeds = 60
entropy = 7
[task]
kind = "gaussian"
samples = 100
dimension = 20
symmetric = true
[network]
hidden = [100]
init = { scale = 1e-3 }
[training]
step_size = 0.5
steps = 3_000
until = { loss_drop = 0.91 }
[record]
times = { count = 24 }
[[cells]]
name = "lazy"
network.init.scale = 1.0
network.init.paired = true
[predictions]
merging = { control = "lazy" }
capacity = { control = "lazy" }
lottery-ticket = { control = "lazy" }
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    results = mcrace.run(mcrace.parse_study(STUDY), tmp_path_factory.mktemp("tickets") / "results", workers=0)
    return {(v.prediction, v.statistic): v for v in mcrace.test(results)}


@pytest.mark.laws
def test_the_ticket_law_has_slope_1_and_labels_of_another_direction_have_not(verdicts):
    slope = verdicts["lottery-ticket", "slope of -2τ_on on log ΣH"]
    assert slope.verdict == "supported" and slope.primary and abs(slope.estimate - 1) < 0.02
    assert slope.control.failed and slope.control.high < 0.6 and slope.networks == 60 and slope.half_step_change < 0.02


@pytest.mark.laws
def test_tickets_are_ahead_and_on_labels_of_another_direction_their_advantage_is_gone(verdicts):
    lead = verdicts["lottery-ticket", "lead in 2τ_on of the H ticket"]
    assert lead.verdict == "supported" and lead.low > 0.3 and lead.control.high < 0.1
    overlap = verdicts["lottery-ticket", "winners in the H ticket"]
    assert overlap.verdict == "supported" and overlap.low > 0.6 and overlap.control.high < 0.4


@pytest.mark.laws
def test_small_networks_merge_and_lazy_ones_do_not(verdicts):
    gain = verdicts["merging", "ΔL/L_0 merged to 10 neurons"]
    assert gain.verdict == "supported" and gain.high < 0.01 and gain.control.low > 0.01
    assert verdicts["merging", "the same, control - main"].low > 0.02
    for statistic in ("K_merge/m, ratio main/control", "K_prune/m rescaled, ratio main/control"):
        assert verdicts["capacity", statistic].verdict == "supported" and verdicts["capacity", statistic].high < 0.5
