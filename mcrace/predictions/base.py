"""What a prediction is: what it needs recorded, and how it is judged."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mcrace.registry import Registry
from mcrace.results import CellResults
from mcrace.seeds import generator
from mcrace.statistics import Interval, Margin, equivalence_p, mean_interval
from mcrace.tables import Section

SUPPORTED, REFUTED, NOT_DISCRIMINATING = "supported", "refuted", "not discriminating"
INCONCLUSIVE, NOT_TESTABLE = "inconclusive", "not testable here"
ANY = Margin()
LEAST_NETWORKS = 30
NO_CONTROL = 'there is no control cell; name one with control = "CELL", and run it'
MOST_DROPPED, MOST_DIVERGED = 0.10, 0.05


@dataclass(frozen=True)
class Needs:
    """What has to be recorded for a prediction to be judged: plain data.

    Attributes
    ----------
    observables : tuple of str
        As in ``record.observables``: ``"name"`` or ``"name@state"``.
    half_step : bool
        Whether a cell at half the step is wanted, for the error budget.
    stages : tuple of str
        As in ``record.stages``.
    """

    observables: tuple[str, ...]
    half_step: bool = True
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Control:
    """What the control cell gave."""

    cell: str
    estimate: float
    low: float
    high: float
    failed: bool


@dataclass(frozen=True)
class Verdict:
    """One statistic of one prediction in one cell, judged."""

    prediction: str
    cell: str
    statistic: str
    verdict: str
    primary: bool = False
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_adjusted: float = math.nan
    margin: Margin = ANY
    control: Control | None = None
    networks: int = 0
    dropped: int = 0
    half_step_change: float = math.nan
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it: NaN and infinite ends become null."""
        out = {k: _plain(v) for k, v in vars(self).items() if k not in ("margin", "control")}
        out["margin"] = [_plain(self.margin.low), _plain(self.margin.high)]
        out["control"] = {k: _plain(v) for k, v in vars(self.control).items()} if self.control else None
        return out


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Options(Section):
    """The options of a prediction in the study file."""

    control: str = ""
    cells: tuple[str, ...] = Field((), description="the cells to judge; all that are no control by default")


@dataclass(frozen=True)
class Evidence:
    """The cells that a prediction is judged on: the main one, its control, and the one at half the step, if it needs one.

    A prediction across cells has them all in `cells`, in their order, with those at half the step by name in `halves`.
    """

    entropy: int
    main: CellResults
    control: CellResults | None
    half_step: CellResults | None
    needs_half_step: bool = False
    cells: tuple[CellResults, ...] = ()
    halves: dict[str, CellResults] = field(default_factory=dict)

    def rng(self, *names: str) -> np.random.Generator:
        """A generator for resampling, by (entropy, prediction, cell)."""
        return generator(self.entropy, *names, self.main.name)


class Prediction(ABC):
    """A law under test.  Subclasses hold its text in their docstring, and are registered with `prediction`.

    Attributes
    ----------
    across : bool
        Whether it is judged once on all cells together, as in a sweep; otherwise on each cell.
    """

    name: ClassVar[str]
    options: ClassVar[type[Options]] = Options
    across: ClassVar[bool] = False

    @abstractmethod
    def needs(self, options: Any) -> Needs:
        """What has to be recorded in the main cell, its control, and at half the step."""

    @abstractmethod
    def judge(self, evidence: Evidence, options: Any) -> list[Verdict]:
        """The verdicts, the primary one first."""

    def not_testable(self, evidence: Evidence, why: str) -> list[Verdict]:
        """The verdict where a need is not met."""
        return [Verdict(self.name, evidence.main.name, "-", NOT_TESTABLE, primary=True, note=why)]


PREDICTIONS: Registry[Prediction] = Registry("prediction", "mcrace.predictions")


def prediction(name: str) -> Callable[[type[Prediction]], type[Prediction]]:
    """Register a subclass of `Prediction` under the name that study files use."""

    def register(kind: type[Prediction]) -> type[Prediction]:
        kind.name = name
        PREDICTIONS.add(name)(kind())
        return kind

    return register


