"""mutual-alignment: neurons come to share a few directions (text R; THEORY.md, mutual-alignment)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from mcrace.predictions.base import (
    WORST_FIRST,
    Evidence,
    Needs,
    Options,
    Prediction,
    Verdict,
    judge_mean,
    prediction,
)
from mcrace.results import CellResults
from mcrace.statistics import Margin

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

    def needs(self, options: AlignmentOptions) -> Needs:
        return Needs(("alignment@start", f"alignment@{END}", f"clusters_95@{END}", f"cluster@{END}"))

    def judge(self, evidence: Evidence, options: AlignmentOptions) -> list[Verdict]:
        gain = judge_mean(self, evidence, "gain of alignment A", Margin(low=options.margin), alignment_gain,
                          lambda i: i.high < LAZY_GAIN, primary=True)
        clusters = judge_mean(self, evidence, "clusters N95 / neurons", Margin(high=FEW_CLUSTERS), clusters_share,
                              lambda i: i.low > LAZY_CLUSTERS)
        both = min((gain.verdict, clusters.verdict), key=WORST_FIRST.index)
        dead = np.mean(evidence.main.at("cluster", END) == 0)
        notes = [n for n in (gain.note, f"dead neurons: {dead:.1%}") if n]
        if both != gain.verdict:
            notes.append("decided by the clusters")
        return [replace(gain, verdict=both, p=float(np.maximum(gain.p, clusters.p)), note="; ".join(notes)), clusters]


def alignment_gain(cell: CellResults) -> np.ndarray:
    """A at the end minus A at the start, for each network."""
    return cell.at("alignment", END) - cell.at("alignment", "start")


def clusters_share(cell: CellResults) -> np.ndarray:
    """N95 over the number of neurons, for each network."""
    return cell.at("clusters_95", END) / cell.config["network"]["hidden"][0]
