"""When neurons have aligned by half: what early-phase and unbalanced-start measure."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from mcrace.results import CellResults

NEEDED = ("mean_cosine", "mean_cosine@start", "mean_cosine@onset")
COARSEST = 0.2  # of the time of the half rise itself, between the two records round it
MOST_COARSE = 0.05
REMEDY = "few records are near the time at which alignment has risen by half; raise record.times.count"


def time_of_step(cell: CellResults, steps: np.ndarray) -> np.ndarray:
    """t = Σ step sizes at some steps, by interpolation between records; NaN where a step is -1."""
    return np.where(steps >= 0, np.interp(steps, cell["step"], cell["time"]), np.nan)


def onset_times(cell: CellResults) -> np.ndarray:
    """t at the onset [network]; NaN for a network without one."""
    return time_of_step(cell, cell.state_step("onset"))


def half_rise_times(cell: CellResults) -> np.ndarray:
    """t at which Σ a cos δ/Σ a is halfway from the start to its value at the onset [network]; NaN where it never is."""
    return _crossings(cell)[0]


def seldom_recorded(cell: CellResults) -> bool:
    """Whether the records are too far apart to say when alignment has risen by half."""
    times, gaps = _crossings(cell)
    return bool(np.mean(gaps[np.isfinite(times)] > COARSEST * times[np.isfinite(times)]) > MOST_COARSE)


def _crossings(cell: CellResults) -> tuple[np.ndarray, np.ndarray]:
    """The times of the half rise, by interpolation, and how far the two records round each are apart."""
    curve, times = cell["mean_cosine"], cell["time"]
    half = (cell.at("mean_cosine", "start") + cell.at("mean_cosine", "onset")) / 2
    with np.errstate(invalid="ignore"):
        above = curve >= half[:, None]
    after = np.argmax(above, axis=1)
    rows, before = np.arange(len(curve)), np.maximum(after - 1, 0)
    low, high, gap = curve[rows, before], curve[rows, after], times[after] - times[before]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = times[before] + gap * (half - low) / (high - low)
    return np.where(above.any(axis=1) & (after > 0), found, np.nan), gap


def clock(cell: CellResults, times: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """τ = k log(1 + η|D|) after k = t/η steps; |D| t where the step size varies (THEORY.md, Notation)."""
    training = cell.config["training"]
    step, schedule = training["step_size"], training["schedule"]
    if schedule["kind"] != "constant" or schedule["warm_up"]:
        return drift * times
    return times * np.log1p(step * drift) / step


def differ_only_in(cells: Sequence[CellResults], key: str) -> bool:
    """Whether cells have the same tables task, network and training but for one key of network.init."""
    tables = []
    for cell in cells:
        table = copy.deepcopy({part: cell.config[part] for part in ("task", "network", "training")})
        table["network"]["init"].pop(key)
        table["training"].pop("steps")
        tables.append(table)
    return all(table == tables[0] for table in tables)


def shared_seeds(cells: Sequence[CellResults]) -> np.ndarray:
    """The seeds that all of the cells have."""
    seeds = cells[0].seeds
    for cell in cells[1:]:
        seeds = np.intersect1d(seeds, cell.seeds)
    return seeds
