"""Panels of figures that predictions bring along, and what they are drawn with; matplotlib is needed only to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mcrace.predictions.base import Evidence
    from mcrace.results import CellResults

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # of Okabe and Ito, as in the style sheet
INK = "#1b1f24"  # of text and axes; a page takes its own instead
MAIN, CONTROL, HALF_STEP = COLOURS[:3]
LEAST_SHARE = 0.05  # of the networks that a band at some time needs
BINS = 60
FAINTEST = 0.06  # opacity of a bin with one neuron


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes
    ----------
    caption : str
        What is to be seen, in a sentence.
    draw : callable
        Draws it into matplotlib axes, with title, and with what it is and how many on each axis.
    rows : int
        Height in lines, where it has to be other than usual.
    """

    caption: str
    draw: Callable[[Axes], None]
    rows: int = 0


def arms(evidence: Evidence) -> list[tuple[str, CellResults]]:
    """The main cell and its control, if there is one, each with its colour."""
    return [(MAIN, evidence.main), *([(CONTROL, evidence.control)] if evidence.control is not None else [])]


def bands(axes: Axes, x: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    """The median over networks as a line, and bands that hold half and nine tenths of them.

    Parameters
    ----------
    x : array [point]
    values : array [network, point]
        NaN where a network has no value; points that fewer than a twentieth of the networks reach are left out.
    """
    enough = np.isfinite(values).sum(axis=0) >= max(2, LEAST_SHARE * len(values))
    if not enough.any():
        return
    lowest, low, middle, high, highest = np.nanquantile(values[:, enough], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    axes.fill_between(x[enough], lowest, highest, color=colour, alpha=0.15, linewidth=0)
    axes.fill_between(x[enough], low, high, color=colour, alpha=0.3, linewidth=0)
    axes.plot(x[enough], middle, color=colour, label=label)


def legend_above(axes: Axes, title: str, columns: int = 2) -> None:
    """A title, and between it and the axes a legend of what has a label, so that it hides nothing."""
    lines = -(-len(axes.get_legend_handles_labels()[0]) // columns)
    axes.set_title(title, pad=6 + 15 * lines)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.4, columnspacing=1.2)


def density(
    axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, xlim: tuple[float, float], ylim: tuple[float, float]
) -> None:
    """How many points lie where, by opacity on a logarithmic scale; those outside the limits are not drawn."""
    from matplotlib.colors import to_rgb

    counts, _, _ = np.histogram2d(y.ravel(), x.ravel(), bins=BINS, range=(ylim, xlim))
    image = np.empty((*counts.shape, 4))
    image[..., :3] = to_rgb(colour)
    logs = np.log1p(counts)
    image[..., 3] = np.where(counts > 0, FAINTEST + (1 - FAINTEST) * logs / max(logs.max(), 1e-9), 0)
    axes.imshow(image, extent=(*xlim, *ylim), origin="lower", aspect="auto", interpolation="nearest")


def running_median(x: np.ndarray, y: np.ndarray, edges: np.ndarray, least: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the bins between edges, and the median of y in each; NaN where fewer than `least` points lie.

    >>> running_median(np.array([0.1, 0.2, 1.5]), np.array([1.0, 3.0, 9.0]), np.array([0.0, 1.0, 2.0]), least=2)
    (array([0.5, 1.5]), array([ 2., nan]))
    """
    x, y = x.ravel(), y.ravel()
    place = np.digitize(x, edges)
    groups = [y[place == k] for k in range(1, len(edges))]
    return (edges[1:] + edges[:-1]) / 2, np.array([np.median(g) if len(g) >= least else np.nan for g in groups])


def rows(axes: Axes, values: Sequence[tuple[str, str, np.ndarray]]) -> str:
    """Distributions over networks below each other: the median as a dot, half and nine tenths of the networks as lines.

    Parameters
    ----------
    values : sequence of (label, colour, array)
        From the top; one number a network, NaN for a network without one.  A row without any number stays empty.

    Returns
    -------
    str
        How many networks the rows are of, for a title.
    """
    for place, (_, colour, found) in enumerate(values):
        known = found[np.isfinite(found)]
        if len(known):
            lowest, low, middle, high, highest = np.quantile(known, [0.05, 0.25, 0.5, 0.75, 0.95])
            axes.plot([lowest, highest], [place, place], color=colour, linewidth=1.2, solid_capstyle="butt")
            axes.plot([low, high], [place, place], color=colour, linewidth=4, alpha=0.6, solid_capstyle="butt")
            axes.plot(middle, place, "o", color=colour, markersize=5, markeredgecolor="white", markeredgewidth=0.7)
    axes.set_yticks(range(len(values)), [label for label, *_ in values])
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    counts = [int(np.isfinite(found).sum()) for *_, found in values]
    return f"n = {min(counts):,}" + (f" to {max(counts):,}" if max(counts) > min(counts) else "") + " networks a row"


def loss_kept(axes: Axes, evidence: Evidence, curve: str, state: str) -> None:
    """What networks lose by keeping K neurons, over L_0, against K, by a curve [network, K - 1] at a state; below 1e-3 the
    axis is linear.
    """
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1e-3)
    for colour, cell in arms(evidence):
        losses = cell.at(curve, state)
        excess = (losses - losses[:, -1:]) / cell.at("zero_loss", "start")[:, None]
        label = f"{cell.name}, n = {np.isfinite(excess[:, -1]).sum():,} networks"
        bands(axes, np.arange(1, excess.shape[1] + 1), excess, colour, label)
        axes.set_xlim(1, excess.shape[1])
    axes.set(xlabel="neurons kept, K", ylabel="gain of loss ΔL/L₀, pure number")


def density_of_law(
    axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, limits: tuple[tuple[float, float], tuple[float, float]], law: str
) -> None:
    """A density of points [network, ...] with its running median and, dashed, the law that they are equal."""
    good = np.isfinite(x) & np.isfinite(y)
    density(axes, x[good], y[good], colour, *limits)
    axes.plot(*running_median(x[good], y[good], np.linspace(*limits[0], 33)), color=INK, label="median")
    axes.plot(limits[0], limits[0], color="0.5", linestyle="--", label=law)
    axes.set(xlim=limits[0], ylim=limits[1])
