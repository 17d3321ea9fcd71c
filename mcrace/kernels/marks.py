"""Marks: what a network may reach at any step, by its loss or by the step's number, tested at every step.

A network *meets* mark j at the first step at which, before the update, its loss is at most `levels[j]`, or whose number
is at least `at[j]`.  The step is recorded, its weights are kept where this is asked, and at mark `stop` it stops moving.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mcrace.compiled import compiled, inner
from mcrace.kernels.lanes import aligned, clear_lanes, lane_flags, unpack

NEVER = np.iinfo(np.int64).max


class Marks(NamedTuple):
    """The marks of all groups of networks; arrays have a lane for each network of a group."""

    any: bool
    levels: np.ndarray  # [group, mark, lane] losses; -1: not by its loss, or met
    at: np.ndarray  # [group, mark, lane] int64 steps; NEVER: not by its step, or met
    met: np.ndarray  # [group, mark, lane] int64 steps at which they were met; -1: not yet
    keep: np.ndarray  # [mark] slot of the kept weights, -1: none
    kept_W: np.ndarray  # [slot, ...] as the kernel's W
    kept_v: np.ndarray  # [slot, ...] as the kernel's v
    stop: int  # the mark at which a network stops; -1: none
    alive: np.ndarray  # [group] int64, a bit for each lane that still moves
    now: np.ndarray  # [lane] room for the losses
    nearest: np.ndarray  # [group, lane] the highest loss that would meet a mark
    due: np.ndarray  # [group] int64, the earliest step that would


@compiled
def look_ahead(marks, g):
    """Find the next loss of each lane, and the next step of the group, that would meet a mark."""
    due = NEVER
    for lane in range(marks.levels.shape[2]):
        marks.nearest[g, lane] = -1
        for j in range(marks.levels.shape[1]):
            marks.nearest[g, lane] = max(marks.nearest[g, lane], marks.levels[g, j, lane])
            if marks.alive[g] >> lane & 1:
                due = min(due, marks.at[g, j, lane])
    marks.due[g] = due


@inner
def _copy_lane(source, target, lane):
    for a in range(source.shape[0]):
        for k in range(source.shape[1]):
            target[a, k, lane] = source[a, k, lane]


@inner
def note(marks, g, step, W, v):
    """Record what the lanes of group g meet at this step, given their losses in marks.now."""
    for lane in range(marks.levels.shape[2]):
        if not marks.alive[g] >> lane & 1:
            continue
        for j in range(marks.levels.shape[1]):
            if marks.now[lane] <= marks.levels[g, j, lane] or step >= marks.at[g, j, lane]:
                marks.met[g, j, lane] = step
                marks.levels[g, j, lane], marks.at[g, j, lane] = -1, NEVER
                if marks.keep[j] >= 0:
                    _copy_lane(W, marks.kept_W[marks.keep[j], g], lane)
                    _copy_lane(v, marks.kept_v[marks.keep[j], g], lane)
                if j == marks.stop:
                    marks.alive[g] &= ~(1 << lane)
    look_ahead(marks, g)


@dataclass(frozen=True)
class MarkTable:
    """What each network of a batch may meet.

    Attributes
    ----------
    levels : array [network, mark]
        Losses; -1 where a mark is not met by the loss.
    at : int64 array [network, mark]
        Steps; `NEVER` where a mark is not met by the step.
    keep : bool array [mark]
        Whether the weights are kept.
    stop : int
        The mark at which a network stops; -1: none.
    """

    levels: np.ndarray
    at: np.ndarray
    keep: np.ndarray
    stop: int

    @classmethod
    def none(cls, networks: int) -> MarkTable:
        """No marks at all."""
        return cls(np.empty((networks, 0)), np.empty((networks, 0), np.int64), np.empty(0, bool), -1)

    def in_lanes(self, W: np.ndarray, v: np.ndarray, lanes: int) -> Marks:
        """The same for groups of `lanes` networks, with weights [group, ...] in whatever layout."""
        groups, count = len(W), len(self.keep)
        levels, at = np.full((groups * lanes, count), -1.0), np.full((groups * lanes, count), NEVER)
        levels[: len(self.levels)], at[: len(self.at)] = self.levels, self.at
        alive = np.zeros(groups * lanes, np.int64)
        alive[: len(self.levels)] = 1
        levels, at = (np.ascontiguousarray(a.reshape(groups, lanes, count).swapaxes(1, 2)) for a in (levels, at))
        slots = np.where(self.keep, np.cumsum(self.keep) - 1, -1)
        kept_W, kept_v = (aligned((int(self.keep.sum()), *a.shape), a.dtype) for a in (W, v))
        marks = Marks(count > 0, levels.astype(W.dtype), at, np.full((groups, count, lanes), -1), slots, kept_W, kept_v,
                      self.stop,
                      (alive.reshape(groups, lanes) << np.arange(lanes)).sum(axis=1), aligned((lanes,), W.dtype),
                      aligned((groups, lanes), W.dtype), np.empty(groups, np.int64))
        for g in range(groups):
            look_ahead(marks, g)
        return marks


class InLanes:
    """What marks say of `count` networks, one in each of `lanes` lanes of a group."""

    marks: Marks
    lanes: int
    count: int

    @property
    def met(self) -> np.ndarray:
        """Steps at which the marks were met [network, mark], int64; -1: not met."""
        return unpack(self.marks.met[:, :, None].swapaxes(1, 2), self.count, 1, np.int64)[:, 0]

    @property
    def alive(self) -> np.ndarray:
        """Which networks still move [network]."""
        return lane_flags(self.marks.alive, self.lanes, self.count)

    def retire(self, networks: np.ndarray) -> None:
        """Stop the networks that are set in a boolean array."""
        clear_lanes(self.marks.alive, self.lanes, networks)
