"""normalised-growth: in normalised networks incoming norms play a zero-sum race, and outgoing ones grow linearly (text G;
THEORY.md, normalised-growth)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import NOT_TESTABLE, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import Measure, Measured, is_plain_descent, judge_mean, judge_measured, report_mean
from mcrace.predictions.panels import CONTROL, HALF_STEP, MAIN, Panel, legend_above, rows
from mcrace.results import CellResults
from mcrace.statistics import Margin, log_slopes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORTHOGONAL = 1e-10  # cosine of W and ∂L/∂W, at most
GROWTH = 1e-3  # relative error of the growth of |W|² over that predicted, at most
PROJECTED = 1e-5
NO_STEPS = "the growth of |W|² is added up over steps of plain full-batch descent of one size"
SEEN = ("input", "permuted", "hidden")


class NormalisedOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.05, gt=0, lt=1, description="half width of the margins of slopes round 1")
    least_auc: float = Field(0.8, gt=0.5, lt=1, description="how well E of the input tells images with noise, at least")
    images: bool = Field(True, description="whether E is to tell noisy images from clean ones; needs images, and test samples")


@prediction("normalised-growth")
class NormalisedGrowth(Prediction):
    """Over the units of a layer, z = γ (h - mean h)/σ_eff + β does not change with the size of W, at eps = 0.  So

        W.∂L/∂W = 0:  |W|² is conserved by the flow, and grows by Σ η²|∂L/∂W|² under descent,
        v(t) - v(0) ∝ t while the loss has not dropped,

    and incoming norms race for a sum that is given.

    Statistics per network: the growth of |W|² over Σ η²|∂L/∂W|², 1 ± 1e-3 with every step recorded; the cosine of W and
    ∂L/∂W at the onset; the slope of log growth of |W|² on log η, from a step and its half, and of log|v(t) - v(0)| on log t
    before the loss has dropped by 1 %, both 1 ± 0.05.  Control: networks that are not normalised, in a small balanced start,
    where |W|² grows with v² and both exponentially.

    For Bayesian R-LayerNorm, at β = 0, v ≈ 0 and the same W, E takes from the growth of v what it says: the projection
    v'_BR.v'_LN/|v'_LN|² is Σ ω_n g_n/Σ ω_n, g = exp(-αψ(λE)), ω_n = r_n A_n.Σ_k r_k A_k, within 1e-5; as a control the ratio of
    the norms is not.  And E tells images with noise of 0.5 from clean ones: an area under the ROC curve of at least 0.8 by E of
    the input; as controls not with its pixels in a random order, and 0.5 ± 0.05 by E of h, whose units have no order at the
    start, and none that training knows of where E is not of h.
    """

    options = NormalisedOptions
    law = ("|W|² = const under the flow, + Σ η²|∂L/∂W|² under descent\n"
           "|v(t) - v(0)| ∝ t before the loss drops\n"
           "v'_BR.v'_LN/|v'_LN|² = Σ ω_n exp(-αψ(λE_n))/Σ ω_n")
    meaning = {
        "supported": "Normalised neurons race for a sum of incoming norms that only the finite step changes; in the control "
                     "nothing keeps that sum.",
        "refuted": "The sum of incoming norms changes in another way than the finite step explains.",
    }

    def needs(self, options: NormalisedOptions) -> Needs:
        paths = ("incoming_growth", "incoming_growth_predicted", "incoming_traded", "early_growth_slope")
        moments = ("incoming_radial@onset", "incoming_square@start", "projected_growth@start", "projected_growth_law@start",
                   "growth_norm_ratio@start")
        images = ("roughness_auc@start", "roughness_auc@final") if options.images else ()
        return Needs((*paths, *moments, *images), control_half_step=True)

    def judge(self, evidence: Evidence, options: NormalisedOptions) -> list[Verdict]:
        norm = evidence.main.config["network"]["norm"]
        if not norm or norm["eps"]:
            return self.not_testable(evidence, "the law is that of a normalisation with eps = 0 (network.norm)")
        if not is_plain_descent(evidence.main):
            return self.not_testable(evidence, NO_STEPS)
        slopes = Margin(1 - options.margin, 1 + options.margin)
        exact = self._at_any_step(evidence, "growth of |W|² over Σ η²|∂L/∂W|²", Margin(1 - GROWTH, 1 + GROWTH), growth_ratios,
                                  primary=True)
        radial = self._at_any_step(evidence, "|cosine| of W and ∂L/∂W, onset", Margin(high=ORTHOGONAL), radials)
        early = judge_mean(self, evidence, "slope of log|v(t) - v(0)| on log t", slopes,
                           lambda c: c["early_growth_slope"], slopes.misses)
        traded = report_mean(self, evidence, "share of |W|² that changed hands", lambda c: c["incoming_traded"])
        found = [exact, radial, self._conserved(evidence, slopes), early, traded]
        if norm["kind"] == "bayesian_r_layernorm":
            found.append(self._projected(evidence))
        return [*found, *(self._told(evidence, options) if options.images else [])]

    def panels(self, evidence: Evidence, options: NormalisedOptions) -> list[Panel]:
        norm = evidence.main.config["network"]["norm"]
        if not norm or norm["eps"]:
            return []
        drawn = [Panel("Slope of log|v(t) - v(0)| on log t before the loss drops: median, half and nine tenths of networks.",
                       partial(_draw_slopes, evidence, options.margin), 2)]
        if options.images:
            drawn.append(Panel("How well E tells images with noise from clean ones, by what it is measured on.",
                               partial(_draw_told, evidence, options.least_auc), 3))
        return drawn

    def _at_any_step(
        self, evidence: Evidence, statistic: str, margin: Margin, measure: Measure, primary: bool = False
    ) -> Verdict:
        """The verdict on what is exact at a step of any size; half of it would change nothing but what is recorded."""
        main, control = Measured.of(evidence.main, measure), evidence.control
        return judge_measured(
            self, evidence, statistic, margin, main, Measured.of(control, measure) if control else None, margin.misses, None,
            (evidence.main, *([control] if control else [])), primary, has_step_error=False)

    def _conserved(self, evidence: Evidence, margin: Margin) -> Verdict:
        """What is left of the growth of |W|² as η goes to 0: nothing, at the rate of η."""
        control, halves = evidence.control, evidence.halves
        statistic = "slope of log growth of |W|² on log η"
        if control is None or evidence.half_step is None or control.name not in halves:
            return Verdict(self.name, evidence.main.name, statistic, NOT_TESTABLE, margin=margin,
                           note="it takes the main cell and a control, both at half the step, too")
        return judge_measured(self, evidence, statistic, margin, growth_slopes(evidence.main, evidence.half_step),
                              growth_slopes(control, halves[control.name]), margin.misses, None, (evidence.main, control),
                              has_step_error=False)

    def _projected(self, evidence: Evidence) -> Verdict:
        margin = Margin(high=PROJECTED)
        main = Measured.of(evidence.main, lambda c: projection_errors(c, "projected_growth"))
        control = Measured.of(evidence.main, lambda c: projection_errors(c, "growth_norm_ratio"))
        return judge_measured(self, evidence, "relative error of the projected growth", margin, main, control, margin.misses,
                              None, (evidence.main,), has_step_error=False)

    def _told(self, evidence: Evidence, options: NormalisedOptions) -> list[Verdict]:
        least, chance = Margin(low=options.least_auc), Margin(0.45, 0.55)
        of = {seen: Measured.of(evidence.main, partial(told_by, seen)) for seen in SEEN}
        at_start = Measured.of(evidence.main, partial(told_by, "hidden", state="start"))
        fails = lambda i: i.high < options.least_auc
        judged = partial(judge_measured, self, evidence, cells=(evidence.main,), has_step_error=False)
        return [judged("AUC of E of the input at noise 0.5", least, of["input"], of["permuted"], fails),
                judged("AUC of E of the input, control: E of h", least, of["input"], of["hidden"], fails),
                judged("AUC of E of h at noise 0.5, start", chance, at_start, of["input"], chance.misses),
                judged("AUC of E of h at noise 0.5, end", chance, of["hidden"], of["input"], chance.misses)]


def growth_ratios(cell: CellResults) -> np.ndarray:
    """Growth of |W|² over the one predicted, for each network."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return cell["incoming_growth"] / cell["incoming_growth_predicted"]


