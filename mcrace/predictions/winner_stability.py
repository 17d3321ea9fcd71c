"""winner-stability: whether the same neurons win whatever the training (text R; THEORY.md, winner-stability)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import NOT_TESTABLE, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import Measured, judge_measured, report_measured
from mcrace.predictions.panels import COLOURS, CONTROL, MAIN, Panel, legend_above, rows
from mcrace.results import CellResults
from mcrace.statistics import Margin, mean_interval, top_jaccard

if TYPE_CHECKING:
    from matplotlib.axes import Axes

END = "level=0.1"
TOP = 0.1  # of each sign
LARGE_BATCH = 1 / 4  # of the samples


class StabilityOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.85, gt=0, lt=1, description="least overlap between full batch and large minibatches")
    reference: str = Field("", description="the cell whose winners the others are compared to; the first by default")


@prediction("winner-stability")
class WinnerStability(Prediction):
    """From the same start the same neurons win the race, whether the gradient is that of all samples or of minibatches of a
    quarter of them at least.

    Statistic: per network, the Jaccard index of the neurons with the highest norm products at the end (a tenth of the loss
    left), the top 10 % of each sign, between full batch and minibatches; at least 0.85.  Reported: the same for smaller
    minibatches, schedules, momentum, and other data.  Control: other labels, on which the winners are no nearer to those of
    the reference than the neurons of highest a_0 are.
    """

    options = StabilityOptions
    across = True
    law = "|top(full) ∩ top(batch)| / |top(full) ∪ top(batch)| ≥ 0.85 for batches of N/4 and more"
    meaning = {
        "supported": "The same neurons win whether the gradient is that of all samples or of large "
                     "minibatches: the start decides, not the order of samples.",
        "refuted": "Other neurons win with minibatches than with all samples: who wins hangs on the order of"
                   " samples, too.",
    }

    def needs(self, options: StabilityOptions) -> Needs:
        return Needs((f"norm_product@{END}", "norm_product@start", "output_weight@start"))

    def judge(self, evidence: Evidence, options: StabilityOptions) -> list[Verdict]:
        named = _references(evidence, options)
        if not named or named[0].config["training"]["batch"]:
            wanted = options.reference or evidence.main.name
            return self.not_testable(evidence, f"the reference {wanted!r} has to be a cell that is no control, trained on all "
                                     "samples at once")
        (reference,) = named
        network = reference.config["network"]
        others = [c for c in evidence.cells if c is not reference and c.config["network"] == network]
        if not others:
            return self.not_testable(evidence, "no other cell starts from the same weights (the same table network)")
        if evidence.control and evidence.control.config["network"] != network:
            return self.not_testable(evidence, f"the control {evidence.control.name} does not start from the same weights")
        by_start = overlap(reference, reference, "start")
        verdicts = [self._verdict(evidence, options, reference, cell, by_start) for cell in others]
        judged = [v for v in verdicts if v.control or v.verdict == NOT_TESTABLE]
        first = [replace(judged[0], primary=True)] if judged else []
        return [*first, *(v for v in verdicts if v not in judged[:1]),
                report_measured(self, evidence, "overlap with the highest a_0", by_start)]

    def panels(self, evidence: Evidence, options: StabilityOptions) -> list[Panel]:
        for reference in _references(evidence, options):
            network = reference.config["network"]
            others = [c for c in evidence.cells if c is not reference and c.config["network"] == network]
            draw = partial(_draw_overlaps, evidence, reference, others, options.margin)
            return [Panel(f"How many winners of {reference.name} win in other trainings from the same start: median, half "
                          "and nine tenths of the networks.", draw, len(others) + 2)]
        return []

    def _verdict(
        self, evidence: Evidence, options: StabilityOptions, reference: CellResults, cell: CellResults, by_start: Measured
    ) -> Verdict:
        statistic, found = f"overlap of winners, {cell.name}", overlap(reference, cell)
        if not is_large_batch(reference, cell):
            return report_measured(self, evidence, statistic, found)
        control = overlap(reference, evidence.control) if evidence.control else None
        known = by_start.values[np.isfinite(by_start.values)]
        chance = mean_interval(known, evidence.rng(self.name, "a_0")) if len(known) else None
        half, of_reference = (evidence.halves.get(c.name) for c in (cell, reference))
        cells = [reference, cell, *([evidence.control] if evidence.control else [])]
        return judge_measured(
            self, evidence, statistic, Margin(low=options.margin), found, control,
            lambda i: chance is not None and i.low <= chance.high,
            overlap(of_reference, half) if half and of_reference else None, cells)


def _references(evidence: Evidence, options: StabilityOptions) -> list[CellResults]:
    return [c for c in evidence.cells if c.name == options.reference] if options.reference else list(evidence.cells[:1])


def _draw_overlaps(evidence: Evidence, reference: CellResults, others: list[CellResults], margin: float, axes: Axes) -> None:
    judged = {True: MAIN, False: COLOURS[5]}
    found = [(c.name, judged[is_large_batch(reference, c)], overlap(reference, c).values) for c in others]
    if evidence.control:
        found.append((evidence.control.name, CONTROL, overlap(reference, evidence.control).values))
    found.append(("highest a₀", CONTROL, overlap(reference, reference, "start").values))
    count = rows(axes, found)
    for colour, label in ((MAIN, "judged: large minibatches"), (COLOURS[5], "reported"), (CONTROL, "control")):
        axes.plot([], [], color=colour, label=label)
    axes.axvline(margin, color="0.5", linestyle="--", label=f"the law: at least {margin:g}")
    axes.set(xlabel="winners in common / of either,\npure number", xlim=(0, 1.02))
    legend_above(axes, f"Winners shared with {reference.name},\n{count}", columns=1)


def is_large_batch(reference: CellResults, cell: CellResults) -> bool:
    """Whether a cell differs from the reference in its minibatches alone, of a quarter of the samples at least."""
    tables = [{**c.config["training"], "batch": None, "steps": 0} for c in (reference, cell)]
    batch, samples = cell.config["training"]["batch"], cell.config["task"]["samples"]
    same = tables[0] == tables[1] and cell.config["task"] == reference.config["task"]
    return bool(same and batch and batch >= LARGE_BATCH * samples)


def overlap(reference: CellResults, cell: CellResults, state: str = END) -> Measured:
    """Jaccard index of the winners of the reference and those of a cell, or those at another state, by network."""
    seeds = np.intersect1d(reference.seeds, cell.seeds)
    rows, others = (np.searchsorted(c.seeds, seeds) for c in (reference, cell))
    signs = (reference.at("output_weight", "start")[rows] > 0).astype(np.int64)
    one, other = reference.at("norm_product", END)[rows], cell.at("norm_product", state)[others]
    return Measured(cell.name, seeds, top_jaccard(one, other, signs, TOP))
