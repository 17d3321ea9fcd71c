"""What is recorded of networks: on the time grid, at states, and how each network ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from mcrace.initial import parameters_of
from mcrace.observe import OBSERVABLES, Moment, Path
from mcrace.observe.alignment import SOME
from mcrace.observe.snapshot import NORMALISATIONS
from mcrace.sections import Config
from mcrace.tasks.corruption import CONDITIONS, KINDS

ALWAYS = ("start", "tau=1", "onset", "level=0.5", "final")  # states whose step is recorded in any case
LEVELS = {"onset": 0.99}
# what the entries of a dimension are called
COORDINATES = {"corruption": np.array(KINDS, object), "severity": np.arange(1, 1 + len(CONDITIONS[0])),
               "seen": np.array(["input", "permuted", "hidden"], object),
               "test_norm": np.array(NORMALISATIONS, object)}


class Status(IntEnum):
    """How a network ended."""

    STEPS = 0
    STOPPED = 1
    DIVERGED = 2
    DEAD = 3
    TOLERANCE = 4
    EVALUATIONS = 5
    CHATTER = 6

    @property
    def text(self) -> str:
        """What it means, and the remedy if it needs one."""
        return STATUS_TEXT[self]


GAVE_UP = (Status.TOLERANCE, Status.EVALUATIONS, Status.CHATTER)  # in the order of the kernels' reasons, from 1 on
STATUS_TEXT = {
    Status.STEPS: "took all its steps; if it should have reached `until`, raise training.steps",
    Status.STOPPED: "reached training.until",
    Status.DIVERGED: "weights became infinite or NaN; lower training.step_size",
    Status.DEAD: "no neuron was on at any sample at the start, so nothing can move",
    Status.TOLERANCE: "the adaptive method found no step that is short enough; raise training.rtol and training.atol",
    Status.EVALUATIONS: "the adaptive method took training.evaluations gradients within one step_size; raise them, raise "
                        "training.rtol, or lower training.step_size",
    Status.CHATTER: "gates switched back and forth within a step_size, which no adaptive step resolves; train to where it "
                    'begins (training.until), or with method = "flow"',
}


@dataclass
class Wanted:
    """What is asked to be recorded: observables of the time grid, states with those of each, and paths."""

    grid: list[str] = field(default_factory=list)
    states: dict[str, list[str]] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, items: tuple[str, ...]) -> Wanted:
        """From ``"name"`` and ``"name@state"``; states are ordered by their place in a run.

        >>> Wanted.parse(("loss", "cosine@start")).states["start"]
        ['cosine']
        """
        moments = [i for i in items if "@" not in i]
        paths = [i for i in moments if i in OBSERVABLES and OBSERVABLES[i].path]
        wanted = cls([i for i in moments if i not in paths], paths=paths)
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


def clock_of(state: str) -> float | None:
    """The clock τ that defines a state, if one does.

    >>> clock_of("tau=1.5"), clock_of("onset")
    (1.5, None)
    """
    return float(state.removeprefix("tau=")) if state.startswith("tau=") else None


def _place(state: str) -> float:
    clock, level = clock_of(state), level_of(state)
    if clock is not None:
        return clock / 1000  # which is less than 1
    return {"start": 0.0, "final": 2.0}[state] if level is None else 2.0 - level if level < 1 else 1.0


class Recorder:
    """The records of some networks, a row each.

    Attributes
    ----------
    grid : dict of arrays [network, time, ...]
        NaN, or -1 for integers, after a network's end.
    paths : dict of arrays [network, ...]
        NaN, or -1, where a network had no end.
    at : dict of arrays [network, state, ...]
        NaN, or -1, where a network did not reach the state, or nothing was asked there.
    weights : dict of arrays [network, ...]
    state_step : int64 array [network, state]
        -1: never reached.
    status : int8 array [network]
    stop_step : int64 array [network]
    """

    def __init__(self, config: Config, networks: int, times: np.ndarray) -> None:
        self.networks, self.times, self.keep_weights = networks, times, config.record.weights
        self.wanted = Wanted.parse(config.record.observables)
        self.states = list(self.wanted.states)
        self.grid = {name: self._empty(config, name, len(times)) for name in self.wanted.grid}
        self.paths = {name: self._empty(config, name) for name in self.wanted.paths}
        self._carried: dict[str, dict[str, np.ndarray]] = {}
        asked = dict.fromkeys(name for names in self.wanted.states.values() for name in names)
        self.at = {name: self._empty(config, name, len(self.states)) for name in asked}
        kept: dict[str, dict[str, tuple[int, ...]]] = {
            "none": {}, "ends": {"_start": (), "_final": ()}, "all": {"": (len(times),)}}
        self.parameters = parameters_of(config)
        self.weights = {symbol + suffix: np.full((networks, *place, *sizes.values()), np.nan)
                        for suffix, place in kept[self.keep_weights].items() for symbol, sizes in self.parameters.items()}
        self.state_step = np.full((networks, len(self.states)), -1, np.int64)
        self.status = np.full(networks, Status.STEPS, np.int8)
        self.stop_step = np.full(networks, config.training.steps, np.int64)

    def end(self, rows: np.ndarray, status: Status, steps: np.ndarray | int) -> None:
        """Networks ended."""
        self.status[rows], self.stop_step[rows] = status, steps

    @property
    def wants_grid(self) -> bool:
        """Whether anything is recorded on the time grid."""
        return bool(self.wanted.grid or self.paths) or self.keep_weights == "all"

    def wants(self, state: str) -> bool:
        """Whether anything is recorded at a state."""
        return bool(self.wanted.states[state]) or (state in ("start", "final") and self.keep_weights == "ends")

    def _empty(self, config: Config, name: str, *places: int) -> np.ndarray:
        """Room for an observable; all of it is there even if no network gets to a state, so that shards are alike."""
        sizes = sizes_of(config)
        observable = OBSERVABLES[name]
        shape = (self.networks, *places, *(sizes[d] for d in observable.dims))
        return np.full(shape, -1, np.int32) if observable.dtype is int else np.full(shape, np.nan)

    def begin(self, rows: np.ndarray, snapshot: Moment) -> None:
        """Start the paths of the networks of some rows."""
        for name in self.paths:
            for key, values in _path(name).begin(OBSERVABLES[name].seen(snapshot)).items():
                carried = self._carried.setdefault(name, {})
                if key not in carried:
                    carried[key] = np.zeros((self.networks, *values.shape[1:]), values.dtype)
                carried[key][rows] = values

    def _follow(self, name: str, rows: np.ndarray, snapshot: Moment) -> dict[str, np.ndarray]:
        some = {key: values[rows] for key, values in self._carried[name].items()}
        with np.errstate(all="ignore"):  # a NaN is an answer here
            _path(name).follow(some, OBSERVABLES[name].seen(snapshot))
        for key, values in some.items():
            self._carried[name][key][rows] = values
        return some

    def finish(self, rows: np.ndarray, snapshot: Moment) -> None:
        """End the paths of the networks of some rows at their last moment."""
        for name in self.paths:
            self.paths[name][rows] = _path(name).end(self._follow(name, rows, snapshot))

    def at_time(self, place: int, rows: np.ndarray, snapshot: Moment) -> None:
        """Record the networks of some rows at a time of the grid."""
        for name in self.paths:  # which may want the drift: outputs come with it
            if self.times[place] > 0:
                self._follow(name, rows, snapshot)
        for name in self.wanted.grid:
            self.grid[name][rows, place] = _computed(name, snapshot)
        if self.keep_weights == "all":
            for symbol, values in zip(self.parameters, snapshot.weights, strict=True):
                self.weights[symbol][rows, place] = values

    def at_state(self, state: str, rows: np.ndarray, snapshot: Moment) -> None:
        """Record the networks of some rows at a state."""
        for name in self.wanted.states[state]:
            self.at[name][rows, self.states.index(state)] = _computed(name, snapshot)
        if self.keep_weights == "ends" and state in ("start", "final"):
            for symbol, values in zip(self.parameters, snapshot.weights, strict=True):
                self.weights[f"{symbol}_{state}"][rows] = values


def _computed(name: str, snapshot: Moment) -> np.ndarray:
    with np.errstate(all="ignore"):  # a NaN is an answer here
        return OBSERVABLES[name].compute(OBSERVABLES[name].seen(snapshot))


def _path(name: str) -> Path:
    path = OBSERVABLES[name].path
    assert path is not None
    return path


def sizes_of(config: Config) -> dict[str, int]:
    """The sizes of what may follow the network in an observable."""
    neurons = max(config.network.hidden)
    some = min(neurons, SOME)
    return {"neuron": neurons, "kept": neurons, "input": config.task.inputs(), "sample": config.task.samples,
            "layer": len(config.network.hidden), "output": config.task.outputs(),
            "some_neuron": some, "some_neuron_2": some, **{name: len(values) for name, values in COORDINATES.items()}}
