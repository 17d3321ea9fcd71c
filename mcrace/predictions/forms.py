"""Forms of judgement: from one number a network, and its control, to a verdict (THEORY.md, How a verdict is reached)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcrace.predictions.base import (
    INCONCLUSIVE,
    NOT_DISCRIMINATING,
    NOT_TESTABLE,
    REFUTED,
    REPORTED,
    SUPPORTED,
    WORST_FIRST,
    Control,
    Evidence,
    Prediction,
    Verdict,
)
from mcrace.recording import Status
from mcrace.results import CellResults
from mcrace.statistics import (
    Interval,
    Margin,
    binomial_band,
    equivalence_p,
    mean_interval,
    ratio_interval,
    ratio_p,
    share_interval,
)

LEAST_NETWORKS = 30
MOST_DROPPED, MOST_DIVERGED = 0.10, 0.05
NO_CONTROL = 'there is no control cell; name one with control = "CELL", and run it'
Measure = Callable[[CellResults], np.ndarray]


@dataclass(frozen=True)
class Measured:
    """One number a network, by seed; NaN for a network that did not give one."""

    cell: str
    seeds: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, cell: CellResults, measure: Measure) -> Measured:
        """What a measure gives in a cell."""
        return cls(cell.name, cell.seeds, measure(cell))

    def on(self, seeds: np.ndarray) -> np.ndarray:
        """The values of some seeds, all of which are there."""
        return self.values[np.searchsorted(self.seeds, seeds)]


def judge_mean(
    prediction: Prediction,
    evidence: Evidence,
    statistic: str,
    margin: Margin,
    measure: Measure,
    control_fails: Callable[[Interval], bool],
    measure_control: Measure | None = None,
    control: CellResults | None = None,
    primary: bool = False,
    among: np.ndarray | None = None,
) -> Verdict:
    """Judge the mean over networks of one number a network against a margin, beside a control.

    Networks are paired by seed: one that misses the state in either arm is dropped from both, and counted.

    Parameters
    ----------
    measure : callable
        From a cell to one number for each of its seeds; NaN for a network without one.
    control_fails : callable
        Whether the control's interval counts as a failure of the test, as it should.
    measure_control : callable, optional
        What to measure in the control, where it is not the same.
    control : CellResults, optional
        The control, where it is not that of the evidence.
    among : int array, optional
        The seeds of the networks that the statistic is about, where it is not about all.
    """
    control, half = control or evidence.control, evidence.half_step
    main = Measured.of(evidence.main, measure)
    if among is not None:
        main = replace(main, seeds=among, values=main.on(among))
    return judge_measured(
        prediction, evidence, statistic, margin, main, _measured(control, measure_control or measure),
        control_fails, _measured(half, measure), (evidence.main, control) if control else (), primary)


def judge_measured(
    prediction: Prediction,
    evidence: Evidence,
    statistic: str,
    margin: Margin,
    main: Measured,
    control: Measured | None,
    control_fails: Callable[[Interval], bool],
    half: Measured | None = None,
    cells: Sequence[CellResults] = (),
    primary: bool = False,
    has_step_error: bool = True,
) -> Verdict:
    """`judge_mean` of numbers that are measured already: from several cells, say.

    Parameters
    ----------
    half : Measured, optional
        The same as `main` at half the step.
    cells : sequence of CellResults
        All that the numbers came from.
    has_step_error : bool
        False for a statistic that is no approximation of the flow's, and so needs no cell at half the step.
    """
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE, primary, margin=margin)
    if control is None:
        return replace(blank, note=NO_CONTROL)
    whole, lost = _in_both(main, control)
    blank = replace(blank, networks=len(whole), dropped=lost, values=_arms(main.on(whole), control.on(whole), half))
    if len(whole) < LEAST_NETWORKS:
        return replace(blank, note=f"{len(whole)} networks give both numbers; {LEAST_NETWORKS} are needed")
    found = mean_interval(main.on(whole), evidence.rng(prediction.name, statistic))
    beside = mean_interval(control.on(whole), evidence.rng(prediction.name, statistic, "control"))
    failed = control_fails(beside)
    change = _half_step_change(main, half)
    needs_half = evidence.needs_half_step and has_step_error
    doubts = _doubts(cells, needs_half, lost / (len(whole) + lost), change, margin)
    verdict = INCONCLUSIVE if doubts else _decide(found, margin, beside, failed)
    if not failed:
        doubts.append("the control did not fail")
    return replace(
        blank, verdict=verdict, estimate=found.estimate, low=found.low, high=found.high,
        p=equivalence_p(main.on(whole), margin), half_step_change=change, note="; ".join(doubts),
        control=Control(control.cell, beside.estimate, beside.low, beside.high, failed))


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
    control, half = evidence.control, evidence.half_step
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE, primary, margin=margin)
    if control is None:
        return replace(blank, note=NO_CONTROL)
    main, other = (Measured.of(cell, measure) for cell in (evidence.main, control))
    whole, lost = _in_both(main, other)
    ours, theirs = main.on(whole), other.on(whole)
    step = _measured(half, measure)
    blank = replace(blank, networks=len(whole), dropped=lost, values=_arms(ours, theirs, step))
    if len(whole) < LEAST_NETWORKS:
        return replace(blank, note=f"{len(whole)} networks give both numbers; {LEAST_NETWORKS} are needed")
    rng = evidence.rng(prediction.name, statistic)
    found = ratio_interval(ours, theirs, rng) if ratio else mean_interval(theirs - ours, rng)
    p = ratio_p(ours, theirs, margin) if ratio else equivalence_p(theirs - ours, margin)
    beside = mean_interval(theirs, evidence.rng(prediction.name, statistic, "control"))
    change = _half_step_change(main, step) / (abs(beside.estimate) if ratio else 1)
    doubts = _doubts((evidence.main, control), evidence.needs_half_step, lost / (len(whole) + lost), change, margin)
    itself = Interval(*[float(ratio)] * 3)
    decided = SUPPORTED if margin.contains(found) else REFUTED if margin.misses(found) else INCONCLUSIVE
    return replace(
        blank, verdict=INCONCLUSIVE if doubts else decided, estimate=found.estimate, low=found.low, high=found.high, p=p,
        half_step_change=change, note="; ".join(doubts),
        control=Control(control.name, beside.estimate, beside.low, beside.high, margin.misses(itself)))


def judge_band(
    prediction: Prediction,
    evidence: Evidence,
    statistic: str,
    main: Measured,
    control: Measured | None,
    cells: Sequence[CellResults] = (),
    primary: bool = False,
) -> Verdict:
    """Judge whether p-values, one a network, are those of a true hypothesis: whether the share below 0.05 lies inside the
    95 % binomial band round 0.05.

    Supported inside, where the control's share lies outside its own band, and refuted outside, which a true hypothesis is in
    at most 5 % of studies.  The estimate comes with its Wilson interval, which holds 0.05 about where the band holds the
    share.  There is no p-value of the verdict: no sample shows a share to be exactly 0.05.

    Parameters
    ----------
    main, control : Measured
        p-values; NaN for a network without one.
    """
    p = main.values[np.isfinite(main.values)]
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE, primary, networks=len(p),
                    dropped=len(main.values) - len(p))
    beside = control.values[np.isfinite(control.values)] if control else np.empty(0)
    if control is None:
        return replace(blank, note=NO_CONTROL)
    if min(len(p), len(beside)) < LEAST_NETWORKS:
        return replace(blank, note=f"{min(len(p), len(beside))} networks give a p-value; {LEAST_NETWORKS} are needed")
    band, shown, of_control = binomial_band(len(p)), share_interval(p < 0.05), share_interval(beside < 0.05)
    failed = not _holds(binomial_band(len(beside)), of_control.estimate)
    doubts = _doubts(cells, False, blank.dropped / len(main.values), math.nan, band)
    decided = REFUTED if not _holds(band, shown.estimate) else SUPPORTED if failed else NOT_DISCRIMINATING
    decided = INCONCLUSIVE if doubts else decided
    if not failed:
        doubts.append("the control did not fail")
    return replace(
        blank, verdict=decided, estimate=shown.estimate, low=shown.low, high=shown.high, margin=band, note="; ".join(doubts),
        control=Control(control.cell, of_control.estimate, of_control.low, of_control.high, failed))


def _holds(margin: Margin, share: float) -> bool:
    return margin.low <= share <= margin.high


def report_mean(prediction: Prediction, evidence: Evidence, statistic: str, measure: Measure) -> Verdict:
    """The mean over networks of one number a network with its interval, where no law says what it should be.

    The mean in the control goes into the note.
    """
    main, control = Measured.of(evidence.main, measure), _measured(evidence.control, measure)
    return report_measured(prediction, evidence, statistic, main, control)


def report_measured(
    prediction: Prediction, evidence: Evidence, statistic: str, main: Measured, control: Measured | None = None, note: str = ""
) -> Verdict:
    """`report_mean` of numbers that are measured already."""
    values = main.values[np.isfinite(main.values)]
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE, networks=len(values),
                    dropped=len(main.values) - len(values), note=note, values={"main": values})
    if len(values) < LEAST_NETWORKS:
        return replace(blank, note=f"{len(values)} networks give a number; {LEAST_NETWORKS} are needed")
    if control is not None and np.isfinite(control.values).any():
        blank.values["control"] = control.values[np.isfinite(control.values)]
        beside = f"{np.mean(blank.values['control']):.3g} on {control.cell}"
        blank = replace(blank, note="; ".join(filter(None, [note, beside])))
    found = mean_interval(values, evidence.rng(prediction.name, statistic))
    return replace(blank, verdict=REPORTED, estimate=found.estimate, low=found.low, high=found.high)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The first of several verdicts that all have to hold, decided by the worst of them; p is the largest."""
    first, last = verdicts[0], min(verdicts, key=lambda v: WORST_FIRST.index(v.verdict))
    note = first.note
    if last.verdict != first.verdict:
        note = "; ".join(n for n in (note, f"decided by: {last.statistic}") if n)
    return replace(first, verdict=last.verdict, p=float(np.max([v.p for v in verdicts])), note=note)


