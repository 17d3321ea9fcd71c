"""depth-transfer: what the race does in one hidden layer it does in every layer of a deep network (THEORY.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import (
    INCONCLUSIVE,
    NOT_TESTABLE,
    REFUTED,
    REPORTED,
    SUPPORTED,
    WORST_FIRST,
    Evidence,
    Needs,
    Options,
    Prediction,
    Verdict,
    prediction,
)
from mcrace.predictions.forms import (
    MOST_DROPPED,
    Measured,
    judge_contrast,
    judge_mean,
    judge_measured,
    report_mean,
    report_measured,
)
from mcrace.predictions.layer_measures import (
    NEEDED,
    Layer,
    OfLayer,
    alignment_gain,
    balance_slopes,
    capacity,
    clock_strikes,
    clusters_share,
    drift_of,
    joint_capacity,
    largest,
    limit_drifts,
    locked_share,
    onset_times,
    partial_ranks,
    partial_ranks_at_start,
    ranks,
    revived_share,
    rounding_of,
    score_ranks,
    score_ranks_at_start,
    shares_in_time,
    stable_rank,
    ticket_lead,
    ticket_overlap,
)
from mcrace.predictions.layer_table import (
    TABLE_LINES,
    Entry,
    draw_layers,
    draw_table,
    entries,
    name_of_task,
    networks_of,
    point_of,
)
from mcrace.predictions.panels import Panel, legend_above
from mcrace.results import CellResults
from mcrace.statistics import Margin, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RACING = "partial rank correlation of score and a_T"
HIGH_RANK, LOW_RANK = 0.6, 0.3
LAZY_GAIN, LAZY_CLUSTERS, LAZY_LOCKED, OTHER_TICKETS = 0.1, 0.5, 0.3, 0.4
EXACT, GROWTH, MIXED = 1e-12, 1e-6, 1e-3  # relative errors: of the balance, of the growth law, and at least of their controls
DRAWN: dict[str, tuple[OfLayer, OfLayer, Margin]] = {  # measures of a layer in main cells and in lazy ones, and the margin
    RACING: (partial_ranks, partial_ranks_at_start, Margin(low=0.2)),
    "gain of alignment A": (alignment_gain, alignment_gain, Margin(low=0.3)),
    "N95/m": (clusters_share, clusters_share, Margin(high=0.25)),
    "K_merge/m": (capacity("merge"), capacity("merge"), Margin()),
    "stable rank": (stable_rank, stable_rank, Margin()),
    "tickets among the winners": (ticket_overlap, ticket_overlap, Margin(low=0.6)),
}
DRIFT_SLOPE, DRIFT = 0.05, 1e-2  # margins of the slope of the drift in the step, and of what no step leaves over |w_0|²


class DepthTransferOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.2, gt=0, lt=1, description="least partial rank correlation of the score at the layer clock")
    ratio: float = Field(0.5, gt=0, lt=1, description="largest ratio to lazy networks: capacity and stable rank")


@prediction("depth-transfer")
class DepthTransfer(Prediction):
    """In every hidden layer of a deeper network neurons race as in one:

        d log a/dt = (w_in·w_in')(1/|w_in|² + 1/|w_out|²), |w_in|² - |w_out|² = const,

    with a = |w_in||w_out|.  They align, the score cos∠(w_in, -∂L/∂w_in) at the layer's own clock τ_ℓ = ∫ median_a(|w_in'|/
    |w_out|) dt = 1 says more of their norm in the end than their norm at that time does, and capacity falls to what the task
    needs.

    Statistics, per layer, where a tenth of the loss is left: the partial Spearman correlation of the score at τ_ℓ = 1 and
    a_T given log a at τ_ℓ = 1, at least 0.2 and above lazy networks, which never get to τ_ℓ = 1: there at t = 0 (given log
    a_0 it tells how fast a neuron grows, which follows from its score in a lazy network, too), and with labels shuffled for
    the score; beside it the plain one, at least 0.6, lazy at most 0.3; gain of alignment A, at least 0.3; N95/m, at most 1/4;
    K_merge, K_prune rescaled, and the stable rank |W|_F²/|W|_2², at most half of lazy; the share of neurons with a score
    below 0 at the start that stays locked, at most 0.05; the overlap with the winners of as many neurons (a tenth) of
    highest (|w_out| + |w_in| score)²/4 at the start, at least 0.6, where those of highest a_0 have at most 0.4.  For the
    network: joint capacities; the largest relative error of the balance, 1e-12, and of the growth law, 1e-6, at four moments;
    the slope of the log of the drift of |w_in|² - |w_out|² on log η, 1 ± 0.05, and what is left of it at η → 0, at most 1e-2
    |w_0|², which |w_in|² alone does not keep.

    Control: lazy networks of the same task and layers (init.subtract_start or paired), told by themselves.  Each note says
    whether a claim carries over, weakens, and to which part of what it is in one layer, or fails; or that it does not
    discriminate, where its control does not fail.
    """

    options = DepthTransferOptions
    across = True
    meaning = {
        SUPPORTED: "The claim carries over to this layer: it holds within its margin, and not in lazy networks.",
        "refuted": "The claim does not hold in this layer as it does in one; the note says whether it weakens or fails.",
    }

    def needs(self, options: DepthTransferOptions) -> Needs:
        return Needs(NEEDED, stages=("layer-tickets",), half_step_stages=False)

    def judge(self, evidence: Evidence, options: DepthTransferOptions) -> list[Verdict]:
        lazy, cells = _lazy_cells(evidence), [c for c in _all(evidence) if not is_lazy(c)]
        if not cells:
            return self.not_testable(evidence, "all cells are lazy, so nothing is left to be judged")
        rows = []
        for cell in cells:
            its = replace(evidence, main=cell, control=lazy.get(layers_of(cell)), half_step=evidence.halves.get(cell.name))
            rows += self._of_cell(its, options)
        return with_words(rows, cells)

    def panels(self, evidence: Evidence, options: DepthTransferOptions) -> list[Panel]:
        cells = _all(evidence)
        table = cache(lambda: entries(self.judge(evidence, options), {c.name: c.config for c in cells}))
        places = list(dict.fromkeys((name_of_task(c.config), scale_of(c)) for c in cells if not is_lazy(c)))
        words = ("What becomes of each claim on {} from starts of scale {:g}, layer by layer and by depth; what weakens, to "
                 "which part of its effect in one layer, its distance from the control.")
        caption = "{} on {}: in every layer, by depth and by the scale of the start; median, and half of the networks."
        return [*(Panel(words.format(*place), partial(_draw_words, *place, table), TABLE_LINES) for place in places),
                *(Panel(caption.format(claim, task), partial(_draw, claim, task, cells))
                  for task in dict.fromkeys(task for task, _ in places) for claim in DRAWN)]

    def _of_cell(self, evidence: Evidence, options: DepthTransferOptions) -> list[Verdict]:
        count = depth_of(evidence.main)
        layers = [self._of_layer(evidence, options, Layer(l, count)) for l in range(count)]
        return [self._primary([rows[0] for rows in layers]), *(row for rows in layers for row in rows),
                *self._of_network(evidence, options)]

    def _primary(self, racing: list[Verdict]) -> Verdict:
        """The race of the layer in which it is weakest."""
        weakest = min(racing, key=lambda v: (WORST_FIRST.index(v.verdict), v.low))
        layer = weakest.statistic.removeprefix(f"{RACING}, ")
        return replace(weakest, statistic=f"{RACING}, weakest layer", primary=True, p=float(np.max([v.p for v in racing])),
                       note="; ".join(filter(None, [weakest.note, layer])))

    def _of_layer(self, evidence: Evidence, options: DepthTransferOptions, layer: Layer) -> list[Verdict]:
        mean = partial(judge_mean, self, evidence)
        ratio = Margin(high=options.ratio)
        contrasts = {"K_merge": capacity("merge"), "K_prune rescaled": capacity("prune_rescaled"), "stable rank": stable_rank}
        at_clock = [
            self._racing(evidence, options, layer),
            mean(f"{RACING}, control: shuffled labels{layer}", Margin(low=options.margin), layer.of(partial_ranks),
                 lambda i: i.high < options.margin, layer.of(partial(partial_ranks, score="score_permuted")), evidence.main),
            mean(f"rank correlation of score and a_T, τ = 1{layer}", Margin(low=HIGH_RANK), layer.of(score_ranks),
                 lambda i: i.high <= LOW_RANK, layer.of(score_ranks_at_start)),
            report_mean(self, evidence, f"rank correlation of a(τ = 1) and a_T{layer}", layer.of(ranks))]
        return [
            *(with_clock(row, evidence.main, layer) for row in at_clock),
            mean(f"rank correlation of score and a_T, t = 0{layer}", Margin(low=HIGH_RANK), layer.of(score_ranks_at_start),
                 lambda i: i.high <= LOW_RANK),
            mean(f"gain of alignment A{layer}", Margin(low=0.3), layer.of(alignment_gain), lambda i: i.high < LAZY_GAIN),
            mean(f"N95/m{layer}", Margin(high=0.25), layer.of(clusters_share), lambda i: i.low > LAZY_CLUSTERS),
            *(judge_contrast(self, evidence, f"{name}, ratio main/control{layer}", ratio, layer.of(measure), True)
              for name, measure in contrasts.items()),
            mean(f"share that stays locked{layer}", Margin(high=0.05), layer.of(locked_share), lambda i: i.low >= LAZY_LOCKED),
            mean(f"tickets among the winners{layer}", Margin(low=0.6), layer.of(ticket_overlap),
                 lambda i: i.high <= OTHER_TICKETS, layer.of(partial(ticket_overlap, by_norm=True)), evidence.main),
            report_mean(self, evidence, f"K_prune/m{layer}", layer.of(capacity("prune"))),
            self._revived(evidence, layer)]

    def _revived(self, evidence: Evidence, layer: Layer) -> Verdict:
        row = report_mean(self, evidence, f"dead neurons that come back{layer}", layer.of(revived_share))
        return row if row.networks else replace(row, note="no neuron of the layer was dead at any recording time")

    def _racing(self, evidence: Evidence, options: DepthTransferOptions, layer: Layer) -> Verdict:
        """Above the margin, and above lazy: the control fails where its interval lies below the main one."""
        statistic, main = f"{RACING}{layer}", Measured.of(evidence.main, layer.of(partial_ranks))
        found = main.values[np.isfinite(main.values)]
        low = mean_interval(found, evidence.rng(self.name, statistic)).low if len(found) > 1 else np.nan
        return judge_mean(self, evidence, statistic, Margin(low=options.margin), layer.of(partial_ranks),
                          lambda i: i.high < low, measure_control=layer.of(partial_ranks_at_start))

    def _of_network(self, evidence: Evidence, options: DepthTransferOptions) -> list[Verdict]:
        ratio = Margin(high=options.ratio)
        return [
            *(judge_contrast(self, evidence, f"{name}, all layers, ratio main/control", ratio, joint_capacity(curve), True)
              for name, curve in (("K_merge", "merge"), ("K_prune rescaled", "prune_rescaled"))),
            self._exact(evidence, "error of the balance", "layer_imbalance", EXACT),
            self._exact(evidence, "error of the growth law", "layer_growth_error", GROWTH),
            *self._drift(evidence),
            *self._leads(evidence)]

    def _leads(self, evidence: Evidence) -> list[Verdict]:
        """How much earlier the loss drops of a ticket of high handicap than of others."""
        main, shares = evidence.main, shares_in_time(evidence.main)
        others, statistic = ("random", "a0", "winners"), "log onset time, {} over handicap tickets"
        note = "in time: " + ", ".join(f"{shares[name]:.0%} of {name}" for name in ("handicap", *others))
        return [report_measured(self, evidence, statistic.format(other), Measured.of(main, ticket_lead(other, "handicap")),
                                note=note) for other in others]

    def _exact(self, evidence: Evidence, statistic: str, observable: str, most: float) -> Verdict:
        """An identity at a point, with the outgoing weights of another neuron as its control: no step has a part in it."""
        if why := not_plain(evidence.main):
            return Verdict(self.name, evidence.main.name, statistic, NOT_TESTABLE, note=why)
        main, mixed = (Measured.of(evidence.main, largest(name)) for name in (observable, f"{observable}_mixed"))
        return judge_measured(self, evidence, statistic, Margin(high=most), main, mixed, lambda i: i.low > MIXED,
                              cells=(evidence.main,), has_step_error=False)

    def _drift(self, evidence: Evidence) -> list[Verdict]:
        main, half = evidence.main, evidence.half_step
        slope, limit = "slope of log drift of the balance on log η", "drift of the balance at η → 0 over |w_0|²"
        why = not_plain(main) or (unlike_onsets(main, half) if half else "it takes the cell at half the step, too")
        if why:
            return [Verdict(self.name, main.name, s, NOT_TESTABLE, note=why) for s in (slope, limit)]
        assert half is not None
        of_slope, of_limit = Margin(1 - DRIFT_SLOPE, 1 + DRIFT_SLOPE), Margin(high=DRIFT)
        return [with_rounding(judge_measured(self, evidence, statistic, margin, measure(main, half),
                                             measure(main, half, norms=True), margin.misses, None, (main,),
                                             has_step_error=False), half)
                for statistic, margin, measure in ((slope, of_slope, balance_slopes), (limit, of_limit, limit_drifts))]


def is_lazy(cell: CellResults) -> bool:
    """Whether a cell is a lazy control: its output is 0 at the start by subtraction, or by pairs of neurons."""
    init = cell.config["network"]["init"]
    return init["subtract_start"] or init["paired"]


def scale_of(cell: CellResults) -> float:
    """The scale of the start, in every layer."""
    return cell.config["network"]["init"]["scale"]


def depth_of(cell: CellResults) -> int:
    """The number of hidden layers."""
    return len(cell.config["network"]["hidden"])


def layers_of(cell: CellResults) -> str:
    """The task and the layers of a cell, which it has in common with its control."""
    network = {key: value for key, value in cell.config["network"].items() if key != "init"}
    return repr((cell.config["task"], network))


def not_plain(cell: CellResults) -> str:
    """Why |w_in|² - |w_out|² is not expected to be conserved in a cell; empty where it is."""
    network, training = cell.config["network"], cell.config["training"]
    if network["residual"] or network["norm"]:
        return "the balance is that of plain layers, without residual connections and normalisations"
    if training["method"] != "gd" or training["batch"] or training["weight_decay"]:
        return "the balance is that of plain descent"
    return ""


def unlike_onsets(cell: CellResults, half: CellResults) -> str:
    """Why the drifts of the balance up to the onset cannot be compared at two step sizes; empty where they can."""
    times = np.stack([m.values for m in onset_times(cell, half)])
    times = times[:, (times > 0).all(axis=0)]
    apart = float(np.mean(abs(np.log(times[0] / times[1])))) if times.size else 0.0
    few = "the onset is too few steps from the start: its times at both step sizes differ by {:.0%}"
    return few.format(apart) if apart > DRIFT_SLOPE * np.log(2) else ""


def with_clock(verdict: Verdict, cell: CellResults, layer: Layer) -> Verdict:
    """The verdict, with a note on networks whose loss has gone before half of a layer's neurons have moved."""
    share = np.mean(clock_strikes(cell, layer.l))
    note = f"the layer's clock came to 1 before the end in {share:.0%} of the networks"
    return verdict if share > 1 - MOST_DROPPED else replace(verdict, note="; ".join(filter(None, [verdict.note, note])))


