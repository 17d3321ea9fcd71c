"""What a prediction is: what it needs recorded, and how it is judged."""

from __future__ import annotations

import inspect
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mcrace.predictions.panels import Panel
from mcrace.registry import Registry
from mcrace.results import CellResults
from mcrace.seeds import generator
from mcrace.statistics import Interval, Margin, equivalence_p, mean_interval
from mcrace.tables import Section

SUPPORTED, REFUTED, NOT_DISCRIMINATING = "supported", "refuted", "not discriminating"
INCONCLUSIVE, NOT_TESTABLE = "inconclusive", "not testable here"
ANY = Margin()
MEANING = {
    SUPPORTED: "What was measured agrees with the law within the margin, and the control shows that the test could fail.",
    REFUTED: "The law does not hold here: what was measured lies outside the margin.",
    NOT_DISCRIMINATING: "What was measured agrees with the law, but so does the control, so this test says nothing about it.",
    INCONCLUSIVE: "These networks do not decide whether the law holds.",
    NOT_TESTABLE: "The law cannot be put to test on these results.",
}
LEAST_NETWORKS = 30
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
    """One statistic of one prediction in one cell, judged.

    `values` holds the number of each network that was judged, by arm: ``"main"``, ``"control"`` and ``"half-step"``, as far
    as there are such; a report draws them, and neither comparison nor JSON knows them.  A statistic with a unit has it in
    its name, in brackets.
    """

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
    values: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it: NaN and infinite ends become null."""
        out = {k: _plain(v) for k, v in vars(self).items() if k not in ("margin", "control", "values")}
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
    law : str
        The law as a formula, in a line or two; by default the indented lines of the docstring.
    meaning : mapping of str
        For each verdict one sentence that says what it means; a verdict that is left out gets a general one.
    """

    name: ClassVar[str]
    options: ClassVar[type[Options]] = Options
    across: ClassVar[bool] = False
    law: ClassVar[str] = ""
    meaning: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def needs(self, options: Any) -> Needs:
        """What has to be recorded in the main cell, its control, and at half the step."""

    @abstractmethod
    def judge(self, evidence: Evidence, options: Any) -> list[Verdict]:
        """The verdicts, the primary one first."""

    def panels(self, evidence: Evidence, options: Any) -> list[Panel]:
        """What is to be drawn besides the distribution of each statistic, which is drawn in any case."""
        return []

    def means(self, verdict: str) -> str:
        """What a verdict on this prediction means, in one sentence."""
        return self.meaning.get(verdict, MEANING.get(verdict, ""))

    @property
    def paragraphs(self) -> list[str]:
        """The docstring, paragraph by paragraph; formulas stay indented."""
        return [p.rstrip() for p in inspect.cleandoc(type(self).__doc__ or "").split("\n\n") if p.strip()]

    @property
    def formula(self) -> str:
        """The law as a formula; empty if neither `law` nor the docstring has one."""
        return self.law or next((inspect.cleandoc(p) for p in self.paragraphs if p.startswith("  ")), "")

    @property
    def text(self) -> str:
        """One line: the first of the module's docstring where that begins with the name, else of the class's."""
        title, _, rest = (sys.modules[type(self).__module__].__doc__ or "").strip().partition("\n")[0].partition(": ")
        line = rest.partition(" (")[0].rstrip(".") if title == self.name else ""
        return line or " ".join((self.paragraphs or [""])[0].split()).partition(". ")[0]

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
    """
    control = control or evidence.control
    blank = Verdict(prediction.name, evidence.main.name, statistic, NOT_TESTABLE, primary, margin=margin)
    if control is None:
        return replace(blank, note='there is no control cell; name one with control = "CELL", and run it')
    main = Measured(evidence.main.name, evidence.main.seeds, measure(evidence.main))
    other = Measured(control.name, control.seeds, (measure_control or measure)(control))
    both = np.intersect1d(main.seeds, other.seeds)
    whole = both[np.isfinite(main.on(both)) & np.isfinite(other.on(both))]
    dropped = len(both) - len(whole)
    values = {"main": main.on(whole), "control": other.on(whole)}
    blank = replace(blank, networks=len(whole), dropped=dropped, values=values)
    if len(whole) < LEAST_NETWORKS:
        return replace(blank, note=f"{len(whole)} networks give both numbers; {LEAST_NETWORKS} are needed")
    found = mean_interval(main.on(whole), evidence.rng(prediction.name, statistic))
    beside = mean_interval(other.on(whole), evidence.rng(prediction.name, statistic, "control"))
    failed = control_fails(beside)
    if evidence.half_step is not None:
        values["half-step"] = measure(evidence.half_step)
    change = _half_step_change(evidence, main, values.get("half-step"))
    doubts = _doubts(evidence, control, dropped / len(both), change, margin)
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


def _half_step_change(evidence: Evidence, main: Measured, values: np.ndarray | None) -> float:
    """|s(η/2) - s(η)| over the seeds that both cells have; NaN where there is no cell at half the step."""
    if evidence.half_step is None or values is None:
        return math.nan
    half = Measured(evidence.half_step.name, evidence.half_step.seeds, values)
    both = np.intersect1d(main.seeds, half.seeds)
    change = half.on(both) - main.on(both)
    return float(abs(np.nanmean(change))) if np.isfinite(change).any() else math.nan


def _doubts(evidence: Evidence, control: CellResults, dropped: float, change: float, margin: Margin) -> list[str]:
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
