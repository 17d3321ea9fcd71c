"""depth-transfer: what is measured in layers of made-up cells, the table, and what is said of each claim."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mcrace.completion import complete
from mcrace.predictions import PREDICTIONS, Verdict
from mcrace.predictions import layer_measures as measures
from mcrace.predictions.base import Control, Evidence
from mcrace.predictions.depth_transfer import becomes, with_words
from mcrace.predictions.layer_measures import CURVES, END, LATE
from mcrace.predictions.layer_table import entries, table_text
from mcrace.statistics import Margin
from mcrace.study import load_study

NETWORKS = 40
JOBS = Path(__file__).parent.parent / "jobs"
PLAIN = {"residual": False, "norm": None}


class Cell:
    """What the prediction sees of a cell; a layer's arrays are padded with NaN to the widest."""

    def __init__(self, name, hidden, at, paths=None, scale=0.03, lazy=False, eta=0.1):
        self.name, self._at = name, at
        init = {"scale": scale, "subtract_start": lazy, "paired": False}
        training = {"method": "gd", "step_size": eta, "batch": None, "weight_decay": 0.0, "dtype": "float64"}
        self.config = {"task": {"kind": "digits"}, "network": {"hidden": hidden, "init": init, **PLAIN},
                       "training": training}
        self.seeds = np.arange(NETWORKS)
        self._paths = {"status": np.zeros(NETWORKS, np.int8), "step": np.arange(0, 1001, 100), "time": np.arange(0, 101.0, 10),
                       **(paths or {})}

    def __getitem__(self, name):
        return self._paths[name]

    def __setitem__(self, name, values):
        self._paths[name] = values

    def at(self, observable, state):
        return self._at[observable, state]

    def state_step(self, state):
        return np.full(len(self.seeds), {"start": 0, "onset": 300, "level=0.5": 500, END: 800}[state])


def padded(layers):
    widest = max(x.shape[1] for x in layers)
    return np.stack([np.pad(x, ((0, 0), (0, widest - x.shape[1])), constant_values=np.nan) for x in layers], axis=1)


def made(name, hidden=(20, 30), lazy=False, rich=1.0, seed=0, drift=0.0, eta=0.1, scale=0.03):
    """A cell in which the race is run by the score where `rich` is 1, and by nothing known where it is 0."""
    rng = np.random.default_rng(seed)
    rows, H, widest = NETWORKS, len(hidden), max(hidden)
    normal = lambda: padded([rng.normal(size=(rows, m)) for m in hidden])
    each = lambda: rng.normal(size=(rows, H))
    there = np.isfinite(normal())
    score, other, size = np.tanh(normal()), normal(), normal()
    end = np.exp(size + 2 * rich * score + (1 - rich) * 2 * other)
    on = np.where(there, 1, -1)
    w_in = np.where(there, 1 + 0.2 * rng.uniform(size=there.shape), np.nan)
    at = {("layer_norm_product", "start"): w_in**2 if rich else 1e3 * w_in, ("layer_norm_product", END): end,
          ("layer_score", "start"): score,
          ("layer_score", END): np.where(score > 0, score, 0.5 if rich else -0.1), ("layer_active", "start"): on,
          ("layer_active", END): on, ("layer_input_norm", "start"): w_in, ("layer_input_norm", "onset"): 2 * w_in,
          ("layer_balancedness", "start"): 0 * w_in, ("layer_balancedness", "onset"): 0 * w_in + eta * 0.01 + drift,
          ("layer_alignment", "start"): 0.01 * each(), ("layer_alignment", END): rich * 0.9 + 0.01 * each(),
          ("layer_stable_rank", END): 1 + (1 - rich) * 9 + 0.1 * np.abs(each()),
          ("layer_clusters_95", END): np.where(rich, 2.0, 0.8 * np.array(hidden)) + 0.1 * np.abs(each()),
          ("zero_loss", "start"): np.ones(rows)}
    for curve in CURVES:
        few = np.arange(1, widest + 1) < (3 if rich else 16)
        jitter = 1 + 0.01 * rng.uniform(size=(rows, H, 1))
        at[f"layer_{curve}", END] = 0.05 * jitter + 0.5 * few
        at[f"joint_{curve}", END] = at[f"layer_{curve}", END][:, 0]
    for state in LATE:
        for what in ("imbalance", "growth_error"):
            at[f"layer_{what}", state] = 1e-15 * (1 + np.abs(each()))
            at[f"layer_{what}_mixed", state] = 0.5 + 0.01 * each()
    paths = {"layer_clock_score": score, "layer_clock_score_permuted": np.tanh(normal()),
             "layer_clock_log_norm_product": size, "layer_clock_time": np.full((rows, H), 20.0),
             "layer_ticket": np.array(["handicap", "random", "a0", "winners"]),
             "layer_ticket_onset_time": np.tile([10.0, 30.0, 20.0, 9.0], (rows, 1)) + 0.1 * rng.normal(size=(rows, 4)),
             "layer_deaths": np.where(there, 0, -1), "layer_revivals": np.where(there, 0, -1)}
    return Cell(name, list(hidden), at, paths, scale=scale, lazy=lazy, eta=eta)


