"""Unlocking: when a neuron that starts against its drift turns to it, and what turned it (THEORY.md, unlocking)."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled
from mcrace.observe.base import Carry, Path, observable, path
from mcrace.observe.snapshot import Snapshot, cosines_of

HELD = 3  # records over which cos δ >= 0 has to hold
LEAST_WINDOW, WINDOW_SHARE = 20, 100  # steps, and one in so many
# What is carried of a neuron: as it was at the last record, what has turned it since the start, and the same at the first of
# the records that have held.
COSINE, RATE, SIGN, ROTATION, JUMPS, RUN, AT, ROTATION_THEN, JUMPS_THEN, COSINE_THEN, COSINE_AT_0 = range(11)
FIELDS = 11


@compiled
def _begin(cosine, rate, v, out):
    for i in range(len(v)):
        for a in range(v.shape[1]):
            out[i, a] = 0.0
            out[i, a, COSINE] = out[i, a, COSINE_AT_0] = cosine[i, a]
            out[i, a, RATE], out[i, a, SIGN], out[i, a, AT] = rate[i, a], np.sign(v[i, a]), np.inf


@compiled
def _follow(neurons, last, now, cosine, rate, v):
    """Trapezoids of the rotation; over a flip of sign(v), where |v| is about 0, the change is the flip's."""
    for i in range(len(v)):
        between = now[i] - last[i]
        if not between > 0:  # the last moment comes twice
            continue
        for a in range(v.shape[1]):
            n = neurons[i, a]
            if n[RUN] == HELD:
                continue
            if np.isnan(cosine[i, a]):  # dead: it keeps its place
                n[RUN], n[AT], n[RATE] = 0, np.inf, 0.0
                continue
            sign = np.sign(v[i, a])
            if sign != n[SIGN]:
                n[JUMPS] += cosine[i, a] - n[COSINE]
            else:
                n[ROTATION] += between * (n[RATE] + rate[i, a]) / 2
            n[COSINE], n[RATE], n[SIGN] = cosine[i, a], rate[i, a], sign
            if cosine[i, a] < 0:
                n[RUN], n[AT] = 0, np.inf
                continue
            n[RUN] += 1
            if n[RUN] == 1:
                n[AT], n[ROTATION_THEN], n[JUMPS_THEN], n[COSINE_THEN] = last[i] + between / 2, n[ROTATION], n[JUMPS], n[COSINE]
        last[i] = now[i]


def _rate(state: Snapshot) -> np.ndarray:
    """How fast a neuron would turn to a drift that stays: d cos δ/dt = (|v|/|w|)|D| sin²δ; 0 where it is dead."""
    rate = np.abs(state.v) / state.norms * state.drift_norms * (1 - state.cosine**2)
    return np.where(np.isnan(state.cosine), 0, rate)


class _Unlocking(Path):
    """What is followed of every neuron; subclasses say what they make of it."""

    def begin(self, state: Snapshot) -> Carry:
        neurons = np.empty((*state.v.shape, FIELDS))
        _begin(state.cosine, _rate(state), np.ascontiguousarray(state.v), neurons)
        return {"neurons": neurons, "time": np.array(state.time, float)}

    def follow(self, carry: Carry, state: Snapshot) -> None:
        _follow(carry["neurons"], carry["time"], state.time, state.cosine, _rate(state), np.ascontiguousarray(state.v))

    @staticmethod
    def _then(carry: Carry, then: int, last: int) -> np.ndarray:
        """A field at the unlocking, or at the end where there was none; NaN for a neuron that was not against its drift."""
        n = carry["neurons"]
        found = np.where(n[:, :, RUN] == HELD, n[:, :, then], n[:, :, last])
        return np.where(n[:, :, COSINE_AT_0] < 0, found, np.nan)


@path("unlocking_time", ("neuron",), units="sum of step sizes")
class UnlockingTime(_Unlocking):
    """When cos δ, below 0 at the start, is first at 0 or above for three records: between the record before and the first
    of these; infinite if it never is; NaN for a neuron that does not start below 0.
    """

    def end(self, carry: Carry) -> np.ndarray:
        n = carry["neurons"]
        found = np.where(n[:, :, RUN] == HELD, n[:, :, AT], np.inf)
        return np.where(n[:, :, COSINE_AT_0] < 0, found, np.nan)


@path("unlocking_change", ("neuron",))
class UnlockingChange(_Unlocking):
    """Change of cos δ from the start to the unlocking, or to the end, of a neuron that starts with cos δ < 0."""

    def end(self, carry: Carry) -> np.ndarray:
        return self._then(carry, COSINE_THEN, COSINE) - carry["neurons"][:, :, COSINE_AT_0]


@path("unlocking_rotation", ("neuron",))
class UnlockingRotation(_Unlocking):
    """The part of `unlocking_change` by rotation to the drift, ∫ (|v|/|w|)|D| sin²δ dt."""

    def end(self, carry: Carry) -> np.ndarray:
        return self._then(carry, ROTATION_THEN, ROTATION)


@path("unlocking_jumps", ("neuron",))
class UnlockingJumps(_Unlocking):
    """The part of `unlocking_change` by flips of sign(v)."""

    def end(self, carry: Carry) -> np.ndarray:
        return self._then(carry, JUMPS_THEN, JUMPS)


@observable("cosine_late", ("neuron",))
def _late_cosine(state: Snapshot) -> np.ndarray:
    """cos δ to the mean drift over the next 20 steps, or 1 % of the steps so far if these are more: where gates chatter."""
    step = np.full(1, state.origin.config.training.step_size)
    window = np.maximum(LEAST_WINDOW, state.step // WINDOW_SHARE)
    total, moving = state.drift.copy(), state
    for k in range(1, int(window.max())):
        moving = moving.onward(step)
        total[window > k] += moving.drift[window > k]
    return cosines_of(state.W, state.v, total)
