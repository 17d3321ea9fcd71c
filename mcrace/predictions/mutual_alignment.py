"""mutual-alignment: neurons come to share a few directions (text R; THEORY.md, mutual-alignment)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import judge_mean, worst
from mcrace.predictions.panels import Panel, arms, bands, legend_above
from mcrace.results import CellResults
from mcrace.statistics import Margin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

END = "level=0.1"
LAZY_GAIN, LAZY_CLUSTERS, FEW_CLUSTERS = 0.1, 0.5, 0.25


class AlignmentOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.3, gt=0, lt=2, description="least gain of A from the start to the end")


@prediction("mutual-alignment")
class MutualAlignment(Prediction):
    """Neurons of one sign turn towards each other: A, the mean cosine of pairs of one sign weighted by their norm
    products, gains at least 0.3 by the time at which a tenth of the loss is left, and a quarter as many clusters as
    neurons, or fewer, hold 95 % of the norm products (average linkage, cut at distance 0.01).

    Both have to hold, so the p-value is the larger of the two.  Control: lazy networks, with a gain below 0.1 and more
    than half as many clusters as neurons.
    """

    options = AlignmentOptions
    law = "A(T) - A(0) ≥ 0.3,  N95(T) ≤ m/4\nA = Σ p_a p_b cos(w_a, w_b) / Σ p_a p_b\np_a = |v_a||w_a| / Σ |v||w|"
    meaning = {
        "supported": "Neurons of one sign come to share a few directions while the loss falls; in the control they do not.",
        "refuted": "Neurons do not come to share a few directions: they align too little, or stay in too many clusters.",
        "not discriminating": "Neurons come to share directions, but so do those of the control, so this is nothing special.",
        "inconclusive": "Whether neurons come to share a few directions is left open by these networks.",
        "not testable here": "There are too few networks, or no control, to say whether neurons come to share directions.",
    }

    def needs(self, options: AlignmentOptions) -> Needs:
        return Needs(("alignment@start", f"alignment@{END}", f"clusters_95@{END}", f"cluster@{END}"))

    def judge(self, evidence: Evidence, options: AlignmentOptions) -> list[Verdict]:
        gain = judge_mean(self, evidence, "gain of alignment A", Margin(low=options.margin), alignment_gain,
                          lambda i: i.high < LAZY_GAIN, primary=True)
        clusters = judge_mean(self, evidence, "clusters N95 / neurons", Margin(high=FEW_CLUSTERS), clusters_share,
                              lambda i: i.low > LAZY_CLUSTERS)
        both = worst([gain, clusters])
        dead = np.mean(evidence.main.at("cluster", END) == 0)
        return [replace(both, note="; ".join(n for n in (both.note, f"dead neurons: {dead:.1%}") if n)), clusters]

    def panels(self, evidence: Evidence, options: AlignmentOptions) -> list[Panel]:
        return [
            Panel("Mean cosine of pairs of neurons of one sign, weighted by their norm products: median, half and nine tenths "
                  "of the networks.", lambda axes: _draw_alignment(axes, evidence)),
            Panel("How many clusters it takes to hold the neurons when a tenth of the loss is left: the steeper, the more "
                  "neurons share a direction.", lambda axes: _draw_clusters(axes, evidence)),
        ]


def _draw_alignment(axes: Axes, evidence: Evidence) -> None:
    """A on the time grid where it was recorded there, otherwise at the start and at the end."""
    for colour, cell in arms(evidence):
        label = f"{cell.name}, n = {len(cell.seeds):,} networks"
        if "alignment" in cell:
            bands(axes, cell["step"], cell["alignment"], colour, label)
        else:
            states = np.stack([cell.at("alignment", "start"), cell.at("alignment", END)], axis=1)
            bands(axes, np.arange(2), states, colour, label)
    if "alignment" in evidence.main:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlabel("step")
        axes.set_xlim(left=0)
    else:
        axes.set_xticks([0, 1], ["start", "a tenth of the loss left"])
        axes.set_xlabel("moment")
    axes.set(ylabel="A, mean cosine", ylim=(-0.1, 1.05))
    legend_above(axes, "Alignment of neurons of one sign", columns=1)


def _draw_clusters(axes: Axes, evidence: Evidence) -> None:
    """Share of the live neurons in the largest k clusters, as a share of all neurons that k is."""
    for colour, cell in arms(evidence):
        labels = cell.at("cluster", END)
        neurons = labels.shape[1]
        counts = np.stack([(labels == k).sum(axis=1) for k in range(1, neurons + 1)], axis=1)
        held = np.cumsum(-np.sort(-counts, axis=1), axis=1)
        with np.errstate(invalid="ignore"):
            share = held / np.where(held[:, -1:] > 0, held[:, -1:], np.nan)
        alive = np.isfinite(share[:, 0]).sum()
        bands(axes, np.arange(1, neurons + 1) / neurons, share, colour, f"{cell.name}, n = {alive:,} networks")
    axes.axvline(FEW_CLUSTERS, color="0.5", linestyle="--", label=f"{FEW_CLUSTERS:g} of the neurons")
    axes.set(xlabel="clusters / neurons, largest first", ylabel="share of live neurons", xlim=(0, 1), ylim=(0, 1.03))
    legend_above(axes, "Neurons in the largest clusters", columns=1)


def alignment_gain(cell: CellResults) -> np.ndarray:
    """A at the end minus A at the start, for each network."""
    return cell.at("alignment", END) - cell.at("alignment", "start")


def clusters_share(cell: CellResults) -> np.ndarray:
    """N95 over the number of neurons, for each network."""
    return cell.at("clusters_95", END) / cell.config["network"]["hidden"][0]