# ------------------------------------------------------------------------------------------------- measures


def test_racing_is_partial_and_of_neurons_that_are_on():
    cell = made("main")
    assert (measures.partial_ranks(cell, 1) > 0.8).all()
    assert (measures.ranks(cell, 1) < 0.9).all() and np.mean(measures.ranks(cell, 1)) > 0.3
    blind = made("blind", rich=0.0)
    assert abs(np.mean(measures.partial_ranks(blind, 1))) < 0.1
    before = measures.partial_ranks(cell, 0)
    cell._at["layer_active", END][:, 0, 5:] = 0
    cell._at["layer_norm_product", END][:, 0, 5:] = 1e9
    assert (measures.partial_ranks(cell, 0) != before).any(), "what is dead is left out"
    assert (np.nanmedian(measures.partial_ranks(cell, 0)) > 0.8)


def test_a_clock_that_strikes_after_the_end_tells_nothing():
    cell = made("main")
    cell._paths["layer_clock_time"][:7] = 81.0  # the end is at step 800, time 80
    cell._paths["layer_clock_time"][7] = np.nan
    assert np.isnan(measures.partial_ranks(cell, 0)).tolist() == [True] * 8 + [False] * 32


def test_locked_neurons_and_those_that_come_back():
    cell = made("main", hidden=(4, 3))
    of = lambda *values: np.array([[[*values, *[np.nan] * (4 - len(values))]] * 2] * NETWORKS, float)
    cell._at["layer_score", "start"], cell._at["layer_score", END] = of(-1, -1, -1, 1), of(-1, 0.5, -1, np.nan)
    cell._at["layer_norm_product", "start"], cell._at["layer_norm_product", END] = of(1, 1, 1, 1), of(0.5, 0.5, 2, 0.5)
    assert measures.locked_share(cell, 0).tolist() == [1 / 3] * NETWORKS
    cell._at["layer_active", END][:, 0, 2] = 0
    assert measures.locked_share(cell, 0) == pytest.approx(2 / 3)
    cell._paths["layer_deaths"], cell._paths["layer_revivals"] = of(0, 1, 1, 0), of(0, 2, 0, 0)
    assert (measures.revived_share(cell, 0) == 0.5).all()
    cell._paths["layer_deaths"][:, 1] = cell._paths["layer_revivals"][:, 1] = 0
    assert np.isnan(measures.revived_share(cell, 1)).all()


def test_tickets_are_the_tenth_of_highest_handicap():
    cell = made("main", hidden=(20,))
    cell._at["layer_norm_product", END] = np.where(np.arange(20) == 3, 9.0, 1.0 + np.zeros((NETWORKS, 1, 20)))
    cell._at["layer_norm_product", END][:, 0, 4] = 8.0
    a = cell._at["layer_norm_product", "start"] = np.ones((NETWORKS, 1, 20))
    cell._at["layer_input_norm", "start"] = a.copy()
    score = cell._at["layer_score", "start"] = np.zeros((NETWORKS, 1, 20))
    score[:, 0, 3], score[:, 0, 7] = 0.9, 0.8
    assert (measures.ticket_overlap(cell, 0) == 0.5).all()
    a[:, 0, 3], a[:, 0, 4] = 1.1, 1.2
    assert (measures.ticket_overlap(cell, 0, by_norm=True) == 1).all()


