"""early-phase: alignment comes before the loss drops, silently (text R; THEORY.md, early-phase)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import Measured, judge_measured
from mcrace.predictions.half_rise import (
    NEEDED,
    REMEDY,
    clock,
    differ_only_in,
    half_rise_times,
    onset_times,
    seldom_recorded,
    shared_seeds,
)
from mcrace.predictions.panels import COLOURS, CONTROL, MAIN, Panel, bands, legend_above
from mcrace.results import CellResults
from mcrace.statistics import Margin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL, LARGE, OF_CLOCK = 1e-2, 1.0, 1e-3  # scales: at most, of the control at least, nearest to which the clock is taken
Times = Callable[[CellResults], np.ndarray]


class EarlyPhaseOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.06, gt=0, lt=1, description="half width of the margin of the onset's slope round 1")
    flat: float = Field(0.05, gt=0, lt=1, description="half width of the margin of the alignment's slope round 0")


@prediction("early-phase")
class EarlyPhase(Prediction):
    """At small scale s of the start, neurons align while the loss stays: with the clock τ of D* = Σ a|D_a|/Σ a at the onset
    of the run with s = 1e-3, the loss begins to drop (1 %) at

        τ = log(1/s) + const,

    while the mean cosine Σ a cos δ/Σ a has risen by half, from the start to its value at the onset, at a τ that does not
    depend on s.

    Statistics: per network, the least-squares slopes of the two τ on log(1/s) over the cells with s <= 1e-2, which start
    from the same random numbers; 1 ± 0.06 and 0 ± 0.05.  Control of the first: the slope over the cells with s >= 1, and of
    the second the first, which it is not.
    """

    options = EarlyPhaseOptions
    across = True
    meaning = {
        "supported": "Neurons align in silence: the loss begins to drop later the smaller the start, as "
                     "log(1/scale), while alignment keeps its time.",
        "refuted": "The loss does not wait for the smaller start, or alignment does, in the way that the law"
                   " says.",
    }

    def needs(self, options: EarlyPhaseOptions) -> Needs:
        return Needs((*NEEDED, "drift_norm@onset", "norm_product@onset"))

    def judge(self, evidence: Evidence, options: EarlyPhaseOptions) -> list[Verdict]:
        small, large = _by_scale(evidence)
        if why := _lacking(small, large):
            return self.not_testable(evidence, why)
        halves = [evidence.halves[c.name] for c in small if c.name in evidence.halves]
        half = lambda times: slopes_over_scales(halves, halves, times) if len(halves) == len(small) else None
        onset, rise = (slopes_over_scales(small, small, times) for times in (onset_times, half_rise_times))
        first, flat = Margin(1 - options.margin, 1 + options.margin), Margin(-options.flat, options.flat)
        span = f"{len(small)} scales {min(map(scale_of, small)):g} to {max(map(scale_of, small)):g}"
        return [
            judge_measured(self, evidence, f"slope of τ at the onset, {span}", first, onset,
                           slopes_over_scales(large, small, onset_times), first.misses, half(onset_times),
                           [*small, *large], primary=True),
            judge_measured(self, evidence, "slope of τ at which alignment has risen by half", flat, rise, onset, flat.misses,
                           half(half_rise_times), small)]

    def panels(self, evidence: Evidence, options: EarlyPhaseOptions) -> list[Panel]:
        small, large = _by_scale(evidence)
        if _lacking(small, large):
            return []
        return [Panel("When the loss begins to drop, and when alignment has risen by half, against the scale of the start: "
                      "median, half and nine tenths of the networks.", partial(_draw_times, small, large))]


def _by_scale(evidence: Evidence) -> tuple[list[CellResults], list[CellResults]]:
    """The cells that start small, and those that start large, the smallest last."""
    cells = sorted([*evidence.cells, *([evidence.control] if evidence.control else [])], key=scale_of, reverse=True)
    return [c for c in cells if scale_of(c) <= SMALL], [c for c in cells if scale_of(c) >= LARGE]


def _draw_times(small: list[CellResults], large: list[CellResults], axes: Axes) -> None:
    """Both τ against 1/scale, on a logarithmic axis of base e in disguise: the law is a line of slope 1."""
    seeds, onset = times_over_scales(small, small, onset_times)
    _, rise = times_over_scales(small, small, half_rise_times)
    _, early = times_over_scales(large, small, onset_times)
    x, left = (np.array([1 / scale_of(c) for c in cells]) for cells in (small, large))
    bands(axes, x, onset, MAIN, "the loss has dropped by 1 %")
    bands(axes, x, rise, COLOURS[2], "alignment has risen by half")
    bands(axes, left, early, CONTROL, "control: the loss, large starts")
    middle = np.nanmedian(onset - np.log(x))
    axes.plot(x, np.log(x) + middle, color="0.5", linestyle="--", label="the law: log(1/scale) + const")
    axes.set_xscale("log")
    axes.set(xlabel="1 / scale of the start, pure number", ylabel="τ, pure number")
    legend_above(axes, f"n = {len(seeds):,} networks at each scale", columns=1)


def scale_of(cell: CellResults) -> float:
    """network.init.scale of a cell."""
    return cell.config["network"]["init"]["scale"]


def _lacking(small: list[CellResults], large: list[CellResults]) -> str:
    """What is lacking for a verdict, if anything is."""
    if len({scale_of(c) for c in small}) < 3:
        return f"at least three cells that differ in network.init.scale are needed, of {SMALL:g} or less"
    if len({scale_of(c) for c in large}) < 2:
        return f"two controls with network.init.scale of {LARGE:g} or more are needed, as cells that differ in it"
    if not differ_only_in(small, "scale") or not differ_only_in(large, "scale"):
        return "the cells differ in more than network.init.scale; choose those that do not by `cells`"
    return REMEDY if any(seldom_recorded(c) for c in small) else ""


def slopes_over_scales(cells: Sequence[CellResults], of_clock: Sequence[CellResults], times: Times) -> Measured:
    """Slope of τ on log(1/s) over cells, for each network that all have; the clock is that of the cell nearest to s = 1e-3.

    Parameters
    ----------
    times : callable
        From a cell to the time t of each network.
    """
    seeds, taus = times_over_scales(cells, of_clock, times)
    x = -np.log([scale_of(c) for c in cells])
    x -= x.mean()
    return Measured(f"{len(cells)} scales", seeds, (taus * x).sum(axis=1) / (x**2).sum())


def times_over_scales(
    cells: Sequence[CellResults], of_clock: Sequence[CellResults], times: Times
) -> tuple[np.ndarray, np.ndarray]:
    """The seeds that all cells have, and τ [network, cell] on the clock of the cell nearest to s = 1e-3."""
    nearest = min(of_clock, key=lambda c: abs(np.log(scale_of(c) / OF_CLOCK)))
    seeds = shared_seeds([*cells, nearest])
    drift = Measured.of(nearest, _mean_drift).on(seeds)
    return seeds, np.stack([clock(c, Measured.of(c, times).on(seeds), drift) for c in cells], axis=1)


def _mean_drift(cell: CellResults) -> np.ndarray:
    """D* = Σ a|D_a|/Σ a at the onset [network]."""
    a = cell.at("norm_product", "onset")
    return np.sum(a * cell.at("drift_norm", "onset"), axis=1) / np.sum(a, axis=1)