def with_rounding(verdict: Verdict, half: CellResults) -> Verdict:
    """A refutation by drifts that rounding may have made is none: rounding does not shrink with the step."""
    rounding, drift = rounding_of(half), drift_of(half)
    if verdict.verdict != REFUTED or rounding < drift:
        return verdict
    note = f"rounding may add up to {rounding:.2g} |w_0|² before the onset, and the drift at half the step is {drift:.2g}"
    return replace(verdict, verdict=INCONCLUSIVE, note="; ".join(filter(None, [note, verdict.note])))


def _all(evidence: Evidence) -> Sequence[CellResults]:
    """All main cells; and the control of the options, if there is one."""
    return [*evidence.cells, *([evidence.control] if evidence.control else [])]


def _lazy_cells(evidence: Evidence) -> dict[str, CellResults]:
    return {layers_of(c): c for c in _all(evidence) if is_lazy(c)}


def _draw_words(task: str, scale: float, table: Callable[[], list[Entry]], axes: Axes) -> None:
    some = [e for e in table() if (e.task, e.scale) == (task, scale)]
    draw_table(some, axes)
    counts = sorted({e.verdict.networks for e in some if not e.verdict.primary}) or [0]
    legend_above(axes, f"n = {counts[-1]:,} networks at most", columns=1)


