"""sign-and-death: which output weights change sign, and that the dead stay where they are (THEORY.md, sign-and-death)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from mcrace.predictions.base import NOT_TESTABLE, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import Measured, is_plain_descent, judge_mean, judge_measured
from mcrace.results import CellResults
from mcrace.statistics import Margin

EARLY = "onset"
NEVER = 1e-4  # share of flips that counts as none: below one neuron in all networks, unless these are many
ROUNDING = 1e-6  # of |w|: in float32, balanced norms are equal up to this
MOVED = 0.5


class SignOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.02, gt=0, lt=1, description="half width of the margin of shares of flips")


@prediction("sign-and-death")
class SignAndDeath(Prediction):
    """An output weight never changes its sign if |v_0| ≥ |w_0|.  If the drift stays as it is, it does so if and only if
    cos δ_0 < -|v_0|/|w_0|.  A dead neuron, on at no sample, never moves.

    Statistics, over all cells together: in cells where |w_0| > |v_0|, per network, the share of neurons whose sign has
    changed by the onset less the share that the law says (0 ± 0.02; control: a lazy cell, in which few change), and the
    share of neurons whose sign does not do as the law says (at most 0.02; control: cos δ_0 from shuffled labels); in cells
    where |v_0| ≥ |w_0|, the share whose sign has ever changed (none; control: the cell of the largest |w_0|/|v_0|, where it
    must be above the margin); in cells with dead neurons, the share of these that have moved by a bit (none; control: the
    living).
    """

    options = SignOptions
    across = True
    law = "sign(v) flips  ⇔  cos δ_0 < -|v_0|/|w_0|"
    meaning = {
        "supported": "Output weights change their sign where the start says so and nowhere else, and dead "
                     "neurons stay where they are.",
        "refuted": "Output weights change sign where the start does not say so, or do not where it does, or "
                   "dead neurons move.",
    }

    def needs(self, options: SignOptions) -> Needs:
        start = tuple(f"{n}@start" for n in ("input_norm", "output_weight", "cosine", "cosine_permuted", "active"))
        return Needs((*start, f"output_weight@{EARLY}", "sign_flips", "displacement@final"))

    def judge(self, evidence: Evidence, options: SignOptions) -> list[Verdict]:
        cells = [c for c in evidence.cells if is_plain_descent(c)]
        above = [c for c in cells if not _sheltered(c).any()]
        most = max(above, key=_ratio, default=None)
        found = [v for cell in sorted(above, key=_ratio, reverse=True) for v in self._shares(_on(evidence, cell), options)]
        found += [self._never(_on(evidence, cell), most) for cell in cells if _sheltered(cell).all()]
        found += [self._dead(_on(evidence, cell)) for cell in cells if _dead(cell).any()]
        if not found:
            return self.not_testable(evidence, "it takes cells of plain descent with network.init.ratio above, or up to, 1")
        return [replace(v, primary=k == 0) for k, v in enumerate(found)]

    def _shares(self, evidence: Evidence, options: SignOptions) -> list[Verdict]:
        ratio, margin = _ratio(evidence.main), Margin(-options.margin, options.margin)
        shares = judge_mean(self, evidence, f"share of sign flips less the law's, |w|/|v| = {ratio:.3g}", margin,
                            flips_less_law, margin.misses)
        shares = replace(shares, note="; ".join(n for n in (shares.note, _flips_told(evidence.main)) if n))
        most = Margin(high=options.margin)
        return [shares, judge_mean(self, evidence, f"signs not by the law, |w|/|v| = {ratio:.3g}", most, signs_not_by_law,
                                   most.misses, lambda c: signs_not_by_law(c, "cosine_permuted"), evidence.main)]

    def _never(self, evidence: Evidence, most: CellResults | None) -> Verdict:
        statistic, margin = f"share of sign flips, |w|/|v| = {_ratio(evidence.main):.3g}", Margin(high=NEVER)
        if most is None:
            return Verdict(self.name, evidence.main.name, statistic, NOT_TESTABLE, margin=margin,
                           note="there is no cell with |w|/|v| above 1 beside it, in which signs do change")
        found = judge_mean(self, evidence, statistic, margin, flip_shares, margin.misses, control=most)
        return replace(found, note="; ".join(n for n in (found.note, _flips_told(evidence.main)) if n))

    def _dead(self, evidence: Evidence) -> Verdict:
        """Over the networks that have a dead neuron."""
        cell, some = evidence.main, _dead(evidence.main).any(axis=1)
        dead, living = (Measured(cell.name, cell.seeds[some], moved_shares(cell, of)[some]) for of in ("dead", "living"))
        fails = lambda i: i.low > MOVED
        return judge_measured(self, evidence, "share of dead neurons that moved", Margin(high=NEVER), dead, living, fails,
                              None, (cell,), has_step_error=False)


def _on(evidence: Evidence, cell: CellResults) -> Evidence:
    """The evidence on one of the cells."""
    return replace(evidence, main=cell, half_step=evidence.halves.get(cell.name))


def _ratio(cell: CellResults) -> float:
    """The median |w_0|/|v_0|."""
    return float(np.median(cell.at("input_norm", "start") / abs(cell.at("output_weight", "start"))))


def _sheltered(cell: CellResults) -> np.ndarray:
    """Whether |v_0| ≥ |w_0| [network, neuron]."""
    return abs(cell.at("output_weight", "start")) >= (1 - ROUNDING) * cell.at("input_norm", "start")


def _dead(cell: CellResults) -> np.ndarray:
    return cell.at("active", "start") == 0


def _flips_told(cell: CellResults) -> str:
    flips = cell["sign_flips"]
    flips = flips[flips >= 0]
    return f"{flips.sum():,} sign flips of {flips.size:,} neurons, at most {flips.max(initial=0)} of one"


def flip_shares(cell: CellResults) -> np.ndarray:
    """The share of neurons whose sign has ever changed at a recording time, for each network."""
    flips = cell["sign_flips"]
    return np.where((flips >= 0).all(axis=1), np.mean(flips > 0, axis=1), np.nan)


def _flipped(cell: CellResults) -> np.ndarray:
    """1 where the sign at the onset is not that of the start, else 0; NaN without an onset [network, neuron]."""
    product = cell.at("output_weight", EARLY) * cell.at("output_weight", "start")
    return np.where(np.isnan(product), np.nan, product < 0)


def _by_law(cell: CellResults, cosine: str = "cosine") -> np.ndarray:
    """Whether the sign should change [network, neuron]; that of a dead neuron, without a cosine, should not."""
    return cell.at(cosine, "start") * cell.at("input_norm", "start") < -abs(cell.at("output_weight", "start"))


def flips_less_law(cell: CellResults) -> np.ndarray:
    """The share of signs that changed by the onset less the share that should, for each network."""
    return np.mean(_flipped(cell) - _by_law(cell), axis=1)


def signs_not_by_law(cell: CellResults, cosine: str = "cosine") -> np.ndarray:
    """The share of neurons whose sign changed but should not, or the other way round, for each network."""
    return np.mean(abs(_flipped(cell) - _by_law(cell, cosine)), axis=1)


def moved_shares(cell: CellResults, of: str) -> np.ndarray:
    """The share of the neurons that are "dead" at the start, or "living", that moved at all, for each network."""
    chosen = _dead(cell) if of == "dead" else ~_dead(cell)
    moved = np.where(np.isnan(cell.at("displacement", "final")), np.nan, cell.at("displacement", "final") > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(np.where(chosen, moved, 0), axis=1) / chosen.sum(axis=1)
