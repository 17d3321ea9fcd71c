"""Forms of judgement beside that of a mean with its control (`judge_mean`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mcrace.predictions.base import (
    INCONCLUSIVE,
    LEAST_NETWORKS,
    NO_CONTROL,
    NOT_DISCRIMINATING,
    NOT_TESTABLE,
    REFUTED,
    SUPPORTED,
    Control,
    Evidence,
    Measured,
    Prediction,
    Verdict,
    doubts_of,
    half_step_change,
)
from mcrace.results import CellResults
from mcrace.statistics import Interval, Margin, equivalence_p, mean_interval, ratio_interval, ratio_p

REPORTED = "reported"
WORST_FIRST = (NOT_TESTABLE, REFUTED, INCONCLUSIVE, NOT_DISCRIMINATING, SUPPORTED)
Measure = Callable[[CellResults], np.ndarray]


def judge_contrast(
    prediction: Prediction, evidence: Evidence, statistic: str, margin: Margin, measure: Measure, ratio: bool = False,
    primary: bool = False,
) -> Verdict:
    """Judge the main cell against its control: the mean of control - main over networks, or the ratio of means main/control.

    The control is part of the statistic; in its own place it gives 0, or 1, and fails where that lies outside the margin.
    Networks are paired by seed, as in `judge_mean`.

    Parameters
    ----------
    measure : callable
        From a cell to one number for each of its seeds; NaN for a network without one.
    """
    control = evidence.control
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE, primary, margin=margin)
    if control is None:
        return replace(blank, note=NO_CONTROL)
    main, other = (Measured(cell.name, cell.seeds, measure(cell)) for cell in (evidence.main, control))
    both = np.intersect1d(main.seeds, other.seeds)
    whole = both[np.isfinite(main.on(both)) & np.isfinite(other.on(both))]
    dropped = len(both) - len(whole)
    blank = replace(blank, networks=len(whole), dropped=dropped)
    if len(whole) < LEAST_NETWORKS:
        return replace(blank, note=f"{len(whole)} networks give both numbers; {LEAST_NETWORKS} are needed")
    ours, theirs = main.on(whole), other.on(whole)
    rng = evidence.rng(prediction.name, statistic)
    found = ratio_interval(ours, theirs, rng) if ratio else mean_interval(theirs - ours, rng)
    p = ratio_p(ours, theirs, margin) if ratio else equivalence_p(theirs - ours, margin)
    beside = mean_interval(theirs, evidence.rng(prediction.name, statistic, "control"))
    change = half_step_change(evidence, main, measure) / (abs(beside.estimate) if ratio else 1)
    doubts = doubts_of(evidence, control, dropped / len(both), change, margin)
    itself = Interval(*[float(ratio)] * 3)
    decided = SUPPORTED if margin.contains(found) else REFUTED if margin.misses(found) else INCONCLUSIVE
    return replace(
        blank, verdict=INCONCLUSIVE if doubts else decided, estimate=found.estimate, low=found.low, high=found.high, p=p,
        half_step_change=change, note="; ".join(doubts),
        control=Control(control.name, beside.estimate, beside.low, beside.high, margin.misses(itself)))


def report_mean(prediction: Prediction, evidence: Evidence, statistic: str, measure: Measure) -> Verdict:
    """The mean over networks with its interval, and that of the control in words: a number without a margin."""
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE)
    values = measure(evidence.main)
    known = np.isfinite(values)
    blank = replace(blank, networks=int(known.sum()), dropped=int((~known).sum()))
    if known.sum() < LEAST_NETWORKS:
        return replace(blank, note=f"{known.sum()} networks give a number; {LEAST_NETWORKS} are needed")
    found = mean_interval(values[known], evidence.rng(prediction.name, statistic))
    note = ""
    if evidence.control is not None:
        beside = measure(evidence.control)
        note = f"{np.nanmean(beside):.3g} on {evidence.control.name}" if np.isfinite(beside).any() else ""
    return replace(blank, verdict=REPORTED, estimate=found.estimate, low=found.low, high=found.high, note=note)


def together(first: Verdict, others: dict[str, Verdict]) -> Verdict:
    """A verdict that asks for others, too: it is the worst of them, and its p-value the largest.

    Parameters
    ----------
    others : dict
        By what they are called in the note.
    """
    worst = min((first, *others.values()), key=lambda v: WORST_FIRST.index(v.verdict)).verdict
    notes = [first.note] if first.note else []
    if worst != first.verdict:
        notes += [f"decided by {name}" for name, v in others.items() if v.verdict == worst]
    p = float(np.max([first.p, *(v.p for v in others.values())]))
    return replace(first, verdict=worst, p=p, note="; ".join(notes))