def _draw(claim: str, task: str, cells: Sequence[CellResults], axes: Axes) -> None:
    measure, of_lazy, margin = DRAWN[claim]
    some = [c for c in cells if name_of_task(c.config) == task]
    points, lazy = ([point_of(c, l + 1, found(c, l)) for c in some if is_lazy(c) == grey for l in range(depth_of(c))]
                    for grey, found in ((False, measure), (True, of_lazy)))
    draw_layers(points, lazy, margin, axes)
    axes.set_ylabel(f"{claim},\npure number")
    legend_above(axes, f"{task}: n = {networks_of(points)} networks a point", columns=1)


# ------------------------------------------------------------------------------------------------- what becomes of claims


def with_words(verdicts: Sequence[Verdict], cells: Sequence[CellResults]) -> list[Verdict]:
    """The verdicts, with what becomes of each claim in their notes."""
    configs = {c.name: c.config for c in cells}
    reference = {(e.task, e.claim, e.scale): e for e in entries(verdicts, configs) if e.depth == 1 and e.layer in (0, 1)}
    out = []
    for verdict, entry in zip(verdicts, entries(verdicts, configs), strict=True):
        alike = [e for (task, claim, _), e in reference.items() if (task, claim) == (entry.task, entry.claim)]
        nearest = min(alike, key=lambda e: abs(np.log(e.scale / entry.scale)), default=None)
        word = becomes(verdict, nearest.verdict if nearest and entry.depth > 1 else None)
        out.append(replace(verdict, note="; ".join(filter(None, [word, verdict.note]))))
    return out


