"""Figures: what predictions bring along, the distribution of every statistic, and the training of each cell.

matplotlib's objects are used as they are, without pyplot, so that nothing outside changes; one style sheet.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from mcrace.errors import StudyError, nearest
from mcrace.predictions import Panel, Verdict, cases
from mcrace.predictions.base import Evidence, Options, Prediction
from mcrace.predictions.panels import COLOURS, CONTROL, HALF_STEP, INK, MAIN, bands, legend_above
from mcrace.results import CellResults, Results
from mcrace.wording import interval, number

STYLE = str(Path(__file__).with_name("style.mplstyle"))
WIDTH, HEIGHT, LINE = 3.8, 2.8, 0.42  # inches: of a panel, and of an arm in a distribution
MOST_CURVES = len(COLOURS)  # in one panel
MOST_TOLD = 3  # cells in a caption
MOST_DRAWN = 12  # cells in one panel of distributions
BARS = 40
BAND = "0.6"
FAR = 3.0  # values further out than so many times the middle 98 % are counted instead of drawn


def plot(results: Results, prediction: str, cell: str | None, statistics: bool) -> Figure:
    """See `mcrace.plot`."""
    asked = results.study.predictions
    if prediction not in asked:
        raise StudyError(f"the study has no prediction {prediction!r}: {nearest(prediction, asked)}")
    judged = list(cases(results, {prediction: asked[prediction]}))
    names = [evidence.main.name for *_, evidence in judged]
    if not judged or (cell is not None and cell not in names):
        raise StudyError(f"{prediction} is not judged on a cell {cell!r}: {nearest(str(cell), names)}")
    found, options, evidence = judged[names.index(cell) if cell is not None else 0]
    panels = own_panels(found, options, evidence)
    if statistics or not panels:
        panels += statistic_panels(found.judge(evidence, options))
    return together(panels)


def together(panels: Sequence[Panel], columns: int = 3) -> Figure:
    """A figure of several panels."""
    columns = min(columns, len(panels)) or 1
    rows = [panels[k : k + columns] for k in range(0, len(panels), columns)]
    heights = [max(height_of(p) for p in row) for row in rows]
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(WIDTH * columns, sum(heights) or HEIGHT))
        if panels:
            grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
            for y, row in enumerate(rows):
                for x, panel in enumerate(row):
                    panel.draw(figure.add_subplot(grid[y, x]))
    return figure


def height_of(panel: Panel) -> float:
    """Inches."""
    return HEIGHT if not panel.rows else 1.1 + LINE * panel.rows


def svg_of(panel: Panel, prefix: str) -> str:
    """A panel as an SVG element for a page: it follows the page's colours, fills its width, and its ids start with `prefix`.

    Text stays text, in the page's font.
    """
    with matplotlib.rc_context(fname=STYLE):
        matplotlib.rcParams["svg.hashsalt"] = prefix
        figure = Figure(figsize=(WIDTH, height_of(panel)))
        panel.draw(figure.add_subplot())
        file = io.StringIO()
        FigureCanvasSVG(figure).print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _for_page(file.getvalue(), prefix)


def _for_page(text: str, prefix: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg", '<svg role="img"', 1)
    text = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'(xlink:href="|url\()#([^")]*)', rf"\1#{prefix}-\2", text)
    text = re.sub(r'(<g id="[^"]*patch_1">).*?</g>', r"\1</g>", text, count=1, flags=re.DOTALL)  # the figure's ground
    text = re.sub(r'(<g id="[^"]*patch_2">).*?</g>', r"\1</g>", text, count=1, flags=re.DOTALL)  # that of the axes
    text = re.sub(r'<!--.*?-->\n?', "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor")
    for place, colour in enumerate(COLOURS):
        text = text.replace(colour, f"var(--c{place}, {colour})")
    return text


# ------------------------------------------------------------------------------------------------- statistics


def own_panels(found: Prediction, options: Options, evidence: Evidence) -> list[Panel]:
    """What a prediction brings along."""
    return list(found.panels(evidence, options))


def statistic_panels(verdicts: Sequence[Verdict]) -> list[Panel]:
    """For each statistic of a prediction one panel, with a row for each arm of each cell."""
    by_name: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if math.isfinite(verdict.estimate):
            by_name.setdefault(verdict.statistic, []).append(verdict)
    return [Panel(_caption(same), partial(_draw_statistic, same[:MOST_DRAWN]), len(list(_arms(same[:MOST_DRAWN]))))
            for same in by_name.values()]


def _caption(verdicts: list[Verdict]) -> str:
    """What was found, for a few cells."""
    found = [f"{v.cell}: {number(v.estimate)} {interval(v.low, v.high)}, {v.verdict}" for v in verdicts[:MOST_TOLD]]
    undrawn = f" Of {len(verdicts)} cells the first {MOST_DRAWN} are drawn." if len(verdicts) > MOST_DRAWN else ""
    return "; ".join(found) + ("; ..." if len(verdicts) > MOST_TOLD else ".") + undrawn


def _arms(verdicts: list[Verdict]) -> Iterator[tuple[str, str, np.ndarray, tuple[float, float, float] | None]]:
    """Label, colour, values, and mean with interval of each row, from the top; a control that several share comes once."""
    controls = {}
    for v in verdicts:
        yield _label(v.cell, v.values.get("main"), v.networks), MAIN, v.values.get("main", _NONE), (v.estimate, v.low, v.high)
        if (half := v.values.get("half-step", _NONE)).size:
            yield _label("at half the step", half), HALF_STEP, half, None
        if v.control:
            found = v.values.get("control", _NONE)
            name = v.control.cell if v.control.cell != v.cell else "control"
            mean = v.control.estimate, v.control.low, v.control.high
            controls[v.control.cell] = _label(name, found, v.networks), CONTROL, found, mean
    yield from controls.values()


_NONE = np.empty(0)


def _label(name: str, values: np.ndarray | None, networks: int = 0) -> str:
    count = int(np.isfinite(values).sum()) if values is not None and values.size else networks
    name = "\n".join(textwrap.wrap(name, 22)) or name
    return f"{name}\nn = {count:,}" if count else name


def _draw_statistic(verdicts: list[Verdict], axes: Axes) -> None:
    rows = list(_arms(verdicts))
    margin = verdicts[0].margin
    low, high = _limits(rows, (margin.low, margin.high))
    banded = math.isfinite(margin.low) or math.isfinite(margin.high)
    if banded:
        axes.axvspan(max(low, margin.low), min(high, margin.high), color=BAND, alpha=0.25, linewidth=0)
        for end in (margin.low, margin.high):
            if math.isfinite(end):
                axes.axvline(end, color=BAND, linewidth=0.8)
    outside = 0
    for place, (_, colour, values, mean) in enumerate(rows):
        base = len(rows) - 1 - place
        values = values[np.isfinite(values)]
        inside = values[(values >= low) & (values <= high)]
        outside += len(values) - len(inside)
        _draw_distribution(axes, inside, base, colour)
        if mean is not None and math.isfinite(mean[0]):
            axes.plot(mean[1:], [base, base], color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot(mean[0], base, "o", color=colour, markersize=5, markeredgecolor="white", markeredgewidth=0.7)
    axes.set_yticks(range(len(rows) - 1, -1, -1), [label for label, *_ in rows])
    for label in axes.get_yticklabels():
        label.set_verticalalignment("bottom")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    band = f"band: margin {margin}" if banded else "no margin"
    more = f"; {outside:,} networks lie outside" if outside else ""
    unit = "" if "[" in verdicts[0].statistic else ", pure number"
    axes.set(title="\n".join(textwrap.wrap(verdicts[0].statistic, 46)), xlim=(low, high), ylim=(-0.35, len(rows) - 0.1),
             xlabel=f"one value a network{unit}\n{band}{more}")


def _draw_distribution(axes: Axes, values: np.ndarray, base: float, colour: str) -> None:
    """A histogram on a baseline, its highest bar of one height in every row."""
    if len(values) == 0:
        return
    if np.ptp(values) < 1e-9 * max(1e-300, float(np.abs(values).max())):
        axes.plot([values[0], values[0]], [base, base + 0.72], color=colour)
        return
    width = 2 * np.subtract(*np.quantile(values, [0.75, 0.25])) / len(values) ** (1 / 3)  # Freedman & Diaconis 1981
    bars = int(np.clip(np.ptp(values) / width, 5, BARS)) if width > 0 else BARS
    counts, edges = np.histogram(values, bins=bars)
    axes.stairs(base + 0.72 * counts / counts.max(), edges, baseline=base, fill=True, facecolor=(colour, 0.4),
                edgecolor=colour, linewidth=0.7)


def _limits(rows: list, ends: tuple[float, float]) -> tuple[float, float]:
    """The range to draw: all values but for those far out, intervals, and the finite ends of the margin."""
    points = [end for end in ends if math.isfinite(end)]
    for _, _, values, mean in rows:
        values = values[np.isfinite(values)]
        if len(values):
            low, high = np.quantile(values, [0.01, 0.99])
            room = FAR * (high - low)
            points += [max(values.min(), low - room), min(values.max(), high + room)]
        if mean is not None:
            points += [x for x in mean if math.isfinite(x)]
    low, high = min(points, default=0.0), max(points, default=1.0)
    room = 0.06 * (high - low) or 0.5 * max(abs(high), 1e-6)
    return low - room, high + room


# ------------------------------------------------------------------------------------------------- cells


def loss_panels(there: Iterable[CellResults]) -> list[Panel]:
    """How the loss falls in the cells of a study, a few cells in a panel; half-step cells are left out."""
    cells = [c for c in there if c.attributes["role"] != "half-step" and "loss" in c and c["loss"].ndim == 2]
    groups = [cells[k : k + MOST_CURVES] for k in range(0, len(cells), MOST_CURVES)]
    return [Panel("Loss over the steps: median, half and nine tenths of the networks that still move.",
                  partial(_draw_losses, group)) for group in groups]


def _draw_losses(cells: list[CellResults], axes: Axes) -> None:
    for place, cell in enumerate(cells):
        bands(axes, cell["step"], cell["loss"], COLOURS[place], f"{cell.name}, n = {len(cell.seeds):,}")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set(xlabel="step", ylabel=f"loss ({cells[0].config['task']['loss']}), per sample")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    legend_above(axes, "Training")