@pytest.mark.parametrize("drift, slope, limit", [(0.0, 1.0, 0.0), (0.5, 0.0, 0.42)])
def test_half_the_step_tells_a_drift_from_a_violation(drift, slope, limit):
    cell, half = made("main", drift=drift), made("half", drift=drift, eta=0.05)
    assert measures.balance_slopes(cell, half).values == pytest.approx(slope, abs=0.01)
    assert measures.limit_drifts(cell, half).values / 2 == pytest.approx(limit, abs=0.05)
    for measure in (measures.balance_slopes, measures.limit_drifts):
        control = measure(cell, half, norms=True).values
        assert (np.abs(control) < 1e-9).all() if measure is measures.balance_slopes else (control > 1).all()


def test_a_violation_in_one_layer_is_seen():
    cell, half = made("main"), made("half", eta=0.05)
    for c in (cell, half):
        c._at["layer_balancedness", "onset"][:, 1] += 0.5
    assert (measures.limit_drifts(cell, half).values > 0.2).all() and (measures.balance_slopes(cell, half).values < 0.1).all()


def test_the_largest_error_is_that_of_any_layer_at_any_moment():
    cell = made("main")
    cell._at["layer_imbalance", "onset"][3, 1] = 1e-3
    found = measures.largest("layer_imbalance")(cell)
    assert found[3] == 1e-3 and np.delete(found, 3).max() < 1e-13


# ------------------------------------------------------------------------------------------------- verdicts


def judged(cells, halves=None):
    found, evidence = PREDICTIONS["depth-transfer"], Evidence(1, cells[0], None, None, True, tuple(cells), halves or {})
    return found, evidence, found.judge(evidence, found.options())


@cache
def three(deep=1.0, lazy_too=False):
    """One layer and three, their halves, and their lazy controls; `deep`: how rich the deep network is."""
    cells = []
    for name, hidden, rich in (("one", (20,), 1.0), ("three", (20, 30, 20), deep)):
        cells += [made(name, hidden, rich=rich, seed=len(cells)),
                  made(f"{name}-lazy", hidden, True, float(lazy_too), seed=7, scale=1.0)]
    halves = {c.name: made(c.name + "-half", c.config["network"]["hidden"], rich=1.0, eta=0.05) for c in cells}
    for c in cells:  # the same numbers at half the step, but for the drift
        halves[c.name]._paths = c._paths
        halves[c.name]._at = {**c._at, ("layer_balancedness", "onset"): c.at("layer_balancedness", "onset") / 2}
    return judged(cells, halves)


def test_every_claim_carries_over_in_every_layer():
    _, _, verdicts = three()
    judged_ones = [v for v in verdicts if v.verdict not in ("reported", "not testable here") and "tickets" not in v.statistic]
    assert {v.verdict for v in judged_ones} == {"supported"}
    for v in judged_ones:
        assert v.note.partition(";")[0] == ("holds" if v.cell == "one" else "carries over"), v
    per_layer = [v.statistic for v in verdicts if v.cell == "three" and ", layer " in v.statistic]
    assert len(per_layer) == 3 * len([v for v in verdicts if v.cell == "one" and ", layer 1 of 1" in v.statistic]) == 42
    primary = [v for v in verdicts if v.primary]
    assert [v.cell for v in primary] == ["one", "three"] and all("weakest" in v.statistic for v in primary)


def test_a_deep_network_that_is_lazy_fails():
    _, _, verdicts = three(deep=0.0)
    deep = {v.statistic: v for v in verdicts if v.cell == "three"}
    for claim in ("partial rank correlation of score and a_T", "gain of alignment A", "N95/m", "K_merge, ratio main/control",
                  "stable rank, ratio main/control"):
        found = deep[f"{claim}, layer 2 of 3"]
        assert found.verdict == "refuted" and found.note.startswith("fails"), found
    assert deep["partial rank correlation of score and a_T, weakest layer"].verdict == "refuted"
    assert deep["error of the balance"].verdict == "supported"


