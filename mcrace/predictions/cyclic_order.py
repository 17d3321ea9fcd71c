"""cyclic-order: in the plane balanced neurons never overtake each other, whatever the task (text G; THEORY.md, Topology)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.angular_momentum import is_symmetric
from mcrace.predictions.base import NOT_TESTABLE, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import LEAST_NETWORKS, judge_mean, worst
from mcrace.predictions.panels import COLOURS, CONTROL, MAIN, Panel, legend_above
from mcrace.results import CellResults
from mcrace.statistics import Margin, share_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEVER = 1e-4  # share of groups that counts as none: below one group in all networks, unless these are many
RARELY = 0.02
LARGEST_STEP = 0.002  # η max|D| up to which descent stands for the flow
SELDOM = ("neurons overtake each other here, too, but seldom: those that would swing past the origin change sign(v) there, and "
          "are left out")
INSTEAD = "what keeps the order is balance, |v| = |w|, on any task; a momentum that is 0 keeps none"


class OrderOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.25, gt=0, lt=1, description="least share of groups whose order breaks from |v| = 2|w|")


@prediction("cyclic-order")
class CyclicOrder(Prediction):
    """In the plane the direction φ of a neuron turns as

        φ' = (v/|w|) D(φ)·e_φ.

    Balanced neurons of one sign, |v| = |w|, follow one field of directions, and so their cyclic order never breaks, on any
    task; with |v| = 2|w| the speed depends on the norm, and neurons overtake each other.

    Statistic: share of the groups of one sign of a network in which a neuron passes another by more than 0.01 rad: none in
    balanced cells (control: |v| = 2|w| on the same task), at least a quarter from |v| = 2|w| (control: balanced), and at most
    2 % from |w| = 2|v| (control: |v| = 2|w|), each on tasks with and without a rotation symmetry; it takes η max|D| ≤ 0.002.
    Text G has the angular momentum constrain rearrangements: where it is 0, from |v| = 2|w|, less than a quarter would break.
    """

    options = OrderOptions
    across = True
    meaning = {
        "supported": "In the plane, whether neurons can overtake each other hangs on the balance of their weights, and not "
                     "on the symmetry of the task.",
        "refuted": "The order of directions breaks where the law says that it cannot, or is kept where nothing keeps it.",
    }

    def needs(self, options: OrderOptions) -> Needs:
        return Needs(("order_broken", "largest_drift"))

    def judge(self, evidence: Evidence, options: OrderOptions) -> list[Verdict]:
        cells = [c for c in evidence.cells if in_plane(c)]
        found: dict[float, list[Verdict]] = {1.0: [], 0.5: [], 2.0: []}
        claims = []
        for cell in sorted(cells, key=lambda c: not is_symmetric(c)):
            ratio, beside = ratio_of(cell), {ratio_of(c): c for c in on_same_task(cell, cells)}
            if ratio in found:
                found[ratio].append(self._share(evidence, cell, beside, options))
            if ratio == 0.5 and is_symmetric(cell):
                claims.append(self._claim(evidence, cell, options))
        if not all(found.values()):
            return self.not_testable(evidence, "it takes cells in the plane (two inputs) of network.init.ratio = 1, 0.5 and 2, "
                                     "balanced, on the same tasks")
        most = [replace(self._over(some, told), primary=k == 0) for k, (some, told) in enumerate((
            (found[1.0], "broken orders, balanced, any task"), (found[0.5], "broken orders, |v| = 2|w|, any task"),
            (found[2.0], "broken orders, |w| = 2|v|, any task")))]
        return [*most, *(v for some in found.values() for v in some), *claims]

    @staticmethod
    def _over(verdicts: list[Verdict], statistic: str) -> Verdict:
        """All tasks together: the share furthest from the law decides."""
        high = np.isfinite(verdicts[0].margin.high)
        far = sorted(verdicts, key=lambda v: -v.estimate if high else v.estimate)
        found = worst(far)
        tasks = ", ".join(v.cell for v in verdicts)
        return replace(found, statistic=statistic, note="; ".join(n for n in (f"over {tasks}", found.note) if n))

    def _share(self, evidence: Evidence, cell: CellResults, beside: dict[float, CellResults], options: OrderOptions) -> Verdict:
        ratio = ratio_of(cell)
        margin, told = {1.0: (Margin(high=NEVER), "balanced"), 0.5: (Margin(low=options.margin), "|v| = 2|w|"),
                        2.0: (Margin(high=RARELY), "|w| = 2|v|")}[ratio]
        statistic, on = f"broken orders, {told}", replace(evidence, main=cell, half_step=evidence.halves.get(cell.name))
        largest = cell.config["training"]["step_size"] * float(np.nanmax(cell["largest_drift"]))
        if largest > LARGEST_STEP:
            return Verdict(self.name, cell.name, statistic, NOT_TESTABLE, margin=margin,
                           note=f"η max|D| is {largest:.2g}, and {LARGEST_STEP:g} at most stands for the flow")
        other = beside.get(1.0 if ratio == 0.5 else 0.5)
        if other is None:
            return Verdict(self.name, cell.name, statistic, NOT_TESTABLE, margin=margin,
                           note="there is no cell beside it on the same task, of |v| = 2|w| or balanced")
        found = judge_mean(self, on, statistic, margin, broken_share, margin.misses, control=other)
        seldom = SELDOM if ratio == 2.0 and found.verdict == "refuted" else ""
        return replace(found, note="; ".join(n for n in (seldom, found.note) if n))

    def _claim(self, evidence: Evidence, cell: CellResults, options: OrderOptions) -> Verdict:
        """Text G's: that the order cannot break where the momentum is 0; the control is a task where it is not."""
        on = replace(evidence, main=cell, half_step=evidence.halves.get(cell.name))
        margin = Margin(high=options.margin)
        others = [c for c in evidence.cells if in_plane(c) and ratio_of(c) == 0.5 and not is_symmetric(c)]
        found = judge_mean(self, on, "text G: broken orders, J = 0", margin, broken_share, margin.misses,
                           control=others[0] if others else None)
        return replace(found, note="; ".join(n for n in (INSTEAD if found.verdict == "refuted" else "", found.note) if n))

    def panels(self, evidence: Evidence, options: OrderOptions) -> list[Panel]:
        cells = [c for c in evidence.cells if in_plane(c) and np.isfinite(broken_share(c)).sum() >= LEAST_NETWORKS]
        if not cells:
            return []
        return [Panel("Share of networks in which neurons of one sign overtake each other, and its 95 % interval, by balance "
                      "and task.", partial(_draw_shares, cells, options.margin), len(cells))]


