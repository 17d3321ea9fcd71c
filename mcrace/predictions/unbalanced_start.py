"""unbalanced-start: how fast neurons align when |w| and |v| start apart (Kunin et al.; THEORY.md, unbalanced-start)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.compiled import compiled
from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import Measured, judge_measured
from mcrace.predictions.half_rise import NEEDED, REMEDY, differ_only_in, half_rise_times, seldom_recorded, shared_seeds
from mcrace.predictions.panels import CONTROL, MAIN, Panel, legend_above, rows
from mcrace.results import CellResults
from mcrace.statistics import Margin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXTREME, OFF = 8.0, 0.5  # the ratio, or its inverse, at which the control has to be off, and by how much
HALVINGS, STRIDE = 60, 0.02


class UnbalancedOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.05, gt=0, lt=0.5, description="relative error of the law's time of half alignment")


@prediction("unbalanced-start")
class UnbalancedStart(Prediction):
    """While gates and residual stay as they are, with c_0 = w_0·D/|D| and τ = |D|t,

        v = v_0 cosh τ + c_0 sinh τ,    w·D/|D| = c_0 cosh τ + v_0 sinh τ,

    whatever |w_0|/|v_0| is (on descent with step η, e^{±τ} becomes (1 ± η|D|)^k).  So Σ a cos δ/Σ a, over the neurons of a
    network as they start, is halfway from the start to its value at the onset at a time that follows.

    Statistic: per network, the relative error of this time, the largest in size over the ratios; at most 5 %; beside it the
    error at each ratio.  Control: the closed form of balanced neurons, a = a_0 (cosh τ + cos δ_0 sinh τ)², off by more than
    half at both ratios 1/8 and 8.
    """

    options = UnbalancedOptions
    across = True
    meaning = {
        "supported": "How fast neurons align follows from the start in closed form, whatever |w|/|v| is; the "
                     "balanced form fails where they are far apart.",
        "refuted": "Neurons align at another time than the closed form says.",
    }

    def needs(self, options: UnbalancedOptions) -> Needs:
        start = ("cosine", "output_weight", "input_norm", "drift_norm")
        return Needs((*NEEDED, *(f"{name}@start" for name in start)))

    def judge(self, evidence: Evidence, options: UnbalancedOptions) -> list[Verdict]:
        cells = sorted(evidence.cells, key=ratio_of)
        if why := _lacking(cells):
            return self.not_testable(evidence, why)
        halves = [evidence.halves[c.name] for c in cells if c.name in evidence.halves]
        whole = len(halves) == len(cells)
        fails = lambda i: i.low > OFF
        balanced = off_balance(cells)
        worst = judge_measured(
            self, evidence, f"largest relative error, ratios {ratio_of(cells[0]):g} to {ratio_of(cells[-1]):g}",
            Margin(high=options.margin), largest_error(cells), balanced, fails, largest_error(halves) if whole else None, cells,
            primary=True)
        margin = Margin(-options.margin, options.margin)
        by_ratio = [judge_measured(self, evidence, f"relative error, ratio {ratio_of(c):g}", margin,
                                   Measured.of(c, relative_error), balanced, fails,
                                   Measured.of(h, relative_error) if h else None, [c])
                    for c, h in ((c, evidence.halves.get(c.name)) for c in cells)]
        return [worst, *by_ratio]

    def panels(self, evidence: Evidence, options: UnbalancedOptions) -> list[Panel]:
        cells = sorted(evidence.cells, key=ratio_of)
        if _lacking(cells):
            return []
        return [Panel("By how much the time of half alignment differs from the closed form, and from that of balanced neurons: "
                      "median, half and nine tenths of the networks.", partial(_draw_errors, cells, options.margin),
                      2 * len(cells))]


def _draw_errors(cells: list[CellResults], margin: float, axes: Axes) -> None:
    found = [(f"|w|/|v| = {ratio_of(c):g}", colour, relative_error(c, balanced))
             for c in cells for colour, balanced in ((MAIN, False), (CONTROL, True))]
    count = rows(axes, found)
    for colour, label in ((MAIN, "the law"), (CONTROL, "control: the balanced law")):
        axes.plot([], [], color=colour, label=label)
    axes.axvspan(-margin, margin, color="0.6", alpha=0.25, linewidth=0, label=f"margin ± {margin:g}")
    axes.set_xlabel("relative error, pure number")
    legend_above(axes, f"Time of half alignment,\n{count}", columns=1)


def ratio_of(cell: CellResults) -> float:
    """network.init.ratio of a cell."""
    return cell.config["network"]["init"]["ratio"]


def _lacking(cells: list[CellResults]) -> str:
    """What is lacking for a verdict, if anything is."""
    if not all(c.config["network"]["init"]["balanced"] for c in cells) or not differ_only_in(cells, "ratio"):
        return "the cells differ in more than network.init.ratio (init.balanced = true); choose those that do not by `cells`"
    if ratio_of(cells[0]) > 1 / EXTREME or ratio_of(cells[-1]) < EXTREME:
        return "cells from network.init.ratio = 0.125, or less, to 8, or more, are needed: the control is off there"
    return REMEDY if any(seldom_recorded(c) for c in cells) else ""


def relative_error(cell: CellResults, balanced: bool = False) -> np.ndarray:
    """(t_observed - t_law)/t_law of the half alignment, for each network."""
    law = law_times(cell, balanced)
    return (half_rise_times(cell) - law) / law


def largest_error(cells: list[CellResults]) -> Measured:
    """The size of the largest relative error over cells, for each network that all have."""
    seeds = shared_seeds(cells)
    errors = np.stack([Measured.of(c, relative_error).on(seeds) for c in cells])
    return Measured(f"{len(cells)} ratios", seeds, np.abs(errors).max(axis=0))


def off_balance(cells: list[CellResults]) -> Measured:
    """By how much the balanced law is off, at that of the two extreme ratios where it is off by less."""
    ends = [cells[0], cells[-1]]
    seeds = shared_seeds(cells)
    errors = np.stack([Measured.of(c, lambda c: relative_error(c, True)).on(seeds) for c in ends])
    return Measured("balanced law", seeds, np.abs(errors).min(axis=0))


def law_times(cell: CellResults, balanced: bool = False) -> np.ndarray:
    """t at which the closed form's Σ a cos δ/Σ a is halfway from the start to the observed value at the onset [network]."""
    half = (cell.at("mean_cosine", "start") + cell.at("mean_cosine", "onset")) / 2
    cosine = np.nan_to_num(cell.at("cosine", "start"))  # a dead neuron has no drift, and no part in the mean
    w, v = cell.at("input_norm", "start"), np.abs(cell.at("output_weight", "start"))
    if balanced:
        w = v = np.sqrt(w * v)
    drift = np.nan_to_num(cell.at("drift_norm", "start"))
    out = np.full(len(half), np.nan)
    _law_times(half, w * cosine, w * np.sqrt(1 - cosine**2), v, drift, cell.config["training"]["step_size"], out)
    return out


