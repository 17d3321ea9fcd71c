"""What a prediction is: what it needs recorded, and how it is judged."""

from __future__ import annotations

import inspect
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mcrace.predictions.panels import Panel
from mcrace.registry import Registry
from mcrace.results import CellResults
from mcrace.seeds import generator
from mcrace.statistics import Margin
from mcrace.tables import Section

SUPPORTED, REFUTED, NOT_DISCRIMINATING = "supported", "refuted", "not discriminating"
INCONCLUSIVE, NOT_TESTABLE = "inconclusive", "not testable here"
REPORTED = "reported"  # a number on which nothing hangs
WORST_FIRST = (NOT_TESTABLE, REFUTED, INCONCLUSIVE, NOT_DISCRIMINATING, SUPPORTED)
ANY = Margin()
MEANING = {
    SUPPORTED: "What was measured agrees with the law within the margin, and the control shows that the test could fail.",
    REFUTED: "The law does not hold here: what was measured lies outside the margin.",
    NOT_DISCRIMINATING: "What was measured agrees with the law, but so does the control, so this test says nothing about it.",
    INCONCLUSIVE: "These networks do not decide whether the law holds.",
    REPORTED: "A number beside the law, of which the law says nothing.",
    NOT_TESTABLE: "The law cannot be put to test on these results.",
}


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
    control_half_step : bool
        Whether the control is wanted at half the step, too: for laws of the limit of small steps.
    half_step_stages : bool
        Whether the stages are wanted at half the step, too; false where their numbers are reported and not judged.
    """

    observables: tuple[str, ...]
    half_step: bool = True
    stages: tuple[str, ...] = ()
    control_half_step: bool = False
    half_step_stages: bool = True


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

    @property
    def controls(self) -> tuple[str, ...]:
        """The names of all control cells."""
        return tuple(filter(None, (self.control,)))


@dataclass(frozen=True)
class Evidence:
    """The cells that a prediction is judged on: the main one, its control, and the one at half the step, if it needs one.

    A prediction across cells has them all in `cells`, in their order, with those at half the step by name in `halves`; one
    with several controls finds them by name in `controls`.
    """

    entropy: int
    main: CellResults
    control: CellResults | None
    half_step: CellResults | None
    needs_half_step: bool = False
    cells: tuple[CellResults, ...] = ()
    halves: dict[str, CellResults] = field(default_factory=dict)
    controls: dict[str, CellResults] = field(default_factory=dict)

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
