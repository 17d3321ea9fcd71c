"""racing: the neurons whose start is aligned with the drift win the race for norm (text R; THEORY.md, racing)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import NOT_TESTABLE, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import judge_mean
from mcrace.predictions.panels import Panel, arms, density_of_law, legend_above
from mcrace.results import CellResults
from mcrace.statistics import (
    Interval,
    Margin,
    permutation_p,
    permuted_slopes,
    slopes_within,
    slopes_within_two,
    spearman_within,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

END = "level=0.1"
LEAST_COSINE = -0.95
LEAST_HANDICAP = (1 + LEAST_COSINE) / 2  # of (|v0| + |w0| cos δ0)/(|v0| + |w0|)
LAZY_SLOPE, LAZY_SLOPE_UNBALANCED, HIGH_RANK, LOW_RANK = 0.5, 0.8, 0.6, 0.3
DRAWN_HANDICAP, DRAWN_GROWTH = (-4.0, 0.0), (-5.0, 1.0)


class RacingOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.1, gt=0, lt=1, description="half width of the margin of the slope round 1")


@prediction("racing")
class Racing(Prediction):
    """In a balanced start at small scale, a neuron's norm product a = |v||w| grows by the time T at which a tenth of the
    loss is left as

        log(a_T / a_0) = const + 2 log((1 + cos δ_0) / 2),

    with one constant for the neurons of a sign: the start's angle to the drift decides the race.

    Statistic: per network, the least-squares slope of log(a_T/a_0), centred within sign, on 2 log((1+cos δ_0)/2), over
    neurons with cos δ_0 > -0.95 that are on at 0 and at T; the mean over networks; the law says 1.  Shuffling cos δ_0
    within (network, sign) tests slope 0.  Controls: lazy networks (interval below 0.5), and cos δ_0 from shuffled labels.
    Secondary: rank correlation of cos δ with a_T, and the exact score 2 log(cosh τ + cos δ_0 sinh τ) at τ = 1.
    """

    options = RacingOptions
    meaning = {
        "supported": "The race is decided at the start: a neuron's growth follows from its first angle to the drift as the law "
                     "says, and in the control, where features hardly move, it does not.",
        "refuted": "The race is not decided in this way: growth does not follow from the first angle to the drift with the "
                   "slope that the law says.",
        "not discriminating": "Growth follows from the first angle as the law says, but it does so in the control too, so the "
                              "law explains nothing that is special to these networks.",
        "inconclusive": "Whether the start decides the race is left open by these networks.",
        "not testable here": "These networks are none that the law speaks of, or too few reached a tenth of the loss.",
    }

    def needs(self, options: RacingOptions) -> Needs:
        start = ("cosine", "cosine_permuted", "norm_product", "output_weight", "input_norm")
        end = ("norm_product", "active", "cluster")
        return Needs((*(f"{n}@start" for n in start), *(f"{n}@{END}" for n in end), "norm_product@tau=1", "cosine@tau=1"))

    def judge(self, evidence: Evidence, options: RacingOptions) -> list[Verdict]:
        margin = Margin(1 - options.margin, 1 + options.margin)
        slopes = self._balanced if is_balanced(evidence.main) else self._unbalanced
        ranks = Margin(low=HIGH_RANK)
        low = lambda i: i.high <= LOW_RANK
        rank = [judge_mean(self, evidence, f"rank correlation cos δ, a_T, {label}", ranks, measure, low,
                           measure_control=start_ranks)
                for label, measure in (("t = 0", start_ranks), ("τ = 1", tau_ranks), ("t = 0, in clusters", cluster_ranks))]
        rows = [*slopes(evidence, margin), *rank]
        if evidence.main.config["training"]["method"] == "gd":
            return rows
        why = "τ is the clock of plain descent; a heavy ball goes by another"
        return [Verdict(self.name, v.cell, v.statistic, NOT_TESTABLE, margin=v.margin, note=why) if "τ = 1" in v.statistic
                else v for v in rows]

    def panels(self, evidence: Evidence, options: RacingOptions) -> list[Panel]:
        if not is_balanced(evidence.main):
            return []
        caption = "All neurons of {}: growth against the handicap of the start; its median (solid) and the law (dashed)."
        return [Panel(caption.format(cell.name), partial(_draw_race, cell, colour)) for colour, cell in arms(evidence)]

    def _balanced(self, evidence: Evidence, margin: Margin) -> list[Verdict]:
        lazy_fails = lambda i: i.high < LAZY_SLOPE
        slope = judge_mean(self, evidence, "slope of log growth on handicap", margin, growth_slopes, lazy_fails, primary=True)
        shuffled = judge_mean(self, evidence, "slope, control: shuffled labels", margin, growth_slopes, lazy_fails,
                              measure_control=lambda c: growth_slopes(c, "cosine_permuted"), control=evidence.main)
        exact = judge_mean(self, evidence, "slope on the exact score at τ = 1", margin, exact_score_slopes, margin.misses)
        handicap, growth, strata = _growth_and_handicap(evidence.main, "cosine")
        return [slope, shuffled, self._permutation(evidence, slope, handicap, growth, strata), exact]

    def _unbalanced(self, evidence: Evidence, margin: Margin) -> list[Verdict]:
        lazy_fails = lambda i: i.high < LAZY_SLOPE_UNBALANCED
        slope = judge_mean(self, evidence, "slope of log a_T on log H beside log a_0", margin, handicap_slopes, lazy_fails,
                           primary=True)
        shuffled = judge_mean(self, evidence, "slope, control: shuffled labels", margin, handicap_slopes, lazy_fails,
                              measure_control=lambda c: handicap_slopes(c, "cosine_permuted"), control=evidence.main)
        return [slope, shuffled]

    def _permutation(
        self, evidence: Evidence, slope: Verdict, x: np.ndarray, y: np.ndarray, strata: np.ndarray
    ) -> Verdict:
        """Whether the slope differs from 0 at all; the same networks are shuffled as are observed."""
        slope = replace(slope, statistic="slope is not 0 (999 permutations)", primary=False)
        if np.isnan(slope.estimate):
            return slope
        permuted = permuted_slopes(x, y, strata, evidence.rng(self.name, "permutation"))
        p = permutation_p(float(np.nanmean(slopes_within(x, y, strata))), permuted)
        low, high = np.quantile(permuted, [0.025, 0.975])
        outside = Margin(low, high).misses(Interval(slope.estimate, slope.low, slope.high))
        verdict = "supported" if outside and p <= 0.05 else "inconclusive"
        return replace(slope, p=p, verdict=verdict, margin=Margin(), control=None, half_step_change=float("nan"),
                       note=f"permuted slopes: 95 % within {low:.2g} and {high:.2g}")


def is_balanced(cell: CellResults) -> bool:
    """Whether |w_0| = |v_0| in a cell."""
    init = cell.config["network"]["init"]
    return init["balanced"] and init["ratio"] == 1


def _signs(cell: CellResults) -> np.ndarray:
    return (cell.at("output_weight", "start") > 0).astype(np.int64)


def _log_growth(cell: CellResults, state: str) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(cell.at("norm_product", state) / cell.at("norm_product", "start"))


def _growth_and_handicap(cell: CellResults, cosine: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """2 log((1+cos δ_0)/2) and log(a_T/a_0) [network, neuron], NaN for neurons left out, and signs as strata."""
    cosines = cell.at(cosine, "start")
    used = (cosines > LEAST_COSINE) & (cell.at("active", END) == 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        handicap = np.where(used, 2 * np.log((1 + cosines) / 2), np.nan)
    return handicap, np.where(used, _log_growth(cell, END), np.nan), _signs(cell)


def _draw_race(cell: CellResults, colour: str, axes: Axes) -> None:
    """Log growth, less its constant for the neurons of a sign of a network, against the handicap; and the law."""
    handicap, growth, signs = _growth_and_handicap(cell, "cosine")
    growth = growth.copy()
    for sign in (0, 1):
        excess = np.where(signs == sign, growth - handicap, np.nan)
        count = np.isfinite(excess).sum(axis=1, keepdims=True)
        constant = np.nansum(excess, axis=1, keepdims=True) / np.maximum(count, 1)
        growth = np.where(signs == sign, growth - constant, growth)
    good = np.isfinite(growth) & np.isfinite(handicap)
    density_of_law(axes, handicap, growth, colour, (DRAWN_HANDICAP, DRAWN_GROWTH), "the law: slope 1")
    axes.set(xlabel="handicap 2 log((1 + cos δ₀)/2), pure number", ylabel="log(a_T / a₀) − constant,\npure number")
    legend_above(axes, f"{cell.name}: n = {good.any(axis=1).sum():,} networks, {good.sum():,} neurons")


def growth_slopes(cell: CellResults, cosine: str = "cosine") -> np.ndarray:
    """The statistic, for each network."""
    return slopes_within(*_growth_and_handicap(cell, cosine))


def handicap_slopes(cell: CellResults, cosine: str = "cosine") -> np.ndarray:
    """Coefficient of log H, beside log a_0, in log a_T for each network (THEORY.md, racing).

    Centred within the sign that a neuron has in the end: v crosses 0 where |w_0| cos δ_0 < -|v_0|.  As in a balanced start,
    those that start next to opposite are left out.
    """
    v, w = np.abs(cell.at("output_weight", "start")), cell.at("input_norm", "start")
    root = v + w * cell.at(cosine, "start")
    used = (np.abs(root) > LEAST_HANDICAP * (v + w)) & (cell.at("active", END) == 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_H = np.where(used, 2 * np.log(np.abs(root) / 2), np.nan)
        log_start, log_end = (np.log(cell.at("norm_product", state)) for state in ("start", END))
    signs = np.where(root < 0, 1 - _signs(cell), _signs(cell))
    return slopes_within_two(log_H, log_start, log_end, signs)[0]


def exact_score_slopes(cell: CellResults) -> np.ndarray:
    """Slope of log(a(τ=1)/a_0) on 2 log(cosh 1 + cos δ_0 sinh 1) (THEORY.md, fixed-gate-race)."""
    with np.errstate(invalid="ignore"):
        score = 2 * np.log(np.cosh(1.0) + cell.at("cosine", "start") * np.sinh(1.0))
    return slopes_within(score, _log_growth(cell, "tau=1"), _signs(cell))


def start_ranks(cell: CellResults) -> np.ndarray:
    """Rank correlation within sign of cos δ_0 and a_T."""
    return spearman_within(cell.at("cosine", "start"), cell.at("norm_product", END), _signs(cell))


def tau_ranks(cell: CellResults) -> np.ndarray:
    """Rank correlation within sign of cos δ at τ = 1 and a_T."""
    return spearman_within(cell.at("cosine", "tau=1"), cell.at("norm_product", END), _signs(cell))


def cluster_ranks(cell: CellResults) -> np.ndarray:
    """Rank correlation within sign and final cluster of cos δ_0 and a_T."""
    clusters = np.maximum(cell.at("cluster", END), 0)
    return spearman_within(cell.at("cosine", "start"), cell.at("norm_product", END), 2 * clusters + _signs(cell))