def test_the_same_in_lazy_networks_says_nothing():
    _, _, verdicts = judged([made("one", (20,)), made("lazy", (20,), lazy=True, scale=1.0)])
    found = {v.statistic: v for v in verdicts}
    assert found["N95/m, layer 1 of 1"].note.startswith("no cell at") or "half" in found["N95/m, layer 1 of 1"].note


def test_what_is_lacking_is_said():
    _, _, verdicts = judged([made("one", (20,))])
    assert {v.verdict for v in verdicts if "K_merge" in v.statistic} == {"not testable here"}
    assert any("half the step" in v.note for v in verdicts)
    _, _, verdicts = judged([made("lazy", (20,), lazy=True)])
    assert [v.verdict for v in verdicts] == ["not testable here"] and "all cells are lazy" in verdicts[0].note
    residual = made("one", (20,))
    residual.config["network"]["residual"] = True
    _, _, verdicts = judged([residual])
    assert "plain layers" in next(v for v in verdicts if v.statistic == "error of the balance").note


MARGIN = Margin(low=0.2)
BASE = Verdict("depth-transfer", "c", "x, layer 1 of 2", "refuted", estimate=0.15, low=0.14, high=0.16, margin=MARGIN,
               control=Control("lazy", 0.05, 0.04, 0.06, True))


BESIDE = replace(BASE, statistic="x, layer 1 of 1", verdict="inconclusive", estimate=0.45)
BLIND = Control("lazy", 0.05, 0.04, 0.06, False)


@pytest.mark.parametrize("changes, word, short", [
    ({}, "weakens to 25% of one layer's effect", "25 %"), ({"estimate": 0.5}, "fails", "no"), ({"low": 0.05}, "fails", "no"),
    ({"control": BLIND}, "fails", "no"),
    ({"verdict": "supported"}, "holds", "yes"),
    ({"verdict": "inconclusive"}, "left open", "open"),
    ({"verdict": "inconclusive", "control": BLIND}, "not discriminating", "n.d."),
    ({"verdict": "not discriminating", "control": BLIND}, "not discriminating", "n.d."),
    ({"verdict": "not testable here", "estimate": math.nan}, "not testable", "-"), ({"verdict": "reported"}, "", "")])
def test_what_becomes_of_a_claim(changes, word, short):
    config = {"task": {"kind": "digits"}, "network": {"hidden": [5, 5], "init": {"scale": 0.1}}}
    verdict = replace(BASE, **changes)
    assert becomes(verdict, BESIDE) == word
    entry = entries([replace(verdict, note=f"{word}; more")], {"c": config})[0]
    assert (entry.claim, entry.layer, entry.depth, entry.short) == ("x", 1, 2, short)


def test_what_one_layer_does_is_what_carries_over():
    supported, refuted = (replace(BESIDE, verdict=v) for v in ("supported", "refuted"))
    assert becomes(replace(BASE, verdict="supported"), supported) == "carries over"
    assert becomes(BASE, supported).startswith("weakens to") and becomes(BASE, refuted) == "fails, as in one layer"
    assert becomes(BASE) == "fails" and becomes(replace(BASE, verdict="supported")) == "holds"


def test_what_becomes_of_a_ratio():
    ratio = replace(BASE, statistic="y, ratio main/control, layer 2 of 2", estimate=0.8, low=0.7, high=0.9)
    one = replace(ratio, statistic="y, ratio main/control, layer 1 of 1", estimate=0.2, verdict="supported")
    assert becomes(ratio, one) == "weakens to 25% of one layer's effect" and becomes(replace(ratio, high=1.01), one) == "fails"


