"""Forms of judgement: from one number a network, and its control, to a verdict (THEORY.md, How a verdict is reached)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from mcrace.predictions.base import (
    ANY,
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
from mcrace.statistics import Interval, Margin, equivalence_p, mean_interval, ratio_interval, ratio_p, share_interval

LEAST_NETWORKS = 30
LEAST_TESTED = 60  # for a share of p-values
LEVEL, CLEAR = 0.05, 0.001
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


def judge_level(
    prediction: Prediction, evidence: Evidence, statistic: str, main: Measured, control: Measured | None,
    cells: Sequence[CellResults] = (), primary: bool = False,
) -> Verdict:
    """Judge a law that is tested in each network: whether no more, and no fewer, reject it than a true law, 1 in 20.

    The margin is the band that holds the number of rejections of a true law in 95 of 100 studies; the share in it is
    enough, since an interval of it is about as wide.  The control has to lie beyond the band with its interval.  Nothing is
    said of half the step: an error of the step would be an error of the law, and rejected.

    Parameters
    ----------
    main, control : Measured
        p-values; NaN for a network without one.
    cells : sequence of CellResults
        All that they came from.
    """
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE, primary)
    if control is None:
        return replace(blank, note=NO_CONTROL)
    whole, lost = _in_both(main, control)
    margin = level_band(len(whole)) if len(whole) else ANY
    blank = replace(blank, networks=len(whole), dropped=lost, margin=margin)
    if len(whole) < LEAST_TESTED:
        return replace(blank, note=f"{len(whole)} networks give both numbers; {LEAST_TESTED} are needed")
    found, beside = share_interval(main.on(whole) <= LEVEL), share_interval(control.on(whole) <= LEVEL)
    failed = margin.misses(beside)
    doubts = _doubts(cells, False, lost / (len(whole) + lost), math.nan, margin)
    inside = margin.contains(Interval(*[found.estimate] * 3))
    decided = REFUTED if margin.misses(found) else INCONCLUSIVE if not inside else SUPPORTED if failed else NOT_DISCRIMINATING
    if not failed:
        doubts.append("the control did not fail")
    return replace(
        blank, verdict=INCONCLUSIVE if doubts and failed else decided, estimate=found.estimate, low=found.low, high=found.high,
        note="; ".join(doubts), control=Control(control.cell, beside.estimate, beside.low, beside.high, failed))


def level_band(networks: int) -> Margin:
    """The shares of networks that reject a true law at the level 0.05 in all but 5 % of studies, the lowest and the highest.

    >>> str(level_band(60)), str(level_band(100))
    ('≤ 0.117', '0.055 ± 0.045')
    """
    low, high = scipy.stats.binom.interval(0.95, networks, LEVEL)
    return Margin(float(low) / networks if low else -math.inf, float(high) / networks)


def judge_uniform(
    prediction: Prediction, evidence: Evidence, statistic: str, main: np.ndarray, control: np.ndarray | None, cell: str
) -> Verdict:
    """Judge whether independent numbers of all networks are uniform between 0 and 1 (Kolmogorov and Smirnov).

    Supported where the distance is one that uniform numbers have in 95 of 100 studies, and that of the control is not;
    refuted where they have it in less than one of 1,000.

    Parameters
    ----------
    main, control : arrays [number]
    cell : str
        Name of the control.
    """
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE)
    if control is None or not len(main) or not len(control):
        return replace(blank, note=NO_CONTROL if control is None else "no network gives numbers")
    found, beside = (scipy.stats.kstest(numbers, "uniform") for numbers in (main, control))
    margin = Margin(high=float(scipy.stats.kstwo.isf(LEVEL, len(main))))
    failed = beside.pvalue <= LEVEL
    decided = SUPPORTED if failed else NOT_DISCRIMINATING
    verdict = REFUTED if found.pvalue < CLEAR else INCONCLUSIVE if found.pvalue <= LEVEL else decided
    return replace(blank, verdict=verdict, estimate=float(found.statistic), margin=margin,
                   note=f"{len(main):,} numbers, p = {found.pvalue:.2g}" + ("" if failed else "; the control did not fail"),
                   control=Control(cell, float(beside.statistic), math.nan, math.nan, bool(failed)))


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