def _measured(cell: CellResults | None, measure: Measure) -> Measured | None:
    return None if cell is None else Measured.of(cell, measure)


def _in_both(main: Measured, control: Measured) -> tuple[np.ndarray, int]:
    """The seeds that have a number in both arms, and how many more the arms have in common."""
    both = np.intersect1d(main.seeds, control.seeds)
    whole = both[np.isfinite(main.on(both)) & np.isfinite(control.on(both))]
    return whole, len(both) - len(whole)


def _arms(main: np.ndarray, control: np.ndarray, half: Measured | None) -> dict[str, np.ndarray]:
    arms = {"main": main, "control": control}
    return arms if half is None else {**arms, "half-step": half.values}


def _decide(found: Interval, margin: Margin, control: Interval, control_failed: bool) -> str:
    if margin.misses(found):
        return REFUTED
    if margin.contains(found) and control_failed:
        return SUPPORTED
    if margin.contains(found) and margin.contains(control):
        return NOT_DISCRIMINATING
    return INCONCLUSIVE


def _half_step_change(main: Measured, half: Measured | None) -> float:
    """|s(η/2) - s(η)| over the seeds that both cells have; NaN where there is no cell at half the step."""
    if half is None:
        return math.nan
    both = np.intersect1d(main.seeds, half.seeds)
    change = half.on(both) - main.on(both)
    return float(abs(np.nanmean(change))) if np.isfinite(change).any() else math.nan


