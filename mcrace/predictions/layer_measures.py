"""What depth-transfer measures in a layer of a network: one number a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mcrace.observe.capacity import fewest_kept
from mcrace.predictions.forms import Measure, Measured, median_of
from mcrace.predictions.half_rise import time_of_step
from mcrace.results import CellResults
from mcrace.statistics import log_slopes, partial_spearman_within, spearman_within, top_jaccard

END = "level=0.1"
EARLY = "onset"  # up to which the drift of the balance is looked at
LATE = ("start", "onset", "level=0.5", END)  # where identities are looked at
WINNERS = 0.1  # share of a layer's neurons
CURVES = ("merge_curve", "prune_curve", "prune_curve_rescaled")
NEEDED = (
    *(f"layer_{name}@{state}" for name in ("norm_product", "score", "active") for state in ("start", END)),
    *(f"layer_{name}@{state}" for name in ("imbalance", "imbalance_mixed", "growth_error", "growth_error_mixed")
      for state in LATE),
    *(f"layer_{name}@{state}" for name in ("balancedness", "input_norm") for state in ("start", EARLY)),
    *(f"layer_{name}@{state}" for name in ("alignment", "stable_rank") for state in ("start", END)),
    *(f"{what}_{curve}@{END}" for what in ("layer", "joint") for curve in CURVES),
    f"layer_clusters_95@{END}", "zero_loss@start", "layer_clock_score", "layer_clock_score_permuted",
    "layer_clock_log_norm_product", "layer_clock_time", "layer_revivals", "layer_deaths",
)
OfLayer = Callable[[CellResults, int], np.ndarray]


@dataclass(frozen=True)
class Layer:
    """Layer l of so many, from 0 on; as text, it ends the name of a statistic."""

    l: int
    count: int

    def __str__(self) -> str:
        return f", layer {self.l + 1} of {self.count}"

    def of(self, measure: OfLayer) -> Measure:
        """A measure of this layer."""
        return lambda cell: measure(cell, self.l)


def width(cell: CellResults, l: int) -> int:
    """Neurons of a layer."""
    return cell.config["network"]["hidden"][l]


def _neurons(cell: CellResults, observable: str, state: str, l: int) -> np.ndarray:
    """An observable of the neurons of a layer at a state [network, neuron]."""
    return cell.at(observable, state)[:, l, : width(cell, l)]


def clock_strikes(cell: CellResults, l: int) -> np.ndarray:
    """Whether the clock of a layer comes to 1 before the end [network]."""
    end = time_of_step(cell, cell.state_step(END))
    with np.errstate(invalid="ignore"):
        return cell["layer_clock_time"][:, l] < end


def _on_the_way(cell: CellResults, path: str, l: int) -> np.ndarray:
    """What a path left of the neurons of a layer at its clock [network, neuron]; NaN where the end came first."""
    return np.where(clock_strikes(cell, l)[:, None], cell[path][:, l, : width(cell, l)], np.nan)


def _strata(cell: CellResults, l: int) -> np.ndarray:
    """0 for the neurons of a layer that are on at the end, -1 for others."""
    return np.where(_neurons(cell, "layer_active", END, l) == 1, 0, -1)


def partial_ranks(cell: CellResults, l: int, score: str = "score") -> np.ndarray:
    """Partial Spearman correlation of the score at τ_ℓ = 1 and a_T, given log a at τ_ℓ = 1."""
    scores, size = (_on_the_way(cell, f"layer_clock_{name}", l) for name in (score, "log_norm_product"))
    return partial_spearman_within(scores, _neurons(cell, "layer_norm_product", END, l), size, _strata(cell, l))


def partial_ranks_at_start(cell: CellResults, l: int) -> np.ndarray:
    """The same with score and a at the start."""
    score, size, end = (_neurons(cell, f"layer_{name}", state, l) for name, state in
                        (("score", "start"), ("norm_product", "start"), ("norm_product", END)))
    return partial_spearman_within(score, end, size, _strata(cell, l))


def score_ranks(cell: CellResults, l: int) -> np.ndarray:
    """Spearman correlation of the score at τ_ℓ = 1 and a_T."""
    score = _on_the_way(cell, "layer_clock_score", l)
    return spearman_within(score, _neurons(cell, "layer_norm_product", END, l), _strata(cell, l))


def score_ranks_at_start(cell: CellResults, l: int) -> np.ndarray:
    """The same with the score at the start."""
    end = _neurons(cell, "layer_norm_product", END, l)
    return spearman_within(_neurons(cell, "layer_score", "start", l), end, _strata(cell, l))


def ranks(cell: CellResults, l: int) -> np.ndarray:
    """Spearman correlation of a at τ_ℓ = 1 and a_T."""
    size = _on_the_way(cell, "layer_clock_log_norm_product", l)
    return spearman_within(size, _neurons(cell, "layer_norm_product", END, l), _strata(cell, l))


def alignment_gain(cell: CellResults, l: int) -> np.ndarray:
    """A at the end less A at the start."""
    return cell.at("layer_alignment", END)[:, l] - cell.at("layer_alignment", "start")[:, l]


def clusters_share(cell: CellResults, l: int) -> np.ndarray:
    """N95/m at the end."""
    return cell.at("layer_clusters_95", END)[:, l] / width(cell, l)


def stable_rank(cell: CellResults, l: int) -> np.ndarray:
    """|W|_F²/|W|_2² at the end."""
    return cell.at("layer_stable_rank", END)[:, l]


def capacity(kind: str) -> OfLayer:
    """The measure K/m of a layer reduced alone: "merge", "prune" or "prune_rescaled"."""
    return lambda cell, l: _fewest(cell, cell.at(f"layer_{_curve(kind)}", END)[:, l]) / width(cell, l)


def joint_capacity(kind: str) -> Measure:
    """The same of all layers, reduced together to as many neurons, over the width of the widest."""
    return lambda cell: _fewest(cell, cell.at(f"joint_{_curve(kind)}", END)) / max(cell.config["network"]["hidden"])


def _curve(kind: str) -> str:
    reduced, _, more = kind.partition("_")
    return f"{reduced}_curve" + (f"_{more}" if more else "")


def _fewest(cell: CellResults, curves: np.ndarray) -> np.ndarray:
    return fewest_kept(curves, cell.at("zero_loss", "start"))


def locked_share(cell: CellResults, l: int) -> np.ndarray:
    """Share of the neurons with a score below 0 at the start that are dead at the end, or smaller and still below 0."""
    start, end = (_neurons(cell, "layer_score", state, l) for state in ("start", END))
    grown = _neurons(cell, "layer_norm_product", END, l) >= _neurons(cell, "layer_norm_product", "start", l)
    with np.errstate(invalid="ignore"):
        against = start < 0
        locked = (_neurons(cell, "layer_active", END, l) == 0) | (~grown & ~(end > 0))
        share = (against & locked).sum(axis=1) / against.sum(axis=1)
    return np.where(cell.state_step(END) >= 0, share, np.nan)


def revived_share(cell: CellResults, l: int) -> np.ndarray:
    """Share of the neurons that were dead at some recording time and came back later; NaN where none was dead."""
    dead, back = (cell[f"layer_{name}"][:, l, : width(cell, l)] > 0 for name in ("deaths", "revivals"))
    with np.errstate(invalid="ignore"):
        return back.sum(axis=1) / dead.sum(axis=1)


def ticket_overlap(cell: CellResults, l: int, by_norm: bool = False) -> np.ndarray:
    """Share of the tenth of a layer's neurons of highest (|w_out| + |w_in| score)²/4 at the start, or of highest a_0, that
    are among the tenth of highest a_T.
    """
    a, w_in, score = (_neurons(cell, f"layer_{name}", "start", l) for name in ("norm_product", "input_norm", "score"))
    with np.errstate(divide="ignore", invalid="ignore"):
        handicap = a if by_norm else (a / w_in + w_in * score) ** 2 / 4
    every = np.zeros(a.shape, np.int64)
    alike = top_jaccard(np.where(np.isnan(handicap), 0, handicap), _neurons(cell, "layer_norm_product", END, l), every, WINNERS)
    return 2 * alike / (1 + alike)


def ticket_lead(of: str, over: str) -> Measure:
    """The measure log(t of one ticket at its onset/t of another), trained again: how much earlier the other's loss drops.

    A ticket that has not come there when its steps are used up counts with the time of them all: fewer neurons a layer make a
    plateau longer, and in deep networks many times as long.
    """
    def measure(cell: CellResults) -> np.ndarray:
        times = np.where(np.isfinite(onsets := cell["layer_ticket_onset_time"]), onsets, cell["time"][-1])
        names, there = cell["layer_ticket"].tolist(), cell.state_step(END) >= 0
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log(times[:, names.index(of)] / times[:, names.index(over)])
        return np.where(there & np.isfinite(found), found, np.nan)

    return measure


def shares_in_time(cell: CellResults) -> dict[str, float]:
    """Share of the networks in which a ticket came to its onset within its steps, by ticket."""
    came = np.isfinite(cell["layer_ticket_onset_time"][cell.state_step(END) >= 0])
    return dict(zip(cell["layer_ticket"].tolist(), (came.sum(axis=0) / max(1, len(came))).tolist()))


# ------------------------------------------------------------------------------------------------- exact laws


def largest(observable: str) -> Measure:
    """The measure: the largest of all layers at all of a few moments, as far as a network got."""
    def measure(cell: CellResults) -> np.ndarray:
        found = np.stack([cell.at(observable, state).max(axis=1) for state in LATE], axis=1)
        found = np.where([cell.state_step(state) >= 0 for state in LATE], found.T, -np.inf).max(axis=0)
        return np.where(np.isfinite(found), found, np.nan)

    return measure


def _of_layers(cell: CellResults, values: np.ndarray) -> np.ndarray:
    """Σ over layers of the median over neurons, relative to that of |w_0|², of values [network, layer, neuron]."""
    medians = [median_of(values[:, l]) / median_of(cell.at("layer_input_norm", "start")[:, l] ** 2)
               for l in range(values.shape[1])]
    return np.cumsum(medians, axis=0)[-1]


def _drifts(cell: CellResults, norms: bool) -> np.ndarray:
    """Change of |w_in|² - |w_out|² from the start to the onset, of |w_in|² if `norms` [network, layer, neuron]."""
    power, name = (2, "layer_input_norm") if norms else (1, "layer_balancedness")
    return cell.at(name, EARLY) ** power - cell.at(name, "start") ** power


def _of_both(cell: CellResults, half: CellResults, measure: Measure) -> tuple[np.ndarray, list[np.ndarray]]:
    seeds = np.intersect1d(cell.seeds, half.seeds)
    return seeds, [Measured.of(c, measure).on(seeds) for c in (cell, half)]


def balance_slopes(cell: CellResults, half: CellResults, norms: bool = False) -> Measured:
    """Slope of the log of the |drift| of all layers on log η, for each network that both cells have."""
    seeds, sizes_of_drift = _of_both(cell, half, lambda c: _of_layers(c, abs(_drifts(c, norms))))
    steps = np.array([c.config["training"]["step_size"] for c in (cell, half)])
    return Measured(cell.name, seeds, log_slopes(steps, np.stack(sizes_of_drift, axis=1)))


def limit_drifts(cell: CellResults, half: CellResults, norms: bool = False) -> Measured:
    """The |drift| of all layers at η → 0, on a line through both step sizes, relative to |w_0|²."""
    both = np.intersect1d(cell.seeds, half.seeds)
    whole, part = (_drifts(c, norms)[np.searchsorted(c.seeds, both)] for c in (cell, half))
    limit = np.full((len(cell.seeds), *whole.shape[1:]), np.nan)
    limit[np.searchsorted(cell.seeds, both)] = abs(2 * part - whole)
    return Measured(cell.name, cell.seeds, _of_layers(cell, limit))


def onset_times(cell: CellResults, half: CellResults) -> list[Measured]:
    """t at the onset, at both step sizes, of the networks that both cells have."""
    seeds = np.intersect1d(cell.seeds, half.seeds)
    found = [Measured.of(c, lambda c: time_of_step(c, c.state_step(EARLY))) for c in (cell, half)]
    return [Measured(m.cell, seeds, m.on(seeds)) for m in found]


def drift_of(cell: CellResults) -> float:
    """The |drift| of all layers up to the onset, relative to |w_0|²: the median network."""
    return float(np.nanmedian(_of_layers(cell, abs(_drifts(cell, norms=False)))))


def rounding_of(cell: CellResults) -> float:
    """What rounding may add to |w|² up to the onset, in every layer, relative to |w_0|²: half a unit in the last place of each
    weight a step, if all of one sign.
    """
    steps = cell.state_step(EARLY)
    unit = float(np.finfo(cell.config["training"]["dtype"]).eps)
    return unit * float(np.median(steps[steps >= 0])) * len(cell.config["network"]["hidden"]) if (steps >= 0).any() else 0.0