def test_each_claim_is_laid_beside_the_same_in_one_layer_of_the_nearest_scale():
    cells = [made("one-small", (20,), scale=0.03), made("one", (20,), scale=0.1), made("two", (20, 20), scale=0.3)]
    rows = [replace(BASE, cell=name, statistic=f"x, layer 1 of {depth}", estimate=estimate,
                    verdict="refuted" if depth > 1 else "supported")
            for name, depth, estimate in (("one-small", 1, 0.95), ("one", 1, 0.25), ("two", 2, 0.15))]
    assert with_words(rows, cells)[2].note == "weakens to 50% of one layer's effect"


def test_the_table_has_a_column_for_each_layer_of_each_depth():
    _, evidence, verdicts = three(deep=0.0)
    lines = table_text(entries(verdicts, {c.name: c.config for c in evidence.cells})).splitlines()
    assert lines[0].split() == ["1.1", "all", "3.1", "3.2", "3.3", "all"]
    rows = {line[:31].strip(): line[31:].split() for line in lines[1:]}
    assert rows["alignment  gain of A"] == ["yes", "no", "no", "no"] and rows["balance    exact"] == ["yes", "yes"]


def test_drifts_up_to_unlike_onsets_are_not_compared():
    main, half = made("main"), made("half", eta=0.05)
    half.state_step = lambda state: Cell.state_step(half, state) - (30 if state == "onset" else 0)
    _, _, verdicts = judged([main], {"main": half})
    row = next(v for v in verdicts if v.statistic == "slope of log drift of the balance on log η")
    assert row.verdict == "not testable here" and "differ by 11%" in row.note


def test_a_drift_that_rounding_may_have_made_refutes_nothing():
    for dtype, verdict in (("float64", "refuted"), ("float32", "inconclusive")):
        main, half = made("main"), made("half")  # the drift is the same at both step sizes
        half.config["training"] |= {"dtype": dtype, "step_size": 0.05}
        for c in (main, half):
            c._at["layer_balancedness", "onset"] = 1e-6 * (1 + 0.1 * c.at("layer_score", "start"))
        _, _, verdicts = judged([main], {"main": half})
        row = next(v for v in verdicts if v.statistic == "slope of log drift of the balance on log η")
        assert row.verdict == verdict and ("rounding" in row.note) == (dtype == "float32")


def test_a_ticket_that_never_comes_to_its_onset_counts_with_all_its_steps():
    cell = made("main")
    times = cell["layer_ticket_onset_time"] = cell["layer_ticket_onset_time"].copy()
    times[:, 0], times[:, 1] = 10.0, np.nan
    assert measures.ticket_lead("random", "handicap")(cell) == pytest.approx(np.log(10))  # of 100 in all
    assert measures.shares_in_time(cell) == {"handicap": 1.0, "random": 0.0, "a0": 1.0, "winners": 1.0}
    cell.state_step = lambda state: np.where(np.arange(NETWORKS) < 5, -1, 800)
    assert np.isnan(measures.ticket_lead("random", "handicap")(cell)).sum() == 5, "no end, no tickets"


def test_tickets_are_not_trained_at_half_the_step():
    """They are reported, and take as long as all the rest."""
    cells = complete(load_study(JOBS / "depth-quick.toml")).cells
    assert {(c.role, c.config.record.stages) for c in cells} == {("main", ("layer-tickets",)), ("half-step", ())}


def test_a_clock_that_seldom_strikes_is_told():
    cell = made("main")
    cell._paths["layer_clock_time"][:30, 1] = np.nan
    _, _, verdicts = judged([cell])
    told = [v.statistic for v in verdicts if "came to 1 before the end in 25% of the networks" in v.note and not v.primary]
    assert len(told) == 4 and all(s.endswith("layer 2 of 2") for s in told)


def test_panels_are_drawn_and_say_how_many():
    matplotlib = pytest.importorskip("matplotlib.figure")
    found, evidence, _ = three()
    panels = found.panels(evidence, found.options())
    assert len(panels) == 7 and "becomes" in panels[0].caption
    for panel in panels:
        axes = matplotlib.Figure().subplots()
        panel.draw(axes)
        assert "n = " in axes.get_title() and axes.get_ylabel()
