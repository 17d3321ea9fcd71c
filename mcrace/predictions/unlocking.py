"""unlocking: neurons that start against their drift shrink, turn, and grow again (text R; THEORY.md, unlocking)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import Measured, judge_mean, report_measured, worst
from mcrace.predictions.panels import Panel, arms, density_of_law, legend_above
from mcrace.results import CellResults
from mcrace.statistics import Margin, harrell_c

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = "level=0.2"
FINEST, MOST_COARSE = 0.02, 0.05  # of the clock |D_a(0)| t between records; the share of neurons for which it may be more
NO_ORDER, LAZY_LOCKED = 0.7, 0.3
DRAWN = (-3.0, 1.0)  # log10 of τ


class UnlockingOptions(Options):
    """Options of the prediction."""

    concordance: float = Field(0.9, gt=0.5, lt=1, description="least concordance (Harrell's C) of predicted and observed times")
    factor: float = Field(1.2, gt=1, le=10, description="by which the median time may differ from the law's")
    locked: float = Field(0.01, gt=0, lt=0.3, description="most of the neurons with cos δ0 < 0 that may stay locked")


@prediction("unlocking")
class Unlocking(Prediction):
    """A neuron that starts with cos δ_0 < 0 shrinks, turns and grows again: with q = |w_0||cos δ_0|/|v_0| it unlocks (cos δ
    = 0) at

        τ* = artanh(min(q, 1/q)),   t* = τ*/|D_a(0)|,

    by a flip of sign(v) where q > 1.  Locked at T, the first step with a fifth of the loss left: dead, or of smaller norm
    product than at the start with cos δ <= 0.

    Statistics: per network, Harrell's C of t* against the time observed (first cos δ >= 0 held for three records; censored
    at T), at least 0.9; among those that unlocked, the median of log(τ_obs/τ*), within ± log 1.2; the share of the neurons
    with cos δ_0 < 0 that stay locked, none.  All have to hold.  Reported: the share that unlocks, and how much of the change
    of cos δ is rotation, flips of sign(v), and change of the drift.  Controls: t* from shuffled labels has no order; at
    least 30 % stay locked in lazy networks, which also stands for the times: those that stay locked have none.
    """

    options = UnlockingOptions
    meaning = {
        "supported": "Neurons that start against their drift unlock in the order, and at the times, that the "
                     "start says; none stays locked.",
        "refuted": "Neurons that start against their drift unlock in another order or at other times than "
                   "the start says, or stay locked.",
    }

    def needs(self, options: UnlockingOptions) -> Needs:
        start = ("cosine", "cosine_permuted", "norm_product", "output_weight", "input_norm", "drift_norm")
        paths = ("unlocking_time", "unlocking_change", "unlocking_rotation", "unlocking_jumps")
        return Needs((*(f"{n}@start" for n in start), *(f"{n}@{T}" for n in ("norm_product", "active", "cosine_late")), *paths))

    def judge(self, evidence: Evidence, options: UnlockingOptions) -> list[Verdict]:
        main, longest = evidence.main, math.log(options.factor)
        if remedy := too_coarse(main):
            return self.not_testable(evidence, remedy)
        order = judge_mean(self, evidence, "concordance of t* and unlocking", Margin(low=options.concordance), concordance,
                           lambda i: i.high < NO_ORDER, measure_control=lambda c: concordance(c, "cosine_permuted"),
                           control=main, primary=True)
        locked = judge_mean(self, evidence, "share that stays locked", Margin(high=options.locked), locked_share,
                            lambda i: i.low >= LAZY_LOCKED)
        ratio = Margin(-longest, longest)
        late = judge_mean(self, evidence, "median log(τ_obs/τ*); control: locked", ratio, median_log_ratio,
                          lambda i: i.low >= LAZY_LOCKED, measure_control=locked_share)
        among = [f"{c.name}: {np.nanmean(median_log_ratio(c)):.3f} among the {np.nanmean(unlocked_share(c)):.1%} that unlock"
                 for c in (main, evidence.control) if c and np.isfinite(median_log_ratio(c)).any()]
        late = replace(late, note="; ".join([n for n in (late.note, *among) if n]))
        return [worst([order, locked, late]), locked, late, *self._reported(evidence)]

    def panels(self, evidence: Evidence, options: UnlockingOptions) -> list[Panel]:
        caption = "Neurons of {} that start against their drift and unlock: when, against when the law says."
        return [Panel(caption.format(cell.name), partial(_draw_times, cell, colour)) for colour, cell in arms(evidence)]

    def _reported(self, evidence: Evidence) -> list[Verdict]:
        rows: dict[str, Callable[[CellResults], np.ndarray]] = {
            "share that unlocks by T": unlocked_share,
            "change of cos δ by rotation": lambda c: share_of_change(c, c["unlocking_rotation"]),
            "change of cos δ by sign flips": lambda c: share_of_change(c, c["unlocking_jumps"]),
            "change of cos δ by change of drift": drift_share,
        }
        return [report_measured(self, evidence, name, Measured.of(evidence.main, measure)) for name, measure in rows.items()]


def too_coarse(cell: CellResults) -> str:
    """The remedy where the recording times are too far apart to see neurons unlock; empty where they are not."""
    drift = cell.at("drift_norm", "start")[cell.at("cosine", "start") < 0]
    gap = float(np.diff(cell["time"]).max())
    if np.mean(gap * drift > FINEST) <= MOST_COARSE:
        return ""
    most = FINEST / float(np.quantile(drift, 1 - MOST_COARSE))
    step, steps = (cell.config["training"][key] for key in ("step_size", "steps"))
    if step > most:
        return f"recording has to be finer than the steps are: training.step_size = {most:.2g} at most, and a record of each"
    count = math.ceil(steps / (most // step)) + 1
    return f'recording is too coarse; record.times = {{ spacing = "linear", count = {count} }}, or more'


def predicted_clock(cell: CellResults, cosine: str = "cosine") -> np.ndarray:
    """τ* [network, neuron] of neurons with cos δ_0 < 0; NaN for the others.

    From another cosine than the true one: 0 where that is not below 0.
    """
    locked = cell.at("cosine", "start") < 0
    other = cell.at(cosine, "start")
    with np.errstate(divide="ignore", invalid="ignore"):
        q = cell.at("input_norm", "start") * np.maximum(-other, 0) / np.abs(cell.at("output_weight", "start"))
        return np.where(locked, np.arctanh(np.minimum(q, 1 / q)), np.nan)


def _observed(cell: CellResults) -> tuple[np.ndarray, np.ndarray]:
    """When neurons unlocked, or T if they did not by then, and whether they did [network, neuron]; NaN without a T."""
    steps = cell.state_step(T)
    end = np.where(steps >= 0, np.interp(steps, cell["step"], cell["time"]), np.nan)[:, None]
    times = cell["unlocking_time"]
    return np.minimum(times, end), times <= end


def _draw_times(cell: CellResults, colour: str, axes: Axes) -> None:
    """τ_obs against τ*, both on logarithmic scales, of the neurons that unlock by T."""
    times, came = _observed(cell)
    with np.errstate(divide="ignore", invalid="ignore"):
        predicted = np.log10(predicted_clock(cell))
        observed = np.log10(np.where(came, cell.at("drift_norm", "start") * times, np.nan))
    density_of_law(axes, predicted, observed, colour, (DRAWN, DRAWN), "the law: τ_obs = τ*")
    decades = range(int(DRAWN[0]), int(DRAWN[1]))
    axes.set_xticks(decades, [f"{10.0**k:g}" for k in decades])
    axes.set_yticks(decades, [f"{10.0**k:g}" for k in decades])
    axes.set(xlabel="τ* that the law says, pure number", ylabel="τ_obs = |D_a(0)| t, pure number")
    neurons = np.isfinite(predicted) & np.isfinite(observed)
    locked = np.nanmean(locked_share(cell)) if np.isfinite(locked_share(cell)).any() else 0.0
    legend_above(axes, f"{cell.name}: {neurons.sum():,} neurons of n = {len(cell.seeds):,} networks;\n{locked:.1%} of those "
                 "against their drift stay locked")


def concordance(cell: CellResults, cosine: str = "cosine") -> np.ndarray:
    """Harrell's C of t* = τ*/|D_a(0)| and the time observed, for each network."""
    with np.errstate(divide="ignore", invalid="ignore"):
        predicted = predicted_clock(cell, cosine) / cell.at("drift_norm", "start")
    return harrell_c(predicted, *_observed(cell))


