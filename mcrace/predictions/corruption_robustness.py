"""corruption-robustness: whether Bayesian R-LayerNorm makes networks robust to corrupted data (text G; THEORY.md,
corruption-robustness)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import Measured, judge_measured, report_measured
from mcrace.predictions.panels import COLOURS, CONTROL, INK, MAIN, Panel, legend_above
from mcrace.results import CellResults
from mcrace.statistics import Margin, differences, holm, mean_interval
from mcrace.tasks.corruption import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

END = "final"
BAYESIAN, REFERENCE = "bayesian_r_layernorm", "layernorm"
PUBLISHED = 0.5  # points of accuracy that Bayesian R-LayerNorm is said to gain
POINTS = 100.0  # in a whole
REPORTED = {"test_accuracy": "accuracy", "test_nll": "NLL", "test_ece": "ECE", "test_error_auc": "AUC of errors"}
UNDER = {name: name.replace("test", "corrupted") for name in REPORTED}


class RobustnessOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.25, gt=0, lt=100, description="largest difference of accuracy that counts as none, in points")
    train: str = Field("", description="the cell that is compared; by default the first of Bayesian R-LayerNorm, own E")
    reference: str = Field("", description="the cell it is compared to; by default the first of LayerNorm")


@prediction("corruption-robustness")
class CorruptionRobustness(Prediction):
    """Where β = 0 and the output has no bias, another normaliser at test multiplies f by a positive number: no label can
    change, so that whatever Bayesian R-LayerNorm gains over LayerNorm on corrupted images comes from training.  Put to the
    test is that this is nothing,

        mean accuracy over 4 corruptions × 5 severities, Bayesian R-LayerNorm - LayerNorm = 0 ± 0.25 points,

    in networks with the same starts, images and steps; half a point was published.

    Statistic: per network, the difference of its accuracies, mean over the 20 conditions, and in each (whose p-values are
    Holm's over the 20).  The same for the other normalisations, fixed and learnt λ, and for what E adds: against E frozen at
    its mean over the training samples, and E of another sample.  Control: networks without normalisation, or trained on
    corrupted images, whose difference has to lie beyond the margin.  Reported: NLL, calibration (ECE), and how well errors
    are told by low probability (area under the ROC curve, AUC), clean and corrupted.
    """

    options = RobustnessOptions
    across = True
    meaning = {
        "supported": "Bayesian R-LayerNorm changes the accuracy on corrupted images by no more than the margin; the control "
                     "differs by more, so that the test would have seen it.",
        "refuted": "Bayesian R-LayerNorm changes the accuracy on corrupted images by more than the margin; whether by its E, "
                   "the rows with E frozen and E of another sample say.",
        "not discriminating": "No difference by the normalisation, but none in the control either.",
    }

    def needs(self, options: RobustnessOptions) -> Needs:
        return Needs(tuple(f"{name}@{END}" for pair in UNDER.items() for name in pair), half_step=False)

    def judge(self, evidence: Evidence, options: RobustnessOptions) -> list[Verdict]:
        found = _compared(evidence, options)
        if found is None:
            return self.not_testable(evidence, f"a cell of {BAYESIAN} and one of {REFERENCE} are needed, neither of them the "
                                     "control; name them by train and reference")
        cell, reference = found
        judge = partial(self._difference, evidence, options, reference=reference)
        others = [c for c in evidence.cells if c not in found]
        own = [c for c in others if _table(c)["roughness"] == "own"]
        ablated = [c for c in others if _table(c)["roughness"] != "own"]
        primary = judge(cell, primary=True)
        rows = [replace(primary, note="; ".join(filter(None, [primary.note, _of_published(primary)])))]
        rows += [judge(c) for c in own]
        rows += [self._difference(evidence, options, cell, c) for c in ablated]
        return [*rows, *self._by_condition(evidence, options, cell, reference), *self._reported(evidence, cell, reference)]

    def panels(self, evidence: Evidence, options: RobustnessOptions) -> list[Panel]:
        found = _compared(evidence, options)
        if found is None:
            return []
        cell, reference = found
        others = [*(c for c in evidence.cells if c is not reference), *([evidence.control] if evidence.control else [])]
        return [Panel("Gain of accuracy over the 20 conditions: the mean over networks and its 95 % interval, cell by cell.",
                      partial(_draw_gains, evidence, reference, others, options.margin), len(others)),
                Panel("Gain of accuracy under each corruption, by severity: mean over networks and its 95 % interval.",
                      partial(_draw_conditions, evidence, cell, reference, options.margin))]

    def _difference(self, evidence: Evidence, options: RobustnessOptions, cell: CellResults, reference: CellResults,
                    primary: bool = False) -> Verdict:
        """The verdict on the mean difference over all conditions of a cell to another."""
        control = evidence.control
        cells = [cell, reference, *([control] if control else [])]
        return judge_measured(
            self, evidence, f"gain of accuracy, {cell.name} - {reference.name} [points]", _margin(options),
            gain(cell, reference), gain(control, reference) if control else None, _margin(options).misses, None, cells,
            primary, has_step_error=False)

    def _by_condition(self, evidence: Evidence, options: RobustnessOptions, cell: CellResults,
                      reference: CellResults) -> list[Verdict]:
        control, margin = evidence.control, _margin(options)
        rows, chances = [], []
        for k, kind in enumerate(KINDS):
            for s in range(5):
                measure = lambda c, k=k, s=s: accuracies(c)[:, k, s]
                one = gain(cell, reference, measure)
                rows.append(judge_measured(
                    self, evidence, f"gain under {kind} {s + 1} [points]", margin, one,
                    gain(control, reference, measure) if control else None, margin.misses, None, (cell, reference),
                    has_step_error=False))
                chances.append(_chance(one.values))
        adjusted, differs = holm(np.array([r.p for r in rows])), holm(np.array(chances))
        return [replace(r, p=float(p), note="; ".join(filter(None, [r.note, "differs from 0" if d <= 0.05 else ""])))
                for r, p, d in zip(rows, adjusted, differs)]

    def _reported(self, evidence: Evidence, cell: CellResults, reference: CellResults) -> list[Verdict]:
        """NLL, ECE and error detection: differences, with the two means in the note."""
        rows = []
        for clean, under in UNDER.items():
            for label, measure in (("clean", partial(_at, clean)), ("corrupted", partial(_mean_under, under))):
                of = [Measured.of(c, measure) for c in (cell, reference)]
                means = [np.nanmean(m.values) if np.isfinite(m.values).any() else np.nan for m in of]
                rows.append(report_measured(self, evidence, f"{REPORTED[clean]}, {label}, difference", _between(*of),
                                            note=f"{means[0]:.4g} on {cell.name}, {means[1]:.4g} on {reference.name}"))
        return rows


def _margin(options: RobustnessOptions) -> Margin:
    return Margin(-options.margin, options.margin)


def _table(cell: CellResults) -> dict:
    """network.norm of a cell; what a plain network has in its place."""
    return cell.config["network"]["norm"] or {"kind": "", "roughness": "own"}


def _compared(evidence: Evidence, options: RobustnessOptions) -> tuple[CellResults, CellResults] | None:
    """The cell that is compared, and the one it is compared to."""
    chosen = []
    for name, kind in ((options.train, BAYESIAN), (options.reference, REFERENCE)):
        fit = (c for c in evidence.cells if (c.name == name if name else
                                             _table(c)["kind"] == kind and _table(c)["roughness"] == "own"))
        chosen.append(next(fit, None))
    cell, reference = chosen
    return None if cell is None or reference is None else (cell, reference)


def accuracies(cell: CellResults) -> np.ndarray:
    """Accuracy at the end of training, in points [network, corruption, severity]."""
    return POINTS * cell.at("corrupted_accuracy", END)


def mean_accuracies(cell: CellResults) -> np.ndarray:
    """The same, mean over all conditions [network]."""
    return accuracies(cell).mean(axis=(1, 2))


def _at(name: str, cell: CellResults) -> np.ndarray:
    return cell.at(name, END)


def _mean_under(name: str, cell: CellResults) -> np.ndarray:
    """Mean over the conditions that have a number [network]."""
    values = cell.at(name, END).reshape(len(cell.seeds), -1)
    count = np.isfinite(values).sum(axis=1)
    return np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)


def gain(cell: CellResults, reference: CellResults, measure: Callable[[CellResults], np.ndarray] = mean_accuracies) -> Measured:
    """By how much a cell exceeds another, for each network that both have."""
    return _between(Measured.of(cell, measure), Measured.of(reference, measure))


def _between(one: Measured, other: Measured) -> Measured:
    seeds = np.intersect1d(one.seeds, other.seeds)
    return Measured(one.cell, seeds, one.on(seeds) - other.on(seeds))


def _chance(values: np.ndarray) -> float:
    """Two-sided p-value, by Wilcoxon's signed ranks, that differences lie symmetrically round 0."""
    by = differences(values, np.zeros(len(values)))
    return float(scipy.stats.wilcoxon(by).pvalue) if by.any() else 1.0


def _of_published(found: Verdict) -> str:
    """Where the published gain lies."""
    if np.isnan(found.low):
        return ""
    where = "inside" if found.low <= PUBLISHED <= found.high else "outside"
    return f"the published gain of {PUBLISHED:g} points lies {where} the interval"


def _draw_gains(evidence: Evidence, reference: CellResults, cells: list[CellResults], margin: float, axes: Axes) -> None:
    counts = []
    for place, cell in enumerate(cells):
        values = gain(cell, reference).values
        values = values[np.isfinite(values)]
        counts.append(len(values))
        if len(values) > 1:
            found = mean_interval(values, evidence.rng("corruption-robustness", cell.name))
            colour = CONTROL if cell is evidence.control else MAIN
            axes.plot([found.low, found.high], [place, place], color=colour, linewidth=4, solid_capstyle="butt")
            axes.plot(found.estimate, place, "o", color=colour, markeredgecolor="white")
    axes.axvspan(-margin, margin, color="0.6", alpha=0.25, linewidth=0, label=f"margin ± {margin:g}")
    axes.axvline(PUBLISHED, color=INK, linestyle="--", label="published")
    axes.set_yticks(range(len(cells)), [c.name for c in cells])
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.set_xlabel(f"accuracy less that of {reference.name}, points")
    legend_above(axes, f"20 conditions, n = {min(counts):,} networks a row")


def _draw_conditions(evidence: Evidence, cell: CellResults, reference: CellResults, margin: float, axes: Axes) -> None:
    values = gain(cell, reference, accuracies).values
    for k, kind in enumerate(KINDS):
        found = [mean_interval(values[np.isfinite(values[:, k, s]), k, s], evidence.rng(kind, str(s))) for s in range(5)]
        x = np.arange(1, 6) + 0.08 * (k - 1.5)
        middle = np.array([i.estimate for i in found])
        reach = np.abs(np.array([[i.low for i in found], [i.high for i in found]]) - middle)
        axes.errorbar(x, middle, reach, color=COLOURS[k], marker="o", markersize=3, linewidth=1, label=kind)
    axes.axhspan(-margin, margin, color="0.6", alpha=0.25, linewidth=0)
    axes.set(xlabel="severity", ylabel=f"{cell.name}\n- {reference.name}, points", xticks=range(1, 6))
    legend_above(axes, f"Gain of accuracy, n = {len(values):,} networks", columns=4)