@dataclass(frozen=True)
class Measured:
    """One number a network, by seed; NaN for a network that did not give one."""

    cell: str
    seeds: np.ndarray
    values: np.ndarray

    def on(self, seeds: np.ndarray) -> np.ndarray:
        """The values of some seeds, all of which are there."""
        return self.values[np.searchsorted(self.seeds, seeds)]


def judge_mean(
    prediction: Prediction,
    evidence: Evidence,
    statistic: str,
    margin: Margin,
    measure: Callable[[CellResults], np.ndarray],
    control_fails: Callable[[Interval], bool],
    measure_control: Callable[[CellResults], np.ndarray] | None = None,
    control: CellResults | None = None,
    primary: bool = False,
    among: np.ndarray | None = None,
) -> Verdict:
    """Judge the mean over networks of one number a network against a margin, beside a control.

    Networks are paired by seed: one that misses the state in either arm is dropped from both, and counted
    (THEORY.md, How a verdict is reached).

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
    control = control or evidence.control
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE, primary, margin=margin)
    if control is None:
        return replace(blank, note=NO_CONTROL)
    main = Measured(evidence.main.name, evidence.main.seeds, measure(evidence.main))
    other = Measured(control.name, control.seeds, (measure_control or measure)(control))
    both = np.intersect1d(main.seeds, other.seeds)
    both = both if among is None else np.intersect1d(both, among)
    whole = both[np.isfinite(main.on(both)) & np.isfinite(other.on(both))]
    dropped = len(both) - len(whole)
    blank = replace(blank, networks=len(whole), dropped=dropped)
    if len(whole) < LEAST_NETWORKS:
        return replace(blank, note=f"{len(whole)} networks give both numbers; {LEAST_NETWORKS} are needed")
    found = mean_interval(main.on(whole), evidence.rng(prediction.name, statistic))
    beside = mean_interval(other.on(whole), evidence.rng(prediction.name, statistic, "control"))
    failed = control_fails(beside)
    change = half_step_change(evidence, main, measure)
    doubts = doubts_of(evidence, control, dropped / len(both), change, margin)
    verdict = INCONCLUSIVE if doubts else _decide(found, margin, beside, failed)
    if not failed:
        doubts.append("the control did not fail")
    return replace(
        blank, verdict=verdict, estimate=found.estimate, low=found.low, high=found.high,
        p=equivalence_p(main.on(whole), margin), half_step_change=change,
        control=Control(control.name, beside.estimate, beside.low, beside.high, failed), note="; ".join(doubts))


def _decide(found: Interval, margin: Margin, control: Interval, control_failed: bool) -> str:
    if margin.misses(found):
        return REFUTED
    if margin.contains(found) and control_failed:
        return SUPPORTED
    if margin.contains(found) and margin.contains(control):
        return NOT_DISCRIMINATING
    return INCONCLUSIVE


def half_step_change(evidence: Evidence, main: Measured, measure: Callable[[CellResults], np.ndarray]) -> float:
    """|s(η/2) - s(η)| over the seeds that both cells have; NaN where there is no cell at half the step."""
    if evidence.half_step is None:
        return math.nan
    half = Measured(evidence.half_step.name, evidence.half_step.seeds, measure(evidence.half_step))
    both = np.intersect1d(main.seeds, half.seeds)
    change = half.on(both) - main.on(both)
    return float(abs(np.nanmean(change))) if np.isfinite(change).any() else math.nan


def doubts_of(evidence: Evidence, control: CellResults, dropped: float, change: float, margin: Margin) -> list[str]:
    """The reasons for which no verdict can be reached."""
    doubts = []
    if dropped > MOST_DROPPED:
        doubts.append(f"{dropped:.0%} of the networks missed the state")
    for cell in {evidence.main.name: evidence.main, control.name: control}.values():
        share = float(np.mean(cell["status"] == 2))
        if share > MOST_DIVERGED:
            doubts.append(f"{share:.0%} of the networks of {cell.name} diverged")
    if evidence.needs_half_step and math.isnan(change):
        doubts.append("no networks at half the step tell how much it changes")
    if change >= margin.scale / 4:
        doubts.append(f"half the step changes it by {change:.2g}, more than a quarter of the margin")
    return doubts
