"""merging: neurons of one cluster are equivalent, and can be merged into one (text R; THEORY.md, merging)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import NOT_TESTABLE, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import LEAST_NETWORKS, judge_contrast, judge_mean, worst
from mcrace.predictions.panels import Panel, legend_above, loss_kept
from mcrace.results import CellResults
from mcrace.statistics import Margin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AT = "level=0.2"
KEPT, LAZY_MORE, MANY_CLUSTERS = 10, 0.02, 4


class MergingOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.01, gt=0, lt=1, description="largest gain of loss by merging to ten neurons, over L_0")


@prediction("merging")
class Merging(Prediction):
    """Where a fifth of the loss is left, the network can be merged to ten neurons and loses nothing: by average linkage of
    1 - min(ŵ_a·ŵ_b, v̂_a v̂_b), each cluster becoming w = Σ|v_a|w_a, v = unit(Σ|w_a|v_a), the loss grows by at most 0.01 L_0,
    and in lazy networks by at least 0.02 L_0 more.

    Both have to hold, so the p-value is the larger of the two.  Controls: lazy networks; and random partitions within sign
    of the same sizes, in networks of more than four clusters (N95 > 4): with one direction a sign any such partition is
    lossless.
    """

    options = MergingOptions
    law = ("L(merged to 10) - L ≤ 0.01 L_0\n"
           "w = Σ|v_a|w_a,  v = unit(Σ|w_a|v_a) for each cluster")
    meaning = {
        "supported": "Ten merged neurons say the same as all of them, and in lazy networks they do not: "
                     "neurons of one cluster are equivalent.",
        "refuted": "Merging to ten neurons costs loss, or costs as little in lazy networks, so that being "
                   "alike is not what training from small starts brings.",
    }

    def needs(self, options: MergingOptions) -> Needs:
        return Needs((f"merge_curve@{AT}", f"random_merge_curve@{AT}", f"clusters_95@{AT}", "zero_loss@start"))

    def judge(self, evidence: Evidence, options: MergingOptions) -> list[Verdict]:
        main = evidence.main
        if main.config["network"]["hidden"][0] <= KEPT:
            return self.not_testable(evidence, f"the network has no more than {KEPT} neurons to begin with")
        margin = Margin(high=options.margin)
        fails = lambda i: i.low > options.margin
        gain = judge_mean(self, evidence, f"ΔL/L_0 merged to {KEPT} neurons", margin, merged_gain, fails, primary=True)
        more = judge_contrast(self, evidence, "the same, control - main", Margin(low=LAZY_MORE), merged_gain)
        many = main.seeds[main.at("clusters_95", AT) > MANY_CLUSTERS]
        name = f"ΔL/L_0 where N95 > {MANY_CLUSTERS}, control: random partitions"
        if len(many) < LEAST_NETWORKS:
            why = f"{len(many)} networks have N95 > {MANY_CLUSTERS}; {LEAST_NETWORKS} are needed"
            random = Verdict(self.name, main.name, name, NOT_TESTABLE, margin=margin, note=why)
        else:
            random = judge_mean(self, evidence, name, margin, merged_gain, fails, among=many, control=main,
                                measure_control=lambda c: merged_gain(c, "random_merge_curve"))
            random = replace(random, note="; ".join([*filter(None, [random.note]), f"{len(many)} networks"]))
        return [worst([gain, more]), more, random]

    def panels(self, evidence: Evidence, options: MergingOptions) -> list[Panel]:
        return [Panel("What the loss gains when neurons are merged by average linkage until K are left: median, half and nine "
                      "tenths of the networks.", partial(_draw_merging, evidence, options.margin))]


def _draw_merging(evidence: Evidence, margin: float, axes: Axes) -> None:
    loss_kept(axes, evidence, "merge_curve", AT)
    axes.plot([KEPT], [margin], "v", color="0.4", label=f"the law: at most {margin:g} at K = {KEPT}")
    legend_above(axes, "Merged to K neurons,\na fifth of the loss left", columns=1)


def merged_gain(cell: CellResults, curve: str = "merge_curve") -> np.ndarray:
    """What the loss gains by merging to ten neurons, over L_0, for each network."""
    losses = cell.at(curve, AT)
    return (losses[:, KEPT - 1] - losses[:, -1]) / cell.at("zero_loss", "start")
