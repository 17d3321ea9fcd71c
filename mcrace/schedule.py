"""Step sizes as a function of the step, and the clock t = Σ step sizes that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mcrace.sections import Training

CHUNK = 1 << 20
SINE = [(-1.0) ** k / float(np.prod(np.arange(1, 2 * k + 2, dtype=float))) for k in range(12)]


def _half_cosine(share: np.ndarray) -> np.ndarray:
    """(1 + cos(π share))/2 for shares in [0, 1], by a series, so that no system library decides a bit."""
    x = (1 - share) * (np.pi / 2)
    total = np.zeros_like(x)
    for term in reversed(SINE):
        total = total * (x * x) + term
    return (x * total) ** 2


def step_sizes(training: Training, first: int, stop: int) -> np.ndarray:
    """The sizes of steps first ... stop-1, float64.

    Parameters
    ----------
    training : Training
        With ``schedule.kind`` constant, step (times `factor` each `every` steps) or cosine (down to `floor` times the
        step size at the last step), all after a linear warm-up.
    """
    schedule, steps = training.schedule, np.arange(first, stop)
    after = np.maximum(steps - schedule.warm_up, 0)
    sizes = np.full(len(steps), training.step_size)
    if schedule.kind == "step":
        powers = np.cumprod(np.r_[1.0, np.full(int(after.max(initial=0) // schedule.every), schedule.factor)])
        sizes *= powers[after // schedule.every]
    if schedule.kind == "cosine":
        whole = max(training.steps - schedule.warm_up, 1)
        sizes *= schedule.floor + (1 - schedule.floor) * _half_cosine(np.minimum(after / whole, 1))
    return np.where(steps < schedule.warm_up, sizes * ((steps + 1) / (schedule.warm_up + 1)), sizes)


def _varies(training: Training) -> bool:
    return training.schedule.kind != "constant" or training.schedule.warm_up > 0


def times_at(training: Training, steps: np.ndarray) -> np.ndarray:
    """t = Σ step sizes before each of some steps, in any order and shape, float64."""
    if not _varies(training):
        return steps * training.step_size
    out, passed = np.zeros(steps.shape), 0.0
    for first in range(0, int(steps.max(initial=0)), CHUNK):
        sums = passed + np.cumsum(step_sizes(training, first, min(first + CHUNK, training.steps)))
        inside = (steps > first) & (steps <= first + len(sums))
        out[inside] = sums[steps[inside] - first - 1]
        passed = sums[-1]
    return out


def first_steps_at(training: Training, times: np.ndarray, never: int) -> np.ndarray:
    """The first step whose clock t is at least each of some times, int64; `never` where there is none."""
    out = np.full(len(times), never)
    if not _varies(training):
        with np.errstate(invalid="ignore"):
            steps = np.ceil(times / training.step_size)
        reached = steps <= training.steps
        out[reached] = steps[reached].astype(np.int64)
        return out
    passed = 0.0
    for first in range(0, training.steps, CHUNK):
        sums = passed + np.cumsum(step_sizes(training, first, min(first + CHUNK, training.steps)))
        here = (out == never) & (times <= sums[-1])
        out[here] = first + 1 + np.searchsorted(sums, times[here])
        passed = sums[-1]
    return out