@compiled
def _mean_cosine(t, c, across, v, drift, step):
    """Σ a cos δ/Σ a after the time t, by the closed form (THEORY.md, fixed-gate-race), c and v relative to sign(v_0)."""
    top, bottom = 0.0, 0.0
    for a in range(len(v)):
        if drift[a] == 0:
            continue
        up = (v[a] + c[a]) / 2 * np.exp(t / step * np.log1p(step * drift[a]))
        down = (v[a] - c[a]) / 2 * np.exp(t / step * np.log1p(-step * drift[a]))
        v_then, along = up + down, up - down
        top += v_then * along
        bottom += abs(v_then) * np.sqrt(along * along + across[a] * across[a])
    return top / bottom


@compiled
def _law_times(half, c, across, v, drift, step, out):
    """The first crossing, by strides of the median clock, and halving within the one that holds it."""
    for i in range(len(half)):
        alive = drift[i][drift[i] > 0]
        if len(alive) == 0 or not half[i] < 1 or step * drift[i].max() >= 1:
            continue
        stride = STRIDE / np.median(alive)
        for k in range(2000):
            if _mean_cosine((k + 1) * stride, c[i], across[i], v[i], drift[i], step) < half[i]:
                continue
            low, high = k * stride, (k + 1) * stride
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                if _mean_cosine(middle, c[i], across[i], v[i], drift[i], step) < half[i]:
                    low = middle
                else:
                    high = middle
            out[i] = (low + high) / 2
            break
