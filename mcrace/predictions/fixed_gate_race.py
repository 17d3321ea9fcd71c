"""fixed-gate-race: the closed form of growth while gates and residuals stay (THEORY.md, fixed-gate-race)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import is_plain_descent, judge_mean, median_of
from mcrace.results import CellResults
from mcrace.statistics import Margin

END = "onset"


class FixedGateOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.005, gt=0, lt=1, description="relative error of log(a/a_0), at most")


@prediction("fixed-gate-race")
class FixedGateRace(Prediction):
    """While gates and residuals stay as they are at the start, so does D, and with c_0 = w_0·D/|D|, τ = |D|t

        v = v_0 cosh τ + c_0 sinh τ,    w·D/|D| = c_0 cosh τ + v_0 sinh τ,

    and the rest of w stays; under descent (1 ± η|D|)^k stands for e^{±τ}.  On samples in pairs x, -x with odd labels D is
    the same for all gates while f is about 0, so this holds in a real network up to the onset.

    Statistic: per network, the median over neurons of the relative error of log(a/a_0) at the onset, from the start alone;
    its mean over networks is at most 0.005.  Control: the drift of shuffled labels.  (Lazy networks are none: they reach the
    onset in a few steps, in which nothing can change.)
    """

    options = FixedGateOptions
    meaning = {
        "supported": "Growth up to the onset follows from the start alone by the closed form, as if no gate "
                     "had changed.",
        "refuted": "Growth up to the onset departs from the closed form: gates or residuals change too much "
                   "for the start alone to decide it.",
    }

    def needs(self, options: FixedGateOptions) -> Needs:
        start = ("input_norm", "output_weight", "drift_norm", "cosine", "drift_norm_permuted", "cosine_permuted")
        return Needs((*(f"{name}@start" for name in start), "norm_product@start", f"norm_product@{END}"))

    def judge(self, evidence: Evidence, options: FixedGateOptions) -> list[Verdict]:
        if not is_plain_descent(evidence.main):
            return self.not_testable(evidence, "the closed form is of plain descent at one step size, without weight decay")
        margin = Margin(high=options.margin)
        return [judge_mean(self, evidence, "relative error of log growth", margin, growth_errors, margin.misses,
                           lambda cell: growth_errors(cell, "_permuted"), evidence.main, primary=True)]


def growth_errors(cell: CellResults, drift: str = "") -> np.ndarray:
    """The statistic, for each network; `drift` is "_permuted" for that of shuffled labels."""
    with np.errstate(all="ignore"):
        found = np.log(cell.at("norm_product", END) / cell.at("norm_product", "start"))
        return median_of(abs(predicted_log_growth(cell, drift) / found - 1))


def predicted_log_growth(cell: CellResults, drift: str = "") -> np.ndarray:
    """log(a/a_0) at the onset by the closed form of descent [network, neuron]; NaN where there is no onset."""
    norm, v0 = cell.at("input_norm", "start"), cell.at("output_weight", "start")
    cosine, steps = cell.at(f"cosine{drift}", "start"), cell.state_step(END)
    along, sine = np.sign(v0) * cosine * norm, np.sqrt(1 - cosine**2)
    rate = cell.config["training"]["step_size"] * cell.at(f"drift_norm{drift}", "start")
    steps = np.where(steps < 0, np.nan, steps)[:, None]
    rising, falling = (v0 + along) * (1 + rate) ** steps / 2, (v0 - along) * (1 - rate) ** steps / 2
    return np.log(abs(rising + falling) * np.hypot(rising - falling, norm * sine) / (norm * abs(v0)))
