"""span-freezing: what lies off the span of the samples never moves (THEORY.md, span-freezing)."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import judge_mean
from mcrace.results import CellResults
from mcrace.statistics import Margin

END = "level=0.1"
STATES = ("start", "tau=1", "onset", "level=0.5", END)
MOST_MOVED = 1e-10


class SpanOptions(Options):
    """Options of the prediction."""

    margin: float = Field(1e-3, gt=0, lt=1, description="half width of the margin of the slope round -1")


@prediction("span-freezing")
class SpanFreezing(Prediction):
    """Weights move along samples alone.  Where these do not span the input space, and without weight decay, the part of w
    orthogonal to their span stays as it is, and the angle θ of w to the span follows from its norm:

        d log sin θ / d log |w| = -1.

    Statistics: per network, the least-squares slope over neurons of log sin θ on log |w|, both as they change from the
    start, at τ = 1, the onset, half and a tenth of the loss (-1 ± 0.001); the largest move of the orthogonal part, over its
    length, by the time at which a tenth of the loss is left (at most 1e-10 in float64).  Control: a cell with weight decay
    if one is named; else the span of a quarter of the samples.
    """

    options = SpanOptions
    meaning = {
        "supported": "What lies off the span of the samples stays as it was at the start, so neurons turn into"
                     " the span only by growing.",
        "refuted": "What lies off the span of the samples moves, which plain descent cannot do: look at "
                   "weight decay, or at the engine.",
    }

    def needs(self, options: SpanOptions) -> Needs:
        names = ("span_sine", "part_span_sine", "input_norm")
        return Needs((*(f"{name}@{state}" for state in STATES for name in names), f"span_shift@{END}",
                      f"part_span_shift@{END}"), half_step=False)

    def judge(self, evidence: Evidence, options: SpanOptions) -> list[Verdict]:
        training = evidence.main.config["training"]
        if training["dtype"] != "float64" or training["weight_decay"]:
            return self.not_testable(evidence, 'the law is exact, for dtype = "float64" and without weight decay')
        if np.isnan(evidence.main.at("span_sine", "start")).all():
            return self.not_testable(evidence, "the samples span the whole input space, so nothing lies off their span")
        slope, least = Margin(-1 - options.margin, -1 + options.margin), Margin(high=MOST_MOVED)
        return [self._beside(evidence, "slope of log sin θ on log |w|", slope, sine_slopes, primary=True),
                self._beside(evidence, "move of the part off the span", least, largest_shifts)]

    def _beside(self, evidence: Evidence, statistic: str, margin: Margin, measure: Any, primary: bool = False) -> Verdict:
        """Judged beside the cell that is named, or beside the span of some of the samples."""
        if evidence.control is not None:
            return judge_mean(self, evidence, statistic, margin, measure, margin.misses, primary=primary)
        return judge_mean(self, evidence, statistic, margin, measure, margin.misses, lambda c: measure(c, "part_"),
                          evidence.main, primary)


def sine_slopes(cell: CellResults, span: str = "") -> np.ndarray:
    """The slope of the change of log sin θ on that of log |w|, for each network; `span`: "part_" for some samples."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sines = np.stack([np.log(cell.at(f"{span}span_sine", state)) for state in STATES])
        norms = np.stack([np.log(cell.at("input_norm", state)) for state in STATES])
        x, y = (values[1:] - values[0] for values in (norms, sines))
        return np.sum(x * y, axis=(0, 2)) / np.sum(x * x, axis=(0, 2))


def largest_shifts(cell: CellResults, span: str = "") -> np.ndarray:
    """The largest relative move over neurons, for each network; `span`: "part_" for that of some samples."""
    return cell.at(f"{span}span_shift", END).max(axis=1)
