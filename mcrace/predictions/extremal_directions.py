"""extremal-directions: to which directions neurons align (Maennel; Boursier & Flammarion; THEORY.md, extremal-directions)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import judge_mean, worst
from mcrace.results import CellResults
from mcrace.statistics import Margin

LARGEST_SCALE = 1e-6
LEAST_SCALE = {"float32": 1e-15, "float64": 1e-130}  # v times the drift of another neuron has to be a normal number


class ExtremalOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.95, gt=0, lt=1, description="least share of Σa at the onset within 10° of an extremal direction")


@prediction("extremal-directions")
class ExtremalDirections(Prediction):
    """At a vanishing scale of the start (1e-6 or less) neurons converge, while f is still about 0, to the extremal directions
    of the data: the limits (distinct at a cosine of 0.99) of

        u ← unit(u + 0.1/(1+k/100) s D(u)/|D(u)|),    s = ±1 the sign of v,

    over 3,000 steps from 1,000 random u, with the residual at f = 0.

    Statistic: at the onset, the share of Σa within 10° of a direction of the neuron's sign, at least 95 %; and N95, clusters
    cut at 0.03, over the number of directions, at most 1.  Both have to hold.  Controls for the share: lazy networks, and
    the directions that shuffled labels would give.
    """

    options = ExtremalOptions
    meaning = {
        "supported": "When the loss begins to drop, the norm is held by neurons near the extremal directions "
                     "of the data, which the data alone decide.",
        "refuted": "When the loss begins to drop, much of the norm is held by neurons that are near no "
                   "extremal direction of the data.",
    }

    def needs(self, options: ExtremalOptions) -> Needs:
        at_onset = ("extremal_share", "extremal_share_permuted", "clusters_95_wide")
        return Needs((*(f"{name}@onset" for name in at_onset), "extremal_count@onset"))

    def judge(self, evidence: Evidence, options: ExtremalOptions) -> list[Verdict]:
        scale, dtype = evidence.main.config["network"]["init"]["scale"], evidence.main.config["training"]["dtype"]
        if scale > LARGEST_SCALE:
            return self.not_testable(evidence, f"the law is for network.init.scale <= {LARGEST_SCALE:g}")
        if scale < LEAST_SCALE[dtype]:
            return self.not_testable(evidence, f"numbers of {dtype} become 0 at so small a scale; "
                                     + ('training.dtype = "float64"' if dtype == "float32" else "network.init.scale = 1e-100"))
        margin = Margin(low=options.margin)
        fails = lambda i: i.high < options.margin
        lazy = judge_mean(self, evidence, "share of Σa near extremal directions", margin, near, fails, primary=True)
        shuffled = judge_mean(self, evidence, "share, control: shuffled labels", margin, near, fails, near_shuffled,
                              evidence.main)
        clusters = judge_mean(self, evidence, "clusters N95 / directions", Margin(high=1), clusters_share,
                              lambda i: i.low > 1)
        first = worst([lazy, clusters])
        if not evidence.main.config["task"]["fresh"]:
            first = replace(first, note="; ".join(n for n in (first.note, "for the one data set that all networks share") if n))
        return [first, shuffled, clusters]


def near(cell: CellResults) -> np.ndarray:
    """Share of Σa at the onset within 10° of an extremal direction, for each network."""
    return cell.at("extremal_share", "onset")


def near_shuffled(cell: CellResults) -> np.ndarray:
    """The same, of the directions of shuffled labels."""
    return cell.at("extremal_share_permuted", "onset")


def clusters_share(cell: CellResults) -> np.ndarray:
    """N95 at the onset over the number of extremal directions, for each network."""
    return cell.at("clusters_95_wide", "onset") / cell.at("extremal_count", "onset")
