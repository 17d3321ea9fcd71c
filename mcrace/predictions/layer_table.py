"""The verdicts on layers as one table, layer by depth by scale of the start, and pictures of it as small multiples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mcrace.predictions.base import SUPPORTED, Verdict
from mcrace.predictions.panels import COLOURS, INK
from mcrace.results import CellResults
from mcrace.statistics import Margin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OF_LAYER = re.compile(r", layer (\d+) of \d+$")
# What the note of a verdict on a claim begins with, and how a table says it.
WORDS = {"carries over": "yes", "holds": "yes", "weakens": "", "fails": "no", "not discriminating": "n.d.",
         "left open": "open", "not testable": "-"}
MEANING = {"yes": "+ holds, or carries over", "60 %": "60 weakens to 60 %", "no": "- fails",
           "n.d.": "= not discriminating", "open": "? inconclusive", "-": "· not testable"}
# What R claims, and the statistics that stand for it, by the names in the table.
CLAIMS = {
    "racing": {"partial rank correlation of score and a_T": "partial, above lazy",
               "partial rank correlation of score and a_T, control: shuffled labels": "partial, shuffled",
               "rank correlation of score and a_T, τ = 1": "rank, τ = 1",
               "rank correlation of score and a_T, t = 0": "rank, t = 0"},
    "alignment": {"gain of alignment A": "gain of A", "N95/m": "N95/m"},
    "merging": {"K_merge, ratio main/control": "K_merge", "K_merge, all layers, ratio main/control": "K_merge, jointly"},
    "pruning": {"K_prune rescaled, ratio main/control": "K_prune",
                "K_prune rescaled, all layers, ratio main/control": "K_prune, jointly"},
    "unlocking": {"share that stays locked": "stay locked"},
    "tickets": {"tickets among the winners": "win"},
    "rank": {"stable rank, ratio main/control": "stable rank"},
    "balance": {"error of the balance": "exact", "error of the growth law": "growth law",
                "slope of log drift of the balance on log η": "drift in η",
                "drift of the balance at η → 0 over |w_0|²": "drift at η → 0"},
}
SHADES = {"yes": "#009e73", "60 %": "#e69f00", "no": "#d55e00", "n.d.": "#8c8c8c", "open": "#d0d0d0", "-": "none"}
FAINT = 0.35  # opacity of a shade, below text
FEW = 12  # columns: more take smaller letters
TABLE_LINES = 12
GAP, ASIDE = 0.8, 0.16  # between the layers of one depth and those of the next; between the scales of one layer
LAZY = "0.5"


@dataclass(frozen=True)
class Entry:
    """A verdict and its place in the table.

    Attributes
    ----------
    task : str
    depth : int
        Hidden layers.
    scale : float
        network.init.scale, in every layer.
    layer : int
        From 1 on; 0: the network as a whole.
    claim : str
    verdict : Verdict
    """

    task: str
    depth: int
    scale: float
    layer: int
    claim: str
    verdict: Verdict

    @property
    def becomes(self) -> str:
        """What becomes of the claim, in a few words; empty where it cannot be told."""
        return self.verdict.note.partition(";")[0] if self.verdict.note.startswith(tuple(WORDS)) else ""

    @property
    def short(self) -> str:
        """The same in a word of the table, or the share of one layer's effect."""
        share = re.search(r"weakens to (\d+)%", self.becomes)
        return f"{share[1]} %" if share else next((WORDS[word] for word in WORDS if self.becomes.startswith(word)), "")


@dataclass(frozen=True)
class Point:
    """A number with its interval in a layer of networks of some depth."""

    depth: int
    layer: int
    scale: float
    middle: float
    low: float
    high: float
    filled: bool = True
    networks: int = 0


def name_of_task(config: Mapping[str, Any]) -> str:
    """The kind of task, and whether its samples come in pairs."""
    return config["task"]["kind"] + (", symmetric" if config["task"].get("symmetric") else "")


def entries(verdicts: Sequence[Verdict], configs: Mapping[str, Mapping[str, Any]]) -> list[Entry]:
    """Verdicts of depth-transfer with their places.

    Parameters
    ----------
    verdicts : sequence of Verdict
        Those on cells without a configuration, or that are on no statistic, are left out.
    configs : mapping
        From the names of cells to their resolved tables.
    """
    out = []
    for verdict in verdicts:
        if verdict.cell in configs and verdict.statistic != "-":
            config, layer = configs[verdict.cell], OF_LAYER.search(verdict.statistic)
            out.append(Entry(name_of_task(config), len(config["network"]["hidden"]), config["network"]["init"]["scale"],
                             int(layer[1]) if layer else 0, OF_LAYER.sub("", verdict.statistic), verdict))
    return out


def places_of(found: Sequence[Entry]) -> list[tuple[int, int]]:
    """The columns of the table: depths and layers, those of the whole network after its last one, as layer 0."""
    depths = sorted({e.depth for e in found})
    return [(depth, layer) for depth in depths for layer in (*range(1, depth + 1), 0)]


def table_of(found: Sequence[Entry]) -> list[tuple[str, str, list[str]]]:
    """Entries of one task and scale as rows: what is claimed, the statistic, and what becomes of it in each of `places_of`."""
    by_place = {(e.claim, e.depth, e.layer): e.short for e in found}
    places = places_of(found)
    rows = [(claim, label, [by_place.get((statistic, *place), "") for place in places])
            for claim, statistics in CLAIMS.items() for statistic, label in statistics.items()]
    return [row for row in rows if any(row[2])]


