"""balancedness: |w|² - v² is conserved by the flow, and drifts under descent as its step (THEORY.md, balancedness)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pydantic import Field

from mcrace.predictions.base import NOT_TESTABLE, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import Measured, has_constant_step, judge_mean, judge_measured, median_of
from mcrace.results import CellResults
from mcrace.statistics import Margin, log_slopes

EARLY = "onset"  # late in training neurons slide along w·x = 0, where any integrator drifts as its step
LIMIT_OF_DRIFT = "drift at η → 0 over |w_0|²"
LIMIT = 1e-2  # of the median |w_0|²


class BalancednessOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.05, gt=0, lt=1, description="half width of the margins of slope and coefficient round 1")
    further_controls: tuple[str, ...] = Field((), description="more cells that do not conserve it in any limit of small steps")

    @property
    def controls(self) -> tuple[str, ...]:
        return (*super().controls, *self.further_controls)


@prediction("balancedness")
class Balancedness(Prediction):
    """|w|² - v² is conserved by the flow.  A step of descent of size η adds exactly η²(v²|D|² - (w·D)²) to it, so that up
    to a given time it drifts in proportion to η; by weight decay λ it is multiplied by e^{-2λt}.

    Statistics, from the start to the onset: per network, the slope of the log of the median |drift| on log η, from a step
    and its half (1 ± 0.05); the median over neurons of the drift over Σ η²(v²|D|² - (w·D)²) (1 ± 0.05); the median over
    neurons of the |drift| extrapolated to η → 0, over the median |w_0|² (at most 1e-2). Controls: heavy ball at fixed
    friction, sign descent, and a smooth activation, which do not conserve it in any limit. (Where gates change before the
    onset, norms have grown far above |w_0| by then; what is extrapolated is below the margin only for small steps, and
    falls as η².) In cells with weight decay and an unbalanced start also what is left of the start over e^{-2λt} (1 ±
    0.05), with a control that knows of no decay.
    """

    options = BalancednessOptions
    law = ("|w|² - v² = const under the flow\n"
           "|w|² - v² grows by η²(v²|D|² - (w·D)²) at a step")
    meaning = {
        "supported": "What |w|² - v² drifts by is what the finite step adds and no more, so that the flow "
                     "conserves it; in the control it does not stay.",
        "refuted": "|w|² - v² drifts in another way than the finite step explains: it is not conserved here,"
                   " or the step is too large.",
    }

    def needs(self, options: BalancednessOptions) -> Needs:
        return Needs(("balancedness@start", f"balancedness@{EARLY}", "input_norm@start", "balance_drift",
                      "balance_drift_predicted"), control_half_step=True)

    def judge(self, evidence: Evidence, options: BalancednessOptions) -> list[Verdict]:
        if not has_constant_step(evidence.main):
            return self.not_testable(evidence, "drifts are compared at one step size (schedule.kind = constant, no warm-up)")
        margin = Margin(1 - options.margin, 1 + options.margin)
        slope = self._of_pairs(evidence, "slope of log drift on log η", margin, drift_slopes, primary=True)
        coefficient = judge_mean(self, evidence, "drift over predicted drift", margin, drift_ratios, margin.misses)
        more = [cell for name, cell in evidence.controls.items() if name != options.control]
        limits = [self._of_pairs(evidence, LIMIT_OF_DRIFT, Margin(high=LIMIT), limit_drifts)]
        limits += [self._of_pairs(replace(evidence, control=cell), f"{LIMIT_OF_DRIFT}, beside {cell.name}",
                                  Margin(high=LIMIT), limit_drifts) for cell in more]
        if not evidence.main.config["training"]["weight_decay"] or _starts_balanced(evidence.main):
            return [slope, coefficient, *limits]
        decay = judge_mean(self, evidence, "what is left over e^{-2λt}", margin, shares_left, margin.misses,
                           lambda cell: shares_left(cell, decays=False), control=evidence.main)
        return [slope, coefficient, *limits, decay]

    def _of_pairs(self, evidence: Evidence, statistic: str, margin: Margin,
                  of_pair: Callable[[CellResults, CellResults], Measured], primary: bool = False) -> Verdict:
        """The verdict on what a cell and the one at half its step give together."""
        control, halves = evidence.control, evidence.halves
        blank = Verdict(self.name, evidence.main.name, statistic, NOT_TESTABLE, primary, margin=margin)
        if control is None:
            return replace(blank, note='there is no control cell; name one of heavy balls with control = "CELL"')
        if evidence.half_step is None or control.name not in halves:
            return replace(blank, note="it takes the main cell and the control at half the step, too")
        return judge_measured(self, evidence, statistic, margin, of_pair(evidence.main, evidence.half_step),
                              of_pair(control, halves[control.name]), margin.misses, None, (evidence.main, control), primary,
                              has_step_error=False)


def _starts_balanced(cell: CellResults) -> bool:
    init = cell.config["network"]["init"]
    return init["balanced"] and init["ratio"] == 1


def drifts(cell: CellResults) -> np.ndarray:
    """Drift of |w|² - v² from the start, less what weight decay takes, to the onset [network, neuron]."""
    return cell.at("balancedness", EARLY) - _kept(cell) * cell.at("balancedness", "start")


def _kept(cell: CellResults) -> np.ndarray:
    """(1 - ηλ)^{2k}, what k steps with weight decay leave, up to the onset [network, 1]."""
    training, steps = cell.config["training"], cell.state_step(EARLY)
    return np.where(steps < 0, np.nan, (1 - training["step_size"] * training["weight_decay"]) ** (2.0 * steps))[:, None]


def drift_slopes(cell: CellResults, half: CellResults) -> Measured:
    """The slope of the log of the median |drift| on log η, for each network that both cells have."""
    seeds = np.intersect1d(cell.seeds, half.seeds)
    sizes = np.array([c.config["training"]["step_size"] for c in (cell, half)])
    medians = [Measured.of(c, lambda c: median_of(abs(drifts(c)))).on(seeds) for c in (cell, half)]
    return Measured(cell.name, seeds, log_slopes(sizes, np.stack(medians, axis=1)))


def limit_drifts(cell: CellResults, half: CellResults) -> Measured:
    """The drift at η → 0, median over neurons, over the median |w_0|², for each network that both cells have.

    On a line through both cells: descent errs as its step η, and a heavy ball as its step sqrt(η), of which a quarter of η
    is half.
    """
    seeds = np.intersect1d(cell.seeds, half.seeds)
    whole, part = (Measured.of(c, drifts).on(seeds) for c in (cell, half))
    square = Measured.of(cell, lambda c: np.median(c.at("input_norm", "start") ** 2, axis=1)).on(seeds)
    return Measured(cell.name, seeds, median_of(abs(2 * part - whole)) / square)


def drift_ratios(cell: CellResults) -> np.ndarray:
    """Drift over what it is predicted to be, median over neurons, for each network."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return median_of(cell["balance_drift"] / cell["balance_drift_predicted"])


def shares_left(cell: CellResults, decays: bool = True) -> np.ndarray:
    """|w|² - v² at the onset over e^{-2λt} of what it was at the start, median over neurons, for each network."""
    training = cell.config["training"]
    time = training["step_size"] * cell.state_step(EARLY)[:, None]
    law = np.exp(-2 * training["weight_decay"] * time) if decays else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return median_of(cell.at("balancedness", EARLY) / (law * cell.at("balancedness", "start")))
