"""Networks from their start to their end: from one recording time to the next, in groups that shrink as networks stop.

A few networks in a hundred take far more steps than the rest.  So a group is left where a third of its networks have
stopped; what still moves of all groups goes on together.  No network can tell: its numbers are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mcrace.compiled import compiled
from mcrace.dynamics import dynamics_of, population_of
from mcrace.initial import initial_velocities, initial_weights, layers_of
from mcrace.kernels import (
    NEVER,
    FieldNetworks,
    LayeredNetworks,
    LayeredSamples,
    MarkTable,
    Networks,
    Population,
    Samples,
    Weights,
    networks,
    samples,
)
from mcrace.kernels.losses import mean_losses_of
from mcrace.observe import LayeredSnapshot, Moment, Snapshot
from mcrace.observe.layered import layered_labels, sample_roughness, starting_outputs
from mcrace.observe.snapshot import Origin
from mcrace.recording import GAVE_UP, Recorder, Status, Wanted, clock_of, level_of
from mcrace.schedule import first_steps_at, step_sizes, times_at
from mcrace.sections import Config, Training
from mcrace.seeds import batches
from mcrace.tasks.base import Drawn

AnySamples = Samples | LayeredSamples
PIECE = 1 << 20  # steps, or samples of minibatches, that go to the kernel at once


@dataclass
class Group:
    """Networks that train together.

    Attributes
    ----------
    config, entropy : of their cell
    rows : int array [network]
        Where their records go.
    seeds : int64 array [network]
    weights : tuple of arrays [network, ...]
        At the recording time `place`, in the order of `mcrace.initial.parameters_of`.
    velocities : tuple of arrays [network, ...]
        In units of a step; empty for plain descent.
    X, y : samples and labels, of each network or shared
    roughness, offset : arrays, or None
        What layered networks may need besides: see `LayeredSnapshot`.
    levels, at : arrays [network, state]
        What the states still to be reached are met by: a loss, or a step (see `MarkTable`).
    place : int
        Index of the recording time they stand at.
    beginning : callable
        From seeds to the weights W and v at the start.
    testing : callable
        From seeds, and a condition if not that of the task, to test samples X and labels y.
    """

    config: Config
    entropy: int
    rows: np.ndarray
    seeds: np.ndarray
    weights: Weights
    velocities: Weights
    X: np.ndarray
    y: np.ndarray
    roughness: np.ndarray | None
    offset: np.ndarray | None
    levels: np.ndarray
    at: np.ndarray
    beginning: Callable[[np.ndarray], Weights]
    testing: Callable[..., Drawn]
    place: int = 0

    @property
    def shared(self) -> bool:
        """Whether all networks have the same samples."""
        return self.X.ndim == 2

    @property
    def labels(self) -> np.ndarray:
        """y [network, sample(, output)]."""
        return np.broadcast_to(self.y, (len(self.rows), *self.y.shape)) if self.shared else self.y

    def some(self, chosen: np.ndarray) -> Group:
        """A part of the group, by an index or truths [network]."""
        own = {name: _each(getattr(self, name), by=lambda a: a[chosen] if len(a) else a) for name in self._of_each()}
        return replace(self, **own)

    def _of_each(self) -> tuple[str, ...]:
        """What has an entry for each network."""
        names = ["rows", "seeds", "weights", "velocities", "levels", "at"]
        names += [] if self.shared else ["X", "y"]
        names += [] if self.roughness is None or self.shared else ["roughness"]
        return (*names, *([] if self.offset is None else ["offset"]))

    @staticmethod
    def joined(groups: list[Group]) -> Group:
        """One group of several that stand at the same time."""
        one = groups[0]
        if len(groups) == 1:
            return one
        own = {name: _each(*(getattr(g, name) for g in groups), by=lambda *a: np.concatenate(a)) for name in one._of_each()}
        return replace(one, **own)

    @property
    def origin(self) -> Origin:
        """What observables may know of the networks beyond their weights."""
        return Origin(self.config, self.entropy, self.seeds, self.X, lambda: self.beginning(self.seeds),
                      lambda *condition: self.testing(self.seeds, *condition))


def _each(*values: Any, by: Callable[..., np.ndarray]) -> Any:
    """A function of arrays, or of each of some tuples of arrays."""
    return tuple(map(by, *values)) if isinstance(values[0], tuple) else by(*values)


def train(
    config: Config,
    pool: dict[str, np.ndarray],
    entropy: int,
    seeds: np.ndarray,
    times: np.ndarray,
    batch: int,
    beginning: Callable[[np.ndarray], Weights] | None = None,
    labels: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Recorder:
    """Train the networks of some seeds, `batch` of them at a time, and record them.

    Parameters
    ----------
    config : Config
    pool : dict of arrays
        What the task draws from.
    entropy : int
    seeds : int64 array [network]
    times : int64 array [time]
        Recording steps, increasing.
    batch : int
        Only memory and speed hang on it.
    beginning : callable, optional
        From seeds to other weights W and v at the start than those of the configuration.
    labels : callable, optional
        From samples X, labels y and seeds to other labels, of the shape of y.

    Returns
    -------
    Recorder
        With a row for each seed.
    """
    recorder = Recorder(config, len(seeds), times)
    parked: dict[int, list[Group]] = {}
    for first in range(0, len(seeds), batch):
        rows = np.arange(first, min(first + batch, len(seeds)))
        group = start(draw(config, pool, entropy, rows, seeds[rows], beginning, labels), recorder)
        if len(group.rows):
            _park(_Flight(group, recorder).go(), parked)
    while parked:
        place = min(parked)
        _park(_Flight(Group.joined(parked.pop(place)), recorder).go(waiting=set(parked)), parked)
    return recorder


def _park(left: Group | None, parked: dict[int, list[Group]]) -> None:
    if left is not None:
        parked.setdefault(left.place, []).append(left)


def start(group: Group, recorder: Recorder) -> Group:
    """Record networks at their start, and find what marks their states; those that cannot move end here."""
    snapshot = _snapshot(group, 0)
    recorder.begin(group.rows, snapshot)
    recorder.at_state("start", group.rows, snapshot)
    recorder.state_step[group.rows, recorder.states.index("start")] = 0
    if recorder.times[0] == 0:
        recorder.at_time(0, group.rows, snapshot)
    _set_marks(group, recorder.states, snapshot)
    dead = ~snapshot.movable
    if dead.any():
        recorder.end(group.rows[dead], Status.DEAD, 0)
        _record_final(group.some(dead), recorder)
        group = group.some(~dead)
    group.place = 0 if recorder.times[0] == 0 else -1
    return group


def _set_marks(group: Group, states: list[str], snapshot: Moment) -> None:
    """What the kernel watches for: losses of levels, the step of τ = 1, and the stop."""
    until = group.config.training.until
    zero = _zero_output_loss(snapshot)
    for j, state in enumerate(states):
        level = level_of(state)
        if state == "final" and until is not None:
            level = 1 - until.loss_drop
        if level is not None:
            group.levels[:, j] = level * zero
        clock = clock_of(state)
        if clock is not None and isinstance(snapshot, Snapshot):
            group.at[:, j] = steps_of_clock(clock, snapshot, group.config.training)


def _zero_output_loss(snapshot: Moment) -> np.ndarray:
    if snapshot.origin.config.training.gradient == "population":
        return snapshot.zero_loss
    return zero_output_loss(snapshot.y, snapshot.loss)


def zero_output_loss(y: np.ndarray, loss: str) -> np.ndarray:
    """L_0, the loss of f = 0, of labels [network, sample(, output)]."""
    if loss == "mse":
        return mean_losses_of(np.zeros(y.shape), y, loss)
    return np.full(len(y), np.log(2.0) * (y.shape[2] if y.ndim == 3 else 1))


def steps_of_clock(clock: float, start: Snapshot, training: Training) -> np.ndarray:
    """First step with t median_a |D_a(0)| >= τ over active neurons (THEORY.md, Notation) [network]."""
    with np.errstate(divide="ignore"):
        return first_steps_at(training, clock / _medians(start.drift_norms, start.active), NEVER)


@compiled
def _medians(values, used):
    """The median of the values that are used, in each row; 0 where none is."""
    out = np.zeros(len(values))
    for i in range(len(values)):
        if used[i].any():
            out[i] = np.median(values[i][used[i]])
    return out


def _snapshot(group: Group, step: np.ndarray | int, samples: AnySamples | None = None) -> Moment:
    steps, samples = np.broadcast_to(np.asarray(step, np.int64), group.rows.shape), samples or _samples(group)
    more = group.config.task.loss, group.origin, steps, times_at(group.config.training, steps)
    if isinstance(samples, LayeredSamples):
        return LayeredSnapshot(group.weights, group.labels, group.roughness, group.offset, samples, samples.layers, *more)
    W, v = group.weights
    return Snapshot(W, v, group.labels, samples, *more)


def _samples(group: Group) -> AnySamples:
    config = group.config
    if config.layered:
        labels = layered_labels(config, group.y, group.offset)
        return LayeredSamples(layers_of(config), group.X, labels, config.task.loss, group.roughness)
    return samples(group.X, group.y, config.task.loss, dynamics_of(config), _population(group))


def _population(group: Group) -> Population | None:
    return population_of(group.config, group.entropy, group.seeds)


def _in_kernel(group: Group, marks: MarkTable) -> Networks | LayeredNetworks:
    config, training = group.config, group.config.training
    if config.layered:
        labels = layered_labels(config, group.y, group.offset)
        velocities = group.velocities if len(group.velocities[0]) else None
        return LayeredNetworks(group.weights, group.X, labels, config.task.loss, training.dtype, marks, training.weight_decay,
                               training.kept_velocity, velocities, layers_of(config), group.roughness)
    (W, v), (U, u) = group.weights, group.velocities
    velocity = (U, u) if len(U) else None
    return networks(W, v, group.X, group.y, config.task.loss, training.dtype, marks, training.weight_decay,
                    training.kept_velocity, velocity, training.batch is not None, dynamics_of(config), _population(group))


def _record_final(group: Group, recorder: Recorder) -> None:
    recorder.state_step[group.rows, recorder.states.index("final")] = recorder.stop_step[group.rows]
    if recorder.wants("final") or recorder.paths:
        snapshot = _snapshot(group, recorder.stop_step[group.rows])
        recorder.at_state("final", group.rows, snapshot)
        recorder.finish(group.rows, snapshot)


class _Flight:
    """A group in the kernel, from the time it stands at to where it is left."""

    def __init__(self, group: Group, recorder: Recorder) -> None:
        self.group, self.recorder = group, recorder
        self.training = group.config.training
        self.samples = _samples(group)
        states = recorder.states
        self.keep = np.array([recorder.wants(s) and s not in ("start", "final") for s in states])
        marks = MarkTable(group.levels, group.at, self.keep, states.index("final"))
        self.networks = _in_kernel(group, marks)

    def go(self, waiting: set[int] = frozenset()) -> Group | None:  # type: ignore[assignment]
        """Train up to where all have stopped, or few are left, or others wait; returns those that still move."""
        times = self.recorder.times.tolist()
        here = times[self.group.place] if self.group.place >= 0 else 0
        for place in range(self.group.place + 1, len(times)):
            self._advance(here, times[place])
            here = times[place]
            alive = self.networks.alive
            if not alive.any():
                break
            self._record(place, alive)
            few = 3 * alive.sum() < 2 * len(alive) and len(alive) > self.networks.lanes
            shared_lanes = self.networks.lanes > 1  # elsewhere a network that has stopped costs nothing
            if shared_lanes and (few or place in waiting) and place + 1 < len(times):
                return self._leave(place, alive)
        if self.networks.alive.any():
            self._advance(here, self.training.steps, look=True)
        self._leave(len(times) - 1, np.zeros(len(self.group.rows), bool))
        return None

    def _advance(self, here: int, there: int, look: bool = False) -> None:
        """Take the steps from here to there, in pieces where the step sizes or the minibatches are many."""
        at_once = PIECE // (len(self.group.rows) * self.training.batch) + 1 if self.training.batch else PIECE
        for first in range(here, max(there, here + 1), at_once):
            stop = min(first + at_once, there)
            more = {"orders": self._batches(first, stop)} if self.training.batch else {}
            self.networks.advance(first, step_sizes(self.training, first, stop), look and stop == there, **more)
        if isinstance(self.networks, FieldNetworks):
            reasons, steps = self.networks.given_up
            for reason, status in enumerate(GAVE_UP, 1):
                self.recorder.end(self.group.rows[reasons == reason], status, steps[reasons == reason])
        bad = self.networks.alive & ~self.networks.finite
        if bad.any():
            self.recorder.end(self.group.rows[bad], Status.DIVERGED, there)
            self.networks.retire(bad)

    def _batches(self, first: int, stop: int) -> np.ndarray:
        group, size = self.group, self.training.batch or 0
        return batches(group.entropy, group.seeds, first, stop - first, group.config.task.samples, size)

    def _record(self, place: int, alive: np.ndarray) -> None:
        """Record the networks that still move at a time of the grid; all are computed where few are not wanted."""
        if not self.recorder.wants_grid:
            return
        self.group.weights = self.networks.weights()
        step = int(self.recorder.times[place])
        if alive.all():
            self.recorder.at_time(place, self.group.rows, _snapshot(self.group, step, self.samples))
        else:
            some = self.group.some(alive)
            self.recorder.at_time(place, some.rows, _snapshot(some, step))

    def _leave(self, place: int, alive: np.ndarray) -> Group | None:
        """Record the states that were reached, and the networks that ended; returns those that go on."""
        group, recorder, met = self.group, self.recorder, self.networks.met
        for j, state in enumerate(recorder.states):
            reached = met[:, j] >= 0
            recorder.state_step[group.rows[reached], j] = met[reached, j]
            if self.keep[j] and reached.any():
                some = group.some(reached)
                some.weights = tuple(w[reached] for w in self.networks.kept(j))
                recorder.at_state(state, some.rows, _snapshot(some, met[reached, j]))
        stopped = met[:, -1] >= 0
        recorder.end(group.rows[stopped], Status.STOPPED, met[stopped, -1])
        group.weights = self.networks.weights()
        finite = np.all([np.isfinite(w.reshape(len(w), -1)).all(axis=1) for w in group.weights], axis=0)
        infinite = (recorder.status[group.rows] == Status.STEPS) & ~finite
        recorder.end(group.rows[infinite & ~alive], Status.DIVERGED, self.training.steps)
        if len(group.velocities[0]):
            group.velocities = self.networks.velocities()
        group.levels[met >= 0], group.at[met >= 0] = -1, NEVER
        group.place = place
        if not alive.all():
            _record_final(group.some(~alive), recorder)
        return group.some(alive) if alive.any() else None


def draw(
    config: Config,
    pool: dict[str, np.ndarray],
    entropy: int,
    rows: np.ndarray,
    seeds: np.ndarray,
    beginning: Callable[[np.ndarray], Weights] | None = None,
    labels: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Group:
    """The networks of some seeds before training: weights and data are functions of (entropy, seed) alone."""
    X, y = config.task.samples_of(pool, entropy, seeds)
    if labels is not None:
        y = labels(X, y, seeds)
    states = len(Wanted.parse(config.record.observables).states)
    levels, at = np.full((len(seeds), states), -1.0), np.full((len(seeds), states), NEVER)
    begin = beginning or (lambda some: initial_weights(config, entropy, some))

    def rounded(some: np.ndarray) -> Weights:
        return tuple(w.astype(config.training.dtype).astype(float) for w in begin(some))

    test = lambda some, *condition: config.task.test_samples_of(pool, entropy, some, *condition)
    weights = rounded(seeds)
    roughness = sample_roughness(config, entropy, seeds, X)
    offset = starting_outputs(config, weights, X, y, roughness)
    return Group(config, entropy, rows, seeds, weights, initial_velocities(config, entropy, seeds), X, y, roughness, offset,
                 levels, at, rounded, test)