def table_text(found: Sequence[Entry]) -> str:
    """The table of one task and scale in plain text."""
    heads = [f"{depth}.{layer}" if layer else "all" for depth, layer in places_of(found)]
    lines = [f"{'':31}" + "".join(f"{head:>6}" for head in heads)]
    for claim, label, words in table_of(found):
        lines.append(f"{claim:10} {label:20}" + "".join(f"{word:>6}" for word in words))
    return "\n".join(line.rstrip() for line in lines)


def draw_table(found: Sequence[Entry], axes: Axes) -> None:
    """The table of one task and scale: a row for each statistic, a column for each layer of each depth, a colour for what
    becomes of the claim.
    """
    rows, places = table_of(found), places_of(found)
    small = "x-small" if len(places) <= FEW else "xx-small"
    for y, (_, _, words) in enumerate(rows):
        for x, word in enumerate(words):
            if word:
                kind = "60 %" if word.endswith("%") else word
                axes.fill([x, x + 1, x + 1, x], [y, y, y + 1, y + 1], color=SHADES[kind], alpha=FAINT, linewidth=0)
                axes.text(x + 0.5, y + 0.5, word.removesuffix(" %") if kind == "60 %" else MEANING[word][0], ha="center",
                          va="center", fontsize=small)
    for x in range(1, len(places)):
        if places[x][0] != places[x - 1][0]:
            axes.axvline(x, color=INK, linewidth=0.8)
    for y in range(1, len(rows)):
        if rows[y][0] != rows[y - 1][0]:
            axes.axhline(y, color=INK, linewidth=0.4)
    heads = [f"{depth}.{layer}" if layer else "all" for depth, layer in places]
    axes.set_xticks([x + 0.5 for x in range(len(places))], heads, fontsize=small)
    axes.set_yticks([y + 0.5 for y in range(len(rows))], [f"{claim}: {label}" for claim, label, _ in rows], fontsize="x-small")
    for word, shade in SHADES.items():
        axes.plot([], [], "s", color=shade, alpha=FAINT, label=MEANING[word])
    axes.tick_params(length=0)
    axes.set(xlim=(0, len(places)), ylim=(len(rows), 0), xlabel="hidden layers . layer",
             ylabel="claim: statistic")
    axes.grid(False)


def points_of(found: Sequence[Entry]) -> tuple[list[Point], list[Point]]:
    """Entries of one claim as points, filled where supported, and their controls."""
    known = [e for e in found if np.isfinite(e.verdict.estimate)]
    main = [Point(e.depth, e.layer, e.scale, e.verdict.estimate, e.verdict.low, e.verdict.high,
                  e.verdict.verdict == SUPPORTED, e.verdict.networks) for e in known]
    return main, [Point(e.depth, e.layer, e.scale, e.verdict.control.estimate, e.verdict.control.low, e.verdict.control.high)
                  for e in known if e.verdict.control and "ratio" not in e.claim]


def point_of(cell: CellResults, layer: int, values: np.ndarray) -> Point:
    """The median of numbers [network] of a layer, and what half of them lie in."""
    some = values[np.isfinite(values)]
    low, middle, high = np.quantile(some, [0.25, 0.5, 0.75]) if len(some) else [np.nan] * 3
    depth = len(cell.config["network"]["hidden"])
    return Point(depth, layer, cell.config["network"]["init"]["scale"], middle, low, high, networks=len(some))


def draw_layers(points: Sequence[Point], lazy: Sequence[Point], margin: Margin, axes: Axes) -> None:
    """Points of every layer, layers side by side and depths one after the other, a colour for each scale of the start; lazy
    ones in grey.
    """
    places: dict[tuple[int, int], float] = {}
    ticks: list[tuple[float, str]] = []
    for depth in sorted({p.depth for p in points}):
        first = len(places) + GAP * len(ticks)
        places |= {(depth, layer): first + layer - 1 for layer in range(1, depth + 1)}
        ticks.append((first + (depth - 1) / 2, f"{depth}"))
    scales = sorted({p.scale for p in points})
    for k, scale in enumerate(scales):
        colour = COLOURS[k % len(COLOURS)]
        some = [p for p in points if p.scale == scale]
        at = [places[p.depth, p.layer] + ASIDE * (k - (len(scales) - 1) / 2) for p in some]
        axes.vlines(at, [p.low for p in some], [p.high for p in some], color=colour, linewidth=1.2)
        axes.plot([], [], "o", color=colour, markersize=4, label=f"scale {scale:g}")
        axes.scatter(at, [p.middle for p in some], s=18, edgecolors=colour,
                     facecolors=[colour if p.filled else "none" for p in some], zorder=3)
    grey = [p for p in lazy if (p.depth, p.layer) in places]
    if grey:
        at = [places[p.depth, p.layer] for p in grey]
        axes.scatter(at, [p.middle for p in grey], marker="_", color=LAZY, label="control")
    for end in (margin.low, margin.high):
        if np.isfinite(end):
            axes.axhline(end, color=INK, linestyle="--", linewidth=0.8)
    axes.set_xticks([at for at, _ in ticks], [label for _, label in ticks])
    axes.set(xlabel="hidden layers, each from first to last", xlim=(-0.7, max(places.values(), default=0) + 0.7))


def networks_of(points: Sequence[Point]) -> str:
    """How many networks the points are of, for a title."""
    counts = sorted({p.networks for p in points}) or [0]
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
