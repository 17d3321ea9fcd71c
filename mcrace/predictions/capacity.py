"""capacity: training leaves as many different neurons as the task needs (text R; THEORY.md, pruning and capacity)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.observe.capacity import TOLERANCE, fewest_kept
from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import judge_contrast, report_mean
from mcrace.predictions.panels import Panel, legend_above, loss_kept
from mcrace.results import CellResults
from mcrace.statistics import Margin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

END = "level=0.1"
CURVES = ("merge_curve", "prune_curve", "prune_curve_rescaled", "random_prune_curve")


class CapacityOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.5, gt=0, lt=1, description="largest ratio of the capacity to that of the control")


@prediction("capacity")
class Capacity(Prediction):
    """Small initial weights leave at most half the capacity of lazy ones.  K_merge (K_prune) is the smallest K such that for
    every K' ≥ K the network merged to K' neurons (keeping the K' of highest a) has L ≤ L_T + 0.01 L_0, without retraining,
    where a tenth of the loss is left; the capacity is K_merge/m.

    Statistic: the ratio of mean capacities, main over control.  The same for K_prune with the kept v times Σa/Σ_kept a of
    their sign.  Reported, since they do not discriminate: K_prune without that, which merely counts the neurons that hold 95
    % of Σa, and what pruning the lowest gains on pruning at random, the mean over K of ΔL/L_0.  Control: lazy networks.
    """

    options = CapacityOptions
    law = "K_merge(small start) ≤ ½ K_merge(lazy)"
    meaning = {
        "supported": "Small starts leave a network that a few neurons can stand for, and lazy ones do not: "
                     "training has fitted capacity to the task.",
        "refuted": "Small starts need about as many different neurons as lazy ones, so training has not "
                   "fitted capacity to the task in this way.",
    }

    def needs(self, options: CapacityOptions) -> Needs:
        return Needs((*(f"{curve}@{END}" for curve in CURVES), "zero_loss@start"))

    def judge(self, evidence: Evidence, options: CapacityOptions) -> list[Verdict]:
        margin = Margin(high=options.margin)
        merge = judge_contrast(self, evidence, "K_merge/m, ratio main/control", margin, merge_capacity, True, primary=True)
        rescaled = judge_contrast(self, evidence, "K_prune/m rescaled, ratio main/control", margin,
                                  lambda c: capacity(c, "prune_curve_rescaled"), True)
        return [merge, rescaled, report_mean(self, evidence, "K_merge/m", merge_capacity),
                report_mean(self, evidence, "K_prune/m rescaled", lambda c: capacity(c, "prune_curve_rescaled")),
                report_mean(self, evidence, "K_prune/m", lambda c: capacity(c, "prune_curve")),
                report_mean(self, evidence, "loss/L_0, random less lowest pruned", low_beats_random)]

    def panels(self, evidence: Evidence, options: CapacityOptions) -> list[Panel]:
        caption = "What the loss gains when a network is {} to K neurons, without retraining: median, half and nine tenths."
        return [Panel(caption.format("merged"), partial(_draw_kept, evidence, "merge_curve", "Merged")),
                Panel(caption.format("pruned"), partial(_draw_kept, evidence, "prune_curve_rescaled", "Pruned and rescaled"))]


def _draw_kept(evidence: Evidence, curve: str, done: str, axes: Axes) -> None:
    loss_kept(axes, evidence, curve, END)
    axes.axhline(TOLERANCE, color="0.5", linestyle="--", label=f"{TOLERANCE:g}: K is enough below it")
    legend_above(axes, f"{done} to K neurons,\na tenth of the loss left", columns=1)


def capacity(cell: CellResults, curve: str) -> np.ndarray:
    """The fewest neurons that keep the loss, over m, for each network."""
    return fewest_kept(cell.at(curve, END), cell.at("zero_loss", "start")) / cell.config["network"]["hidden"][0]


def merge_capacity(cell: CellResults) -> np.ndarray:
    """K_merge/m for each network."""
    return capacity(cell, "merge_curve")


def low_beats_random(cell: CellResults) -> np.ndarray:
    """Mean over K of the loss with random neurons kept, less that with those of highest a, over L_0, for each network."""
    apart = cell.at("random_prune_curve", END) - cell.at("prune_curve", END)
    return apart.mean(axis=1) / cell.at("zero_loss", "start")