def median_log_ratio(cell: CellResults) -> np.ndarray:
    """Median over the neurons that unlocked of log(τ_obs/τ*), for each network."""
    times, came = _observed(cell)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(cell.at("drift_norm", "start") * times / predicted_clock(cell))
    logs = np.where(came & np.isfinite(logs), logs, np.nan)
    out = np.full(len(logs), np.nan)
    some = np.isfinite(logs).any(axis=1)
    out[some] = np.nanmedian(logs[some], axis=1)
    return out


def unlocked_share(cell: CellResults) -> np.ndarray:
    """Share of the neurons with cos δ_0 < 0 that unlock by T, for each network; NaN for one that does not get there."""
    return _share(_observed(cell)[1], cell)


def locked_share(cell: CellResults) -> np.ndarray:
    """Share of the neurons with cos δ_0 < 0 that are locked at T, for each network."""
    smaller = cell.at("norm_product", T) < cell.at("norm_product", "start")
    against = ~(cell.at("cosine_late", T) > 0)
    return _share((cell.at("active", T) == 0) | (smaller & against), cell)


def _share(flags: np.ndarray, cell: CellResults) -> np.ndarray:
    against = cell.at("cosine", "start") < 0
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.sum(flags & against, axis=1) / np.sum(against, axis=1)
    return np.where(cell.state_step(T) >= 0, share, np.nan)


def share_of_change(cell: CellResults, part: np.ndarray) -> np.ndarray:
    """A part of the change of cos δ up to the unlocking over the whole, both summed over the neurons that unlock."""
    came = _observed(cell)[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(np.where(came, part, 0), axis=1) / np.sum(np.where(came, cell["unlocking_change"], 0), axis=1)


def drift_share(cell: CellResults) -> np.ndarray:
    """What is neither rotation nor a flip: by change of the drift."""
    return 1 - share_of_change(cell, cell["unlocking_rotation"] + cell["unlocking_jumps"])
