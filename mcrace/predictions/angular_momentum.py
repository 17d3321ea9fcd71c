"""angular-momentum: what is conserved on tasks with a rotation symmetry is 0, whatever the weights (text G; THEORY.md,
angular-momentum).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import (
    Measure,
    Measured,
    judge_level,
    judge_mean,
    judge_measured,
    level_band,
    report_measured,
)
from mcrace.predictions.panels import COLOURS, CONTROL, MAIN, Panel, bands, legend_above
from mcrace.results import CellResults
from mcrace.statistics import Margin, log_slopes, share_interval
from mcrace.tasks import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

START, EARLY, END = "start", "level=0.5", "final"
INPUTS = "angular_momentum_inputs_f"
ROUNDING = 1e-14  # of j, in float64
ENOUGH = 50  # test samples for each component of J, for Hotelling's law to hold
AS_SAMPLED = (("start", "angular_momentum", START), ("fresh, early", "angular_momentum_fresh", EARLY))
DECAY = 1e-10  # relative error of the law of a heavy ball
AREA = 0.01  # relative, where every step is recorded
CONSERVED = 0.1  # j that would still count as none, where text G has a conserved one
INSTEAD = ("J is 0 in the mean over x for any weights, so it fixes nothing; on the samples that a network trains on it "
           "grows from the sampling error to that of any network, as the networks learn the samples")


class AngularOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.1, gt=0, lt=0.5, description="half width of the margins of the slopes in log N and log n")


@prediction("angular-momentum")
class AngularMomentum(Prediction):
    """For a task that a rotation leaves alone,

        J = Σ_a (w_a w_a'ᵀ - w_a' w_aᵀ) = mean over x of r(x) (∇f(x) x)ᵀ - transposed

    is 0 under the flow of the population loss: no datum of the start that is conserved, but an identity that any weights
    obey.  On N samples it is of order N^(-1/2), on samples of the symmetry C_n in the plane of order 1/n.  It is told as
    j = |J|/(√2 Σ|w||w'|).

    Statistics: j of the population in closed form (below 1e-14); per network the slope of log j on log N, at the start and
    on fresh samples (-0.5 ± 0.1; control: on its own samples at the end), and on log n (-1 ± 0.1; control: the former); the
    share of networks where Hotelling's T² on fresh samples has p < 0.05 (inside the binomial band round 0.05).  Controls:
    linear and quadratic labels, anisotropic inputs, and labels with the symmetry broken by ε x_1, whose share of p < 0.05
    is the power.  Where labels are vectors x h(|x|), J is that of input and output weights together (control: of input
    weights alone).  Where networks learn from the population: a heavy ball with a velocity at the start has J_k = μ^k J_0 (to
    1e-10), and in the plane Σ∫|w|²dφ is 0 (within 0.01 of Σ∫|w|²|dφ|; control of both: linear labels).  Text G's conserved
    momentum: j on the samples that a network trains on, at the end (at most 0.1).
    """

    options = AngularOptions
    across = True
    law = "J = 0 in the mean over x;  |J| ∝ N^(-1/2) on N samples, 1/n on samples of symmetry C_n"
    meaning = {
        "supported": "In the mean over inputs the neurons have no angular momentum, whatever the weights are; what is "
                     "measured on samples is their sampling error, and tasks without the symmetry have one.",
        "refuted": "There is an angular momentum where text G's symmetry forbids it: networks feel their samples, which "
                   "have no symmetry.",
    }

    def needs(self, options: AngularOptions) -> Needs:
        names = ("angular_momentum", "angular_momentum_fresh", "angular_momentum_f", "angular_momentum_population")
        moments = (f"{name}@{state}" for name in names for state in (START, EARLY, END))
        inputs = (f"{INPUTS}@{state}" for state in (START, EARLY))
        return Needs((*moments, *inputs, "momentum_decay", "swept_area"), half_step=False)

    def judge(self, evidence: Evidence, options: AngularOptions) -> list[Verdict]:
        symmetric = symmetric_cells(evidence)
        if not symmetric:
            return self.not_testable(evidence, 'it takes a cell of the task "invariant" with nothing that breaks its symmetry')
        on = replace(evidence, main=symmetric[0])
        found = [self._population(on), *self._sizes(on, symmetric, options), *self._tests(evidence, symmetric)]
        found += [*self._vectors(evidence), *self._heavy_balls(evidence), *self._areas(evidence)]
        found += [self._power(on, cell, state) for cell in broken_by_epsilon(evidence) for state in (START, EARLY)]
        return [*found, self._conserved(on)]

    def _population(self, evidence: Evidence) -> Verdict:
        """The largest j of three states; the end is left out, where w' is the rest of a sum that cancels."""
        return judge_mean(self, evidence, "population j", Margin(high=ROUNDING), population, lambda i: i.low > ROUNDING,
                          primary=True)

    def _sizes(self, evidence: Evidence, symmetric: list[CellResults], options: AngularOptions) -> list[Verdict]:
        half = Margin(-0.5 - options.margin, -0.5 + options.margin)
        ladder, cycles, found = sizes_of(symmetric), orders_of(evidence), []
        if len(ladder) > 2:
            own = slopes(ladder, "angular_momentum", END)
            found = [judge_measured(self, evidence, f"slope of log j on log N, {told}", half, slopes(ladder, name, state), own,
                                    half.misses, None, ladder, has_step_error=False) for told, name, state in AS_SAMPLED]
            found.append(report_measured(self, evidence, "slope of log j on log N, own samples, end", own))
        if len(cycles) > 2 and len(ladder) > 2:
            one = Margin(-1 - options.margin, -1 + options.margin)
            by_samples = slopes(ladder, "angular_momentum", START)
            found.append(judge_measured(
                self, replace(evidence, main=cycles[0]), "slope of log j on log n, samples of symmetry C_n", one,
                slopes(cycles, "angular_momentum", START, "order"), by_samples, one.misses, None, cycles, has_step_error=False))
        return found

    def _tests(self, evidence: Evidence, symmetric: list[CellResults]) -> list[Verdict]:
        """Hotelling's test of each cell that has samples enough, and of the first beside each control."""
        able = [c for c in symmetric if enough_samples(c)]
        by_epsilon = broken_by_epsilon(evidence)
        others = [c for c in broken(evidence) if enough_samples(c) and c not in by_epsilon]
        name = evidence.control.name if evidence.control else ""
        others = sorted(others, key=lambda c: c.name != name)
        found = []
        for state, told in ((START, "start"), (EARLY, "early"), (END, "end")):
            for cell in able:
                on = replace(evidence, main=cell)
                beside: list[CellResults | None] = [*(others if cell is able[0] and state != END else others[:1])]
                for other in beside or [None]:
                    more = f", control: {other.name}" if other and other is not others[0] else ""
                    p = partial(p_values, state=state)
                    beside_it = Measured.of(other, p) if other else None
                    found.append(judge_level(self, on, f"share of p < 0.05, {told}{more}", Measured.of(cell, p), beside_it,
                                            (cell, other) if other else (cell,)))
        return found

    def _vectors(self, evidence: Evidence) -> list[Verdict]:
        """Labels that turn along: both layers' momentum together is 0, and that of input weights alone is the control."""
        return [judge_level(self, replace(evidence, main=cell), f"share of p < 0.05, vectors, {told}, control: inputs alone",
                           Measured.of(cell, partial(p_values, state=state)),
                           Measured.of(cell, partial(p_values, state=state, name=INPUTS)), (cell,))
                for cell in vector_cells(evidence) for state, told in ((START, "start"), (EARLY, "early"))]

    def _heavy_balls(self, evidence: Evidence) -> list[Verdict]:
        """Exact in every step, as w_k∧w_{k+1} = w_k∧(velocity) and the gradient adds nothing to it."""
        return self._of_population(evidence, "heavy-ball", "J_k off μ^k J_0, heavy ball", Margin(high=DECAY),
                                   lambda c: c["momentum_decay"])

    def _areas(self, evidence: Evidence) -> list[Verdict]:
        """In the plane: what some neurons turn to the left, others turn to the right, weighed by |w|²."""
        return self._of_population(evidence, "gd", "Σ∫|w|²dφ over Σ∫|w|²|dφ|", Margin(-AREA, AREA), lambda c: c["swept_area"],
                                   lambda c: abs(c["swept_area"]))

    def _of_population(self, evidence: Evidence, method: str, statistic: str, margin: Margin, measure: Measure,
                       measure_control: Measure | None = None) -> list[Verdict]:
        """The cells that learn from the population by a method, beside the first of them without the symmetry."""
        cells = [c for c in evidence.cells if kind_of(c) == "invariant" and c.config["training"]["method"] == method
                 and c.config["training"].get("gradient") == "population"]
        cells = [c for c in cells if np.isfinite(measure(c)).any()]
        others = [c for c in cells if not is_symmetric(c)]
        return [judge_mean(self, replace(evidence, main=cell), statistic, margin, measure, margin.misses, measure_control,
                           others[0] if others else None) for cell in cells if is_symmetric(cell)]

    def _power(self, evidence: Evidence, cell: CellResults, state: str) -> Verdict:
        """How often the test finds an ε."""
        epsilon, told = cell.config["task"]["epsilon"], {START: "start", EARLY: "early"}[state]
        flags = Measured.of(cell, lambda c: _below(p_values(c, state)))
        found = report_measured(self, replace(evidence, main=cell), f"power at ε = {epsilon:g}, {told}", flags)
        return replace(found, values={})

    def _conserved(self, evidence: Evidence) -> Verdict:
        found = judge_mean(self, evidence, "text G: j on its own samples, end", Margin(high=CONSERVED),
                           lambda c: c.at("angular_momentum", END), lambda i: i.low > CONSERVED,
                           lambda c: c.at("angular_momentum", START))
        return replace(found, note="; ".join(n for n in (INSTEAD if found.verdict == "refuted" else "", found.note) if n))

    def panels(self, evidence: Evidence, options: AngularOptions) -> list[Panel]:
        symmetric = symmetric_cells(evidence)
        if not symmetric:
            return []
        ladder, out = sizes_of(symmetric), []
        if len(ladder) > 2:
            out.append(Panel("j against the number of samples: median, half and nine tenths of the networks; dashed, N^(-1/2).",
                             partial(_draw_sizes, ladder)))
        shown = [Row(c.name, c, is_symmetric(c)) for c in (symmetric[0], *broken(evidence)) if enough_samples(c)]
        for cell in vector_cells(evidence):
            shown += [Row(cell.name, cell, True), Row(f"{cell.name}, inputs alone", cell, False, INPUTS)]
        if len(shown) > 1:
            out.append(Panel("How often Hotelling's test on fresh samples finds an angular momentum: share of networks with "
                             "p < 0.05 and its 95 % interval.", partial(_draw_shares, shown), len(shown)))
        return out


# ------------------------------------------------------------------------------------------------- cells


def kind_of(cell: CellResults) -> str:
    """task.kind."""
    return cell.config["task"]["kind"]


def is_symmetric(cell: CellResults) -> bool:
    """Whether the law of its inputs and labels has the rotation symmetry."""
    table = cell.config["task"]
    return bool(getattr(TASKS[table["kind"]].model_validate(table), "symmetric", False))


def symmetric_cells(evidence: Evidence) -> list[CellResults]:
    """Cells of the task "invariant" that nothing makes less symmetric; samples come one by one, and are learnt from."""
    return [c for c in evidence.cells if kind_of(c) == "invariant" and is_symmetric(c) and c.config["task"]["order"] == 1
            and from_samples(c)]


def vector_cells(evidence: Evidence) -> list[CellResults]:
    """Cells of the task "equivariant" that nothing makes less symmetric, with test samples enough for Hotelling's law."""
    return [c for c in evidence.cells if kind_of(c) == "equivariant" and is_symmetric(c) and enough_samples(c)]


def from_samples(cell: CellResults) -> bool:
    """Whether networks learn from samples, by descent."""
    training = cell.config["training"]
    return training["method"] == "gd" and training.get("gradient", "samples") == "samples"


def broken(evidence: Evidence) -> list[CellResults]:
    """Cells like the first symmetric one, the control among them, whose task lacks the symmetry."""
    every = [*evidence.cells, *([evidence.control] if evidence.control else [])]
    return [c for c in every if kind_of(c) == "invariant" and not is_symmetric(c) and from_samples(c)]


def broken_by_epsilon(evidence: Evidence) -> list[CellResults]:
    """Those where only ε x_1 breaks it, by ε."""
    only = [c for c in broken(evidence) if c.config["task"]["function"] in ("norm", "square") and c.config["task"]["epsilon"]
            and enough_samples(c)]
    return sorted(only, key=lambda c: c.config["task"]["epsilon"])


def alike(
    one: CellResults, cells: list[CellResults], free: tuple[str, ...], also: Callable[[dict[str, Any]], Any] = lambda task: None
) -> list[CellResults]:
    """The cells that differ from one in some options of the task alone, by their number of samples."""
    def rest(cell: CellResults) -> str:
        config = cell.config
        task = {k: v for k, v in config["task"].items() if k not in free}
        return json.dumps([task, also(config["task"]), config["network"], config["training"]], sort_keys=True)

    return sorted((c for c in cells if rest(c) == rest(one)), key=lambda c: c.config["task"]["samples"])


def sizes_of(symmetric: list[CellResults]) -> list[CellResults]:
    """Those that differ from the first in their samples alone, by their number."""
    return alike(symmetric[0], symmetric, ("samples", "test_samples"))


def orders_of(evidence: Evidence) -> list[CellResults]:
    """Cells with samples of symmetries C_n, alike but for n, in as many orbits, by n."""
    cells = [c for c in evidence.cells if kind_of(c) == "invariant" and is_symmetric(c) and c.config["task"]["order"] > 1]
    return alike(cells[0], cells, ("samples", "test_samples", "order"), lambda t: t["samples"] // t["order"]) if cells else []


def enough_samples(cell: CellResults) -> bool:
    """Whether there are fifty test samples for each component of J."""
    return cell.config["task"]["test_samples"] >= ENOUGH * components(cell)


def components(cell: CellResults) -> int:
    """p = d(d-1)/2."""
    d = cell.config["task"]["dimension"]
    return d * (d - 1) // 2


# ------------------------------------------------------------------------------------------------- statistics


def population(cell: CellResults) -> np.ndarray:
    """The larger j of the population, of the start and at half the loss, for each network."""
    return np.maximum(*(cell.at("angular_momentum_population", state) for state in (START, EARLY)))


def slopes(cells: list[CellResults], name: str, state: str, size: str = "samples") -> Measured:
    """The slope of log j on the log of an option of the task, for each network that all cells have."""
    seeds = cells[0].seeds
    for cell in cells[1:]:
        seeds = np.intersect1d(seeds, cell.seeds)
    sizes = np.array([c.config["task"][size] for c in cells], float)
    return Measured(f"{cells[0].name} to {cells[-1].name}", seeds, log_slopes(sizes, _side_by_side(cells, name, state, seeds)))


def _side_by_side(cells: list[CellResults], name: str, state: str, seeds: np.ndarray) -> np.ndarray:
    """An observable in each of some cells [network, cell]."""
    return np.stack([Measured.of(c, lambda c: c.at(name, state)).on(seeds) for c in cells], axis=1)


def p_values(cell: CellResults, state: str, name: str = "angular_momentum_f") -> np.ndarray:
    """p of Hotelling's test that J is 0, on fresh samples, for each network."""
    p = components(cell)
    return scipy.stats.f.sf(cell.at(name, state), p, cell.config["task"]["test_samples"] - p)


def _below(p: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(p), np.nan, p < 0.05)


# ------------------------------------------------------------------------------------------------- pictures


def _draw_sizes(ladder: list[CellResults], axes: Axes) -> None:
    sizes = np.array([c.config["task"]["samples"] for c in ladder], float)
    shown = (("start, own samples", "angular_momentum", START, MAIN), ("early, fresh samples", "angular_momentum_fresh", EARLY,
             COLOURS[2]), ("end, own samples", "angular_momentum", END, CONTROL))
    seeds = slopes(ladder, "angular_momentum", START).seeds
    for told, name, state, colour in shown:
        j = _side_by_side(ladder, name, state, seeds)
        bands(axes, sizes, j, colour, told)
        if state == START:
            axes.plot(sizes, np.median(j[:, 0]) * (sizes / sizes[0]) ** -0.5, color="0.4", linestyle="--", label="N^(-1/2)")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{n:,.0f}" for n in sizes])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="samples N", ylabel="j = |J|/(√2 Σ|w||w'|), pure number")
    legend_above(axes, f"Angular momentum,\nn = {len(seeds):,} networks", columns=1)


@dataclass(frozen=True)
class Row:
    """What one row of the picture of shares shows."""

    told: str
    cell: CellResults
    symmetric: bool
    name: str = "angular_momentum_f"


def _draw_shares(rows: list[Row], axes: Axes) -> None:
    for shift, (state, told, marker) in enumerate(((START, "start", "o"), (EARLY, "half the loss", "s"))):
        for place, row in enumerate(rows):
            p = p_values(row.cell, state, row.name)
            found = share_interval(p[np.isfinite(p)] < 0.05) if np.isfinite(p).any() else None
            if found:
                y, colour = place + 0.24 * (shift - 0.5), MAIN if row.symmetric else CONTROL
                axes.plot([found.low, found.high], [y, y], color=colour, linewidth=1.5)
                axes.plot(found.estimate, y, marker, color=colour, markersize=5, markeredgecolor="white", markeredgewidth=0.7)
        axes.plot([], [], marker, color="0.4", label=told)
    count = len(rows[0].cell.seeds)
    band = level_band(count)
    axes.axvspan(max(band.low, 0.0), band.high, color="0.6", alpha=0.3, linewidth=0, label="binomial band round 0.05")
    axes.set_yticks(range(len(rows)), [row.told for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(-0.02, 1.02), xlabel="share of networks with p < 0.05,\npure number")
    axes.tick_params(axis="y", length=0)
    legend_above(axes, f"Hotelling's test,\nn = {count:,} networks a cell", columns=1)