def in_plane(cell: CellResults) -> bool:
    """Whether directions are those of a plane, and |w|/|v| is the same for all neurons."""
    return cell.config["task"].get("dimension") == 2 and cell.config["network"]["init"]["balanced"]


def ratio_of(cell: CellResults) -> float:
    """network.init.ratio, |w|/|v| at the start."""
    return cell.config["network"]["init"]["ratio"]


def on_same_task(cell: CellResults, cells: list[CellResults]) -> list[CellResults]:
    """The cells with the same task."""
    return [c for c in cells if c.config["task"] == cell.config["task"]]


def broken_share(cell: CellResults) -> np.ndarray:
    """Share of the groups of one sign whose order breaks, for each network."""
    return cell["order_broken"]


def _draw_shares(cells: list[CellResults], least: float, axes: Axes) -> None:
    names = {1.0: "balanced", 0.5: "|v| = 2|w|", 2.0: "|w| = 2|v|"}
    colours = {1.0: MAIN, 0.5: CONTROL, 2.0: COLOURS[2]}
    for place, cell in enumerate(cells):
        share, colour = broken_share(cell), colours.get(ratio_of(cell), COLOURS[3])
        found = share_interval(share[np.isfinite(share)] > 0)
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.5)
        axes.plot(found.estimate, place, "o", color=colour, markersize=5, markeredgecolor="white", markeredgewidth=0.7)
    for ratio in (r for r in names if r in {ratio_of(c) for c in cells}):
        axes.plot([], [], "o", color=colours[ratio], label=names[ratio])
    axes.set_yticks(range(len(cells)), [f"{c.name}{' (J = 0)' if is_symmetric(c) else ''}" for c in cells])
    axes.set(ylim=(len(cells) - 0.5, -0.5), xlim=(-0.02, 1.02), xlabel="share of networks with a broken order,\npure number")
    axes.tick_params(axis="y", length=0)
    legend_above(axes, f"Order of directions,\nn = {min(len(c.seeds) for c in cells):,} networks a cell", columns=1)