def becomes(verdict: Verdict, in_one_layer: Verdict | None = None) -> str:
    """What becomes of a claim: supported, it carries over, or holds; refuted, it weakens, and to how much of what it is in one
    layer, where it is not refuted there, or fails.  Else it is not discriminating, if its control does not fail, or left
    open.  Empty for numbers that are reported.
    """
    if verdict.verdict == SUPPORTED:
        return "carries over" if in_one_layer and in_one_layer.verdict == SUPPORTED else "holds"
    if verdict.verdict in (NOT_TESTABLE, REPORTED):
        return "not testable" if verdict.verdict == NOT_TESTABLE else ""
    discriminates = verdict.control is None or verdict.control.failed
    if verdict.verdict != REFUTED:
        return "left open" if discriminates else "not discriminating"
    if in_one_layer and in_one_layer.verdict == REFUTED:
        return "fails, as in one layer"
    effect, at_least = effect_of(verdict)
    whole = effect_of(in_one_layer)[0] if in_one_layer else np.nan
    weaker = discriminates and at_least > 0 and effect < whole
    return f"weakens to {effect / whole:.0%} of one layer's effect" if weaker else "fails"


def effect_of(verdict: Verdict) -> tuple[float, float]:
    """How far a statistic is from its control in the direction that the claim says, and how far at least: where it is
    positive, the intervals are disjoint.
    """
    if "ratio main/control" in verdict.statistic:
        return 1 - verdict.estimate, 1 - verdict.high
    if verdict.control is None:
        return np.nan, np.nan
    if np.isfinite(verdict.margin.low):
        return verdict.estimate - verdict.control.estimate, verdict.low - verdict.control.high
    return verdict.control.estimate - verdict.estimate, verdict.control.low - verdict.high
