"""A batch of networks from its start to its end: from one recording time to the next, with states and a status."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from mcrace.kernels import NEVER, MarkTable, OneLayerNetworks, Samples
from mcrace.observe import OBSERVABLES, Snapshot
from mcrace.seeds import SHARED, Stream
from mcrace.study import Config

ALWAYS = ("start", "tau=1", "onset", "level=0.5", "final")  # states whose step is recorded in any case
LEVELS = {"onset": 0.99}


class Status(IntEnum):
    """How a network ended."""

    STEPS = 0
    STOPPED = 1
    DIVERGED = 2
    DEAD = 3

    @property
    def text(self) -> str:
        """What it means, and the remedy if it needs one."""
        return STATUS_TEXT[self]


STATUS_TEXT = {
    Status.STEPS: "took all its steps; if it should have reached `until`, raise training.steps",
    Status.STOPPED: "reached training.until",
    Status.DIVERGED: "weights became infinite or NaN; lower training.step_size",
    Status.DEAD: "no neuron was on at any sample at the start, so nothing can move",
}


@dataclass
class Wanted:
    """What is asked to be recorded: observables of the time grid, and states with those of each."""

    grid: list[str] = field(default_factory=list)
    states: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, items: tuple[str, ...]) -> Wanted:
        """From ``"name"`` and ``"name@state"``; states are ordered by their place in a run.

        >>> Wanted.parse(("loss", "cosine@start")).states["start"]
        ['cosine']
        """
        wanted = cls([i for i in items if "@" not in i])
        asked: dict[str, list[str]] = {state: [] for state in ALWAYS}
        for item in items:
            name, at, state = item.partition("@")
            if at:
                asked.setdefault(state, []).append(name)
        wanted.states = {s: asked[s] for s in sorted(asked, key=_place)}
        return wanted


def level_of(state: str) -> float | None:
    """The share of the zero output's loss that defines a state, if one does.

    >>> level_of("level=0.1"), level_of("onset"), level_of("tau=1")
    (0.1, 0.99, None)
    """
    if state.startswith("level="):
        return float(state.removeprefix("level="))
    return LEVELS.get(state)


def _place(state: str) -> float:
    fixed = {"start": 0.0, "tau=1": 0.1, "final": 2.0}
    level = level_of(state)
    return fixed[state] if level is None else 2.0 - level if level < 1 else 1.0


@dataclass
class Batch:
    """Networks that start together: weights, data, and what shuffled labels would be."""

    seeds: np.ndarray
    W: np.ndarray
    v: np.ndarray
    X: np.ndarray
    y: np.ndarray
    config: Config
    entropy: int

    @property
    def labels(self) -> np.ndarray:
        """y [network, sample]."""
        return self.y if self.y.ndim == 2 else np.broadcast_to(self.y, (len(self.seeds), len(self.y)))

    def some(self, chosen: np.ndarray) -> Batch:
        """A part of the batch."""
        own = self.config.task.fresh
        X, y = (self.X[chosen], self.y[chosen]) if own else (self.X, self.y)
        return Batch(self.seeds[chosen], self.W[chosen], self.v[chosen], X, y, self.config, self.entropy)

    def shuffled(self) -> Samples:
        """The samples with labels shuffled, for controls, by the stream (entropy, labels, network)."""
        loss, n = self.config.task.loss, self.y.shape[-1]
        if self.y.ndim == 1:
            return Samples(self.X, self.y[Stream(self.entropy, "labels", SHARED).permutation(n)], loss)
        orders = [Stream(self.entropy, "labels", int(seed)).permutation(n) for seed in self.seeds]
        return Samples(self.X, np.take_along_axis(self.y, np.stack(orders), axis=1), loss)


def zero_output_loss(y: np.ndarray, loss: str) -> np.ndarray:
    """L_0, the loss of f = 0, of labels [network, sample]."""
    if loss == "mse":
        return np.cumsum(y * y / 2, axis=1)[:, -1] / y.shape[1]
    return np.full(len(y), np.log(2.0))


class Run:
    """The training of one batch, and what is recorded of it.

    Attributes
    ----------
    grid : dict of arrays [network, time, ...]
    at : dict of arrays [network, state, ...]
    state_step : int64 array [network, state]
    status : int8 array [network]
    stop_step : int64 array [network]
    """

    def __init__(self, batch: Batch, times: np.ndarray, wanted: Wanted) -> None:
        self.batch, self.times, self.wanted = batch, times, wanted
        self.training = batch.config.training
        self.states = list(wanted.states)
        count = len(batch.seeds)
        self.grid: dict[str, np.ndarray] = {}
        self.at: dict[str, np.ndarray] = {}
        self.weights: dict[str, np.ndarray] = {}
        self.state_step = np.full((count, len(self.states)), -1, np.int64)
        self.status = np.full(count, Status.STEPS, np.int8)
        self.stop_step = np.full(count, self.training.steps, np.int64)
        self.samples = Samples(batch.X, batch.y, batch.config.task.loss)

    def go(self) -> Run:
        """Train, and record as training goes by."""
        task, training = self.batch.config.task, self.training
        dtype = np.dtype(training.dtype)
        start = self._snapshot(self.batch.W.astype(dtype).astype(float), self.batch.v.astype(dtype).astype(float))
        marks = self._marks(start)
        networks = OneLayerNetworks(self.batch.W, self.batch.v, self.batch.X, self.batch.y, task.loss, dtype, marks)
        self._record_state("start", np.arange(len(self.batch.seeds)), start)
        self.state_step[:, self.states.index("start")] = 0
        dead = ~start.active.any(axis=1)
        self.status[dead], self.stop_step[dead] = Status.DEAD, 0
        if self.times[0] == 0:
            self._record_grid(0, start, np.ones(len(dead), bool))
        networks.retire(dead)
        etas = np.full(training.steps, training.step_size)
        here = 0
        for place, there in enumerate(self.times.tolist()):
            if there == 0:
                continue
            networks.advance(here, etas[here:there])
            here = there
            self._look(networks, place)
            if not networks.alive.any():
                break
        if networks.alive.any():
            networks.advance(here, etas[here:], look=True)
            self._find_diverged(networks, training.steps)
        self._finish(networks, marks)
        return self

    def _snapshot(self, W: np.ndarray, v: np.ndarray, chosen: np.ndarray | None = None) -> Snapshot:
        batch = self.batch if chosen is None else self.batch.some(chosen)
        own = chosen is None or not batch.config.task.fresh
        samples = self.samples if own else Samples(batch.X, batch.y, batch.config.task.loss)
        if chosen is not None:
            W, v = W[chosen], v[chosen]
        return Snapshot(W, v, batch.labels, samples, batch.config.task.loss, batch.shuffled)

    def _marks(self, start: Snapshot) -> MarkTable:
        """What the kernel watches for: losses of levels, the step of τ = 1, and the stop."""
        count, names = len(self.batch.seeds), self.states
        levels, at = np.full((count, len(names)), -1.0), np.full((count, len(names)), NEVER)
        zero = zero_output_loss(self.batch.labels, self.batch.config.task.loss)
        for j, name in enumerate(names):
            level = level_of(name)
            if name == "final" and self.training.until is not None:
                level = 1 - self.training.until.loss_drop
            if level is not None:
                levels[:, j] = level * zero
            if name == "tau=1":
                at[:, j] = self._step_of_tau_one(start)
        keep = np.array([bool(self.wanted.states[name]) and name not in ("start", "final") for name in names])
        return MarkTable(levels, at, keep, names.index("final"))

    def _step_of_tau_one(self, start: Snapshot) -> np.ndarray:
        """First step with t median_a |D_a(0)| >= 1 over active neurons (THEORY.md, Notation)."""
        speed = np.sqrt(np.cumsum(start.drift**2, axis=2)[:, :, -1])
        median = np.array([np.median(s[a]) if a.any() else 0.0 for s, a in zip(speed, start.active)])
        with np.errstate(divide="ignore"):
            step = np.ceil(1 / (self.training.step_size * median))
        return np.where(step < 2.0**62, np.minimum(step, 2.0**62), NEVER).astype(np.int64)

    def _look(self, networks: OneLayerNetworks, place: int) -> None:
        """Record the networks that still move, at a time of the grid."""
        self._find_diverged(networks, int(self.times[place]))
        alive = networks.alive
        if not alive.any() or not (self.wanted.grid or self.batch.config.record.weights == "all"):
            return
        W, v = networks.weights()
        few = np.flatnonzero(alive) if alive.mean() < 0.5 else None
        self._record_grid(place, self._snapshot(W, v, few), alive)

    def _find_diverged(self, networks: OneLayerNetworks, step: int) -> None:
        bad = networks.alive & ~networks.finite
        if bad.any():
            self.status[bad], self.stop_step[bad] = Status.DIVERGED, step
            networks.retire(bad)

    def _record_grid(self, place: int, snapshot: Snapshot, alive: np.ndarray) -> None:
        rows = alive if len(snapshot.v) == len(alive) else slice(None)
        for name in self.wanted.grid:
            self._store(self.grid, name, len(self.times), alive, place, self._computed(name, snapshot)[rows])
        if self.batch.config.record.weights == "all":
            for name, value in (("W", snapshot.W), ("v", snapshot.v)):
                self._store(self.weights, name, len(self.times), alive, place, value[rows])

    def _record_state(self, state: str, chosen: np.ndarray, snapshot: Snapshot) -> None:
        for name in self.wanted.states[state]:
            value = self._computed(name, snapshot)
            self._store(self.at, name, len(self.states), chosen, self.states.index(state), value)
        if self.batch.config.record.weights == "ends" and state in ("start", "final"):
            for name, value in (("W", snapshot.W), ("v", snapshot.v)):
                self._store(self.weights, f"{name}_{state}", 0, chosen, slice(None), value)

    @staticmethod
    def _computed(name: str, snapshot: Snapshot) -> np.ndarray:
        with np.errstate(all="ignore"):  # a NaN is an answer here
            return OBSERVABLES[name].compute(snapshot)

    def _store(self, where: dict[str, np.ndarray], name: str, places: int, rows, place, value: np.ndarray) -> None:
        if name not in where:
            shape = (len(self.batch.seeds), *([places] if places else []), *value.shape[1:])
            whole = np.issubdtype(value.dtype, np.integer)
            where[name] = np.full(shape, -1 if whole else np.nan, np.int32 if whole else float)
        if places:
            where[name][rows, place] = value
        else:
            where[name][rows] = value

    def _finish(self, networks: OneLayerNetworks, marks: MarkTable) -> None:
        """Steps of states, statuses, and the observables at the states."""
        met = networks.met
        for j, state in enumerate(self.states):
            if state not in ("start", "final"):
                self.state_step[:, j] = met[:, j]
            if marks.keep[j] and (met[:, j] >= 0).any():
                chosen = np.flatnonzero(met[:, j] >= 0)
                self._record_state(state, chosen, self._snapshot(*networks.kept(j), chosen))
        last = self.states.index("final")
        stopped = met[:, last] >= 0
        self.status[stopped], self.stop_step[stopped] = Status.STOPPED, met[stopped, last]
        self.state_step[:, last] = self.stop_step
        if self.wanted.states["final"] or self.batch.config.record.weights == "ends":
            everyone = np.arange(len(stopped))
            self._record_state("final", everyone, self._snapshot(*networks.weights()))


def initial_weights(config: Config, inputs: int, entropy: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """W [neuron, input] and v [neuron] at the start, drawn neuron by neuron from the stream (entropy, init, network).

    w ~ scale N(0, I/d); balanced: v = ±|w|, or at a ratio |w|/|v| with the same product; otherwise v ~ scale N(0, 1).
    """
    init, neurons = config.network.init, config.network.hidden[0]
    drawn = neurons // 2 if init.paired else neurons
    numbers = Stream(entropy, "init", seed).normals(drawn, inputs + 1)
    W, extra = init.scale * numbers[:, :inputs] / np.sqrt(inputs), numbers[:, inputs]
    if init.balanced:
        norm = np.sqrt(np.cumsum(W * W, axis=1)[:, -1])
        root = np.sqrt(init.ratio)
        W, v = W * root, np.where(extra > 0, norm, -norm) / root
    else:
        v = init.scale * extra
    if init.paired:
        W, v = np.repeat(W, 2, axis=0), np.stack([v, -v], axis=1).reshape(-1)
    return W, v


def draw_batch(config: Config, pool: dict[str, np.ndarray], entropy: int, seeds: np.ndarray) -> Batch:
    """The networks of some seeds before training: weights and data are functions of (entropy, seed) alone."""
    task = config.task
    starts = [initial_weights(config, task.inputs(), entropy, int(seed)) for seed in seeds]
    data = [task.sample(pool, entropy, int(seed)) for seed in (seeds if task.fresh else seeds[:1])]
    X, y = (np.stack(part) for part in zip(*data))
    W, v = (np.stack(part) for part in zip(*starts))
    return Batch(seeds, W, v, X if task.fresh else X[0], y if task.fresh else y[0], config, entropy)


