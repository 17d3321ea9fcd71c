"""growth-law: how fast the norm product of a neuron grows (THEORY.md, growth-law)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import judge_mean, median_of
from mcrace.results import CellResults
from mcrace.statistics import Margin

STATES = ("level=0.5", "onset", "start")


class GrowthOptions(Options):
    """Options of the prediction."""

    margin: float = Field(1e-6, gt=0, lt=1, description="relative error of the growth, at most")


@prediction("growth-law")
class GrowthLaw(Prediction):
    """Of every neuron, at any loss and any scale,

        d log a/dt = ((|w|² + v²)/a) |D| cos δ.

    The left side is measured, by probe steps of the kernel to either side that are extrapolated to none; the right side
    comes from weights and drift.  Statistic: per network, the median over neurons of the relative error; its mean over
    networks is at most 1e-6, half way down the loss, at the onset and at the start.  Control: the drift of shuffled labels.
    """

    options = GrowthOptions
    meaning = {
        "supported": "Each neuron grows at the rate that its own alignment says, to the precision of the "
                     "numbers: the engine follows the flow.",
        "refuted": "Neurons grow at another rate than their alignment says; either this training is no plain"
                   " descent, or the engine is wrong.",
    }

    def needs(self, options: GrowthOptions) -> Needs:
        names = ("growth", "input_norm", "output_weight", "drift_norm", "cosine", "drift_norm_permuted", "cosine_permuted")
        return Needs(tuple(f"{name}@{state}" for state in STATES for name in names), half_step=False)

    def judge(self, evidence: Evidence, options: GrowthOptions) -> list[Verdict]:
        return [self._at(state, evidence, Margin(high=options.margin)) for state in STATES]

    def _at(self, state: str, evidence: Evidence, margin: Margin) -> Verdict:
        return judge_mean(self, evidence, f"relative error of growth, {state}", margin, lambda c: growth_errors(c, state),
                          margin.misses, lambda c: growth_errors(c, state, "_permuted"), evidence.main, state == STATES[0])


def growth_errors(cell: CellResults, state: str, drift: str = "") -> np.ndarray:
    """The statistic, for each network; `drift` is "_permuted" for that of shuffled labels."""
    norm, v = cell.at("input_norm", state), abs(cell.at("output_weight", state))
    with np.errstate(all="ignore"):
        law = (norm / v + v / norm) * cell.at(f"drift_norm{drift}", state) * cell.at(f"cosine{drift}", state)
        return median_of(abs(law / cell.at("growth", state) - 1))
