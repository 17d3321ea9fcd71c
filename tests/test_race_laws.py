"""The laws of the race under test, on small real runs; every number is that of THEORY.md, with its control beside it."""

import numpy as np
import pytest

import mcrace
from mcrace.predictions.racing import growth_slopes

pytestmark = pytest.mark.laws

BASE = """
[study]
name = "law"
seeds = {seeds}
entropy = 20260204
[task]
kind = "gaussian"
dimension = {dimension}
samples = 100
symmetric = {symmetric}
fresh = {fresh}
[network]
hidden = [{hidden}]
init = {{ scale = {scale} }}
[training]
step_size = {step_size}
steps = {steps}
until = {{ loss_drop = {drop} }}
[record]
times = {times}
{more}
"""
VALUES = {"seeds": 60, "dimension": 10, "symmetric": "true", "fresh": "true", "hidden": 40, "scale": "1e-3", "step_size": 0.5,
          "steps": 3000, "drop": 0.91, "times": "{ count = 3 }"}
LAZY = """
[[cells]]
name = "lazy"
network.init = { scale = 1.0, paired = true }
"""


def verdicts(directory, more, **changes):
    """The verdicts of a study by cell and statistic, and its results."""
    text = BASE.format(**{**VALUES, **changes, "more": more})
    results = mcrace.run(mcrace.parse_study(text), directory / "results", workers=0)
    return {(v.prediction, v.cell, v.statistic): v for v in mcrace.test(results)}, results


def test_the_racing_slope_on_symmetric_data(tmp_path):
    """1 within 0.05 at scales 1e-3 and 1e-6, below 0.2 in lazy networks, and 0 with cos δ from shuffled labels."""
    found, results = verdicts(tmp_path, LAZY + """
[[cells]]
name = "tiny"
network.init.scale = 1e-6
[predictions]
racing = { control = "lazy", margin = 0.05 }
""", hidden=300, drop=0.905)
    for cell in ("main", "tiny"):
        slope = found["racing", cell, "slope of log growth on handicap"]
        assert slope.verdict == "supported" and slope.low >= 0.95 and slope.high <= 1.05
        assert slope.control.failed and slope.control.high < 0.2
        shuffled = growth_slopes(results.cell(cell), "cosine_permuted")
        assert abs(np.mean(shuffled)) < 0.05 + 3 * np.std(shuffled) / np.sqrt(len(shuffled))


def test_the_race_from_unbalanced_starts(tmp_path):
    found, _ = verdicts(tmp_path, LAZY.replace("1.0,", "1.0, balanced = false,") + """
[predictions]
racing = { control = "lazy" }
""", scale="1e-3, balanced = false")
    slope = found["racing", "main", "slope of log a_T on log H beside log a_0"]
    assert slope.verdict == "supported" and slope.control.high < 0.8


def test_neurons_unlock_when_the_law_says(tmp_path):
    found, _ = verdicts(tmp_path, LAZY + """
[[cells]]
name = "flipping"
network.init.ratio = 4.0
[predictions]
unlocking = { control = "lazy" }
""", seeds=32, dimension=8, hidden=100, step_size=0.12, steps=1800, drop=0.8,
                     times='{ spacing = "linear", count = 1801 }')
    for cell in ("main", "flipping"):
        order = found["unlocking", cell, "concordance of t* and unlocking"]
        assert order.verdict == "supported" and order.low >= 0.9 and order.control.high < 0.7
        locked = found["unlocking", cell, "share that stays locked"]
        assert locked.verdict == "supported" and locked.high < 0.01 and locked.control.low >= 0.3
    flips = found["unlocking", "flipping", "change of cos δ by sign flips"]
    assert flips.low > 0.1 and found["unlocking", "main", "change of cos δ by sign flips"].estimate == 0


EARLY = """
[[cells]]
name = "scale=1e-2"
network.init.scale = 1e-2
[[cells]]
name = "scale=1e-6"
network.init.scale = 1e-6
[[cells]]
name = "scale=1"
network.init = { scale = 1.0, paired = true }
[[cells]]
name = "scale=4"
network.init = { scale = 4.0, paired = true }
[[cells]]
name = "ratio=0.125"
network.init.ratio = 0.125
[[cells]]
name = "ratio=8"
network.init.ratio = 8.0
[predictions.early-phase]
control = "scale=4"
cells = ["main", "scale=1e-2", "scale=1e-6", "scale=1"]
[predictions.unbalanced-start]
cells = ["main", "ratio=0.125", "ratio=8"]
"""


def test_alignment_comes_before_the_loss_drops_and_at_its_own_time(tmp_path):
    found, _ = verdicts(tmp_path, EARLY, seeds=40, step_size=0.1, drop=0.02, times="{ count = 100 }")
    found = {statistic: v for (_, _, statistic), v in found.items()}
    onset = found["slope of τ at the onset, 3 scales 1e-06 to 0.01"]
    rise = found["slope of τ at which alignment has risen by half"]
    assert onset.verdict == rise.verdict == "supported"
    assert onset.low >= 0.94 and onset.high <= 1.06 and onset.control.high < 0.5 and abs(rise.estimate) < 0.05
    worst = found["largest relative error, ratios 0.125 to 8"]
    assert worst.verdict == "supported" and worst.high < 0.05 and worst.control.low > 0.5


def test_neurons_converge_to_the_extremal_directions(tmp_path):
    found, _ = verdicts(tmp_path, LAZY + """
[predictions]
extremal-directions = { control = "lazy" }
""", seeds=40, symmetric="false", fresh="false", scale="1e-6", dimension=5, drop=0.02)
    share = found["extremal-directions", "main", "share of Σa near extremal directions"]
    assert share.verdict == "supported" and share.low >= 0.95 and share.control.high < 0.95
    assert found["extremal-directions", "main", "share, control: shuffled labels"].control.high < 0.95
    clusters = found["extremal-directions", "main", "clusters N95 / directions"]
    assert clusters.high <= 1 and clusters.control.low > 1


def test_the_same_neurons_win_on_minibatches_and_not_on_other_labels(tmp_path):
    found, _ = verdicts(tmp_path, """
[[cells]]
name = "half"
training.batch = 50
[[cells]]
name = "other-labels"
task.permute_labels = true
[predictions]
winner-stability = { control = "other-labels" }
""", seeds=40, hidden=60, dimension=20)
    stable = found["winner-stability", "main", "overlap of winners, half"]
    assert stable.verdict == "supported" and stable.low >= 0.85 and stable.control.failed
