"""Does the start decide the race?  Growth of the norm product against the handicap, and the loss, cell by cell.

Usage: python analysis/race.py RESULTS PICTURE
"""

import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import mcrace

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"
BINS = np.linspace(-4, 0, 25)


def growth_and_handicap(cell):
    """log(a_T/a_0) up to a constant of each network, and 2 log((1+cos δ_0)/2), of all neurons of a cell."""
    cosine, start, end = cell.at("cosine", "start"), cell.at("norm_product", "start"), cell.at("norm_product", "level=0.1")
    with np.errstate(divide="ignore", invalid="ignore"):
        growth, handicap = np.log(end / start), 2 * np.log((1 + cosine) / 2)
    growth -= np.nanmean(growth - handicap, axis=1, keepdims=True)  # one constant a network
    good = np.isfinite(growth) & np.isfinite(handicap)
    return growth[good], handicap[good]


def draw_race(axes, cell):
    """Median and quartiles of growth in bins of the handicap, beside the law."""
    growth, handicap = growth_and_handicap(cell)
    place = np.digitize(handicap, BINS)
    middle = (BINS[1:] + BINS[:-1]) / 2
    bands = np.array([np.percentile(growth[place == k], [25, 50, 75]) if (place == k).sum() > 20 else [np.nan] * 3
                      for k in range(1, len(BINS))])
    axes.plot(BINS, BINS, color=GREY, linestyle="--", label="the law: slope 1")
    axes.fill_between(middle, bands[:, 0], bands[:, 2], color=BLUE, alpha=0.25, linewidth=0, label="half of the neurons")
    axes.plot(middle, bands[:, 1], color=BLUE, label="median")
    axes.set(title=f"{cell.name}: {len(cell.seeds):,} networks", xlabel="handicap at the start, 2 log((1 + cos δ₀)/2)",
             xlim=(-3.5, 0), ylim=(-4, 0.5))


def draw_loss(axes, cell):
    """Median and 5-95 % band of the loss over the steps, of the networks that still move."""
    loss, step = cell["loss"], cell["step"]
    enough = np.isfinite(loss).sum(axis=0) >= max(2, len(loss) // 20)
    low, middle, high = np.nanpercentile(loss[:, enough], [5, 50, 95], axis=0)
    axes.fill_between(step[enough], low, high, color=ORANGE, alpha=0.25, linewidth=0, label="90 % of the networks")
    axes.plot(step[enough], middle, color=ORANGE, label="median")
    axes.set(xscale="symlog", yscale="log", xlabel="step")


def main(where, picture):
    """One column for each cell."""
    results = mcrace.open_results(where)
    cells = [cell for cell in results if cell.attributes["role"] != "half-step"]
    figure, axes = plt.subplots(2, len(cells), figsize=(4.6 * len(cells), 7), squeeze=False, sharey="row", layout="constrained")
    for column, cell in zip(axes.T, cells):
        draw_race(column[0], cell)
        draw_loss(column[1], cell)
    axes[0, 0].set_ylabel("growth of the norm product\nto a tenth of the loss,\nlog(a_T/a₀) + const")
    axes[1, 0].set_ylabel("loss of the networks\nthat still move")
    axes[0, 0].legend(frameon=False, loc="upper left")
    axes[1, 0].legend(frameon=False, loc="lower left")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