def _doubts(cells: Sequence[CellResults], needs_half: bool, dropped: float, change: float, margin: Margin) -> list[str]:
    """The reasons for which no verdict can be reached."""
    doubts = []
    if dropped > MOST_DROPPED:
        doubts.append(f"{dropped:.0%} of the networks missed the state")
    for cell in {cell.name: cell for cell in cells}.values():
        share = float(np.mean(cell["status"] == Status.DIVERGED))
        if share > MOST_DIVERGED:
            doubts.append(f"{share:.0%} of the networks of {cell.name} diverged")
    if needs_half and math.isnan(change):
        doubts.append("no networks at half the step tell how much it changes")
    if change >= margin.scale / 4:
        doubts.append(f"half the step changes it by {change:.2g}, more than a quarter of the margin")
    return doubts


def has_constant_step(cell: CellResults) -> bool:
    """Whether all steps of a cell are of one size."""
    schedule = cell.config["training"]["schedule"]
    return schedule["kind"] == "constant" and schedule["warm_up"] == 0


def is_plain_descent(cell: CellResults) -> bool:
    """Whether a cell is trained by full-batch descent at one step size, without momentum and weight decay."""
    training = cell.config["training"]
    return has_constant_step(cell) and training["method"] == "gd" and not (training["weight_decay"] or training["batch"])


def median_of(values: np.ndarray) -> np.ndarray:
    """The median over neurons that have a number, for each network; NaN for one without any."""
    some = np.isfinite(values)
    out, any_of = np.full(len(values), np.nan), some.any(axis=1)
    out[any_of] = np.nanmedian(np.where(some, values, np.nan)[any_of], axis=1)
    return out