def radials(cell: CellResults) -> np.ndarray:
    """Size of the cosine of W and ∂L/∂W at the onset, for each network."""
    return np.abs(cell.at("incoming_radial", "onset"))


def growth_slopes(cell: CellResults, half: CellResults) -> Measured:
    """The slope of the log of the growth of |W|² on log η, for each network that both cells have."""
    seeds = np.intersect1d(cell.seeds, half.seeds)
    sizes = np.array([c.config["training"]["step_size"] for c in (cell, half)])
    growths = [Measured.of(c, lambda c: c["incoming_growth"]).on(seeds) for c in (cell, half)]
    return Measured(cell.name, seeds, log_slopes(sizes, np.stack(growths, axis=1)))


def projection_errors(cell: CellResults, name: str) -> np.ndarray:
    """Relative error of the law of the projected growth at the start, for each network."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(cell.at(name, "start") / cell.at("projected_growth_law", "start") - 1)


def told_by(seen: str, cell: CellResults, state: str = "final") -> np.ndarray:
    """Area under the ROC curve of telling noisy images from clean ones by E of what is seen, for each network."""
    return cell.at("roughness_auc", state)[:, SEEN.index(seen)]


def _draw_slopes(evidence: Evidence, margin: float, axes: Axes) -> None:
    cells = [(evidence.main, MAIN), (evidence.half_step, HALF_STEP), (evidence.control, CONTROL)]
    count = rows(axes, [(c.name, colour, c["early_growth_slope"]) for c, colour in cells if c is not None])
    axes.axvspan(1 - margin, 1 + margin, color="0.6", alpha=0.25, linewidth=0, label=f"the law: 1 ± {margin:g}")
    axes.set_xlabel("slope of log|v(t) − v(0)| on log t")
    legend_above(axes, f"Growth before the loss drops,\n{count}")


def _draw_told(evidence: Evidence, least: float, axes: Axes) -> None:
    labels = {"input": "input", "permuted": "input, pixels in random order", "hidden": "h"}
    count = rows(axes, [(labels[seen], MAIN if seen == "input" else CONTROL, told_by(seen, evidence.main)) for seen in SEEN])
    axes.axvline(least, color="0.5", linestyle="--", label=f"the law: at least {least:g}")
    axes.axvline(0.5, color="0.5", linestyle=":", label="chance")
    axes.set(xlabel="area under the ROC curve, pure number", xlim=(0, 1.02))
    legend_above(axes, f"Noise 0.5 told by E,\n{count}")
