"""Networks of one hidden layer that move along a field, seen from outside: arrays [network, ...] in, arrays out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from mcrace.kernels.activations import ACTIVATIONS
from mcrace.kernels.dynamics import Dynamics, Population
from mcrace.kernels.integrators import (
    ADAPTIVE,
    BALL,
    FLOW,
    SIGN,
    STAGES,
    Room,
    Rule,
    observe_population,
    observe_samples,
    train,
)
from mcrace.kernels.lane_networks import Samples
from mcrace.kernels.lanes import GATES, aligned, lane_count, pack, pack_samples, padded, unpack
from mcrace.kernels.marks import InLanes, MarkTable
from mcrace.kernels.one_layer import LOSSES, TILE
from mcrace.kernels.population_field import PopulationField
from mcrace.kernels.sample_field import SampleField

KINDS = {"descent": BALL, "sign": SIGN, "flow": FLOW, "adaptive": ADAPTIVE}


class FieldNetworks(InLanes):
    """Networks of one hidden layer in training by any method, with any activation, one in each lane.

    Parameters
    ----------
    W, v, X, y, loss, dtype, marks, decay, momentum, velocity : see `mcrace.kernels.OneLayerNetworks`
    dynamics : `Dynamics`
    population : `Population`, optional
        To learn from it, instead of X and y.  It is for ReLU, "mse" and float64.
    """

    kernel = "one-layer-field"

    def __init__(self, W, v, X, y, loss, dtype, marks=None, decay=0.0, momentum=0.0, velocity=None, dynamics=None,
                 population=None):
        self.dynamics = dynamics or Dynamics()
        self.count, self.neurons, self.inputs = W.shape
        self.dtype, self.lanes = np.dtype(dtype), lane_count(dtype)
        self.P = parameters(W, v, dtype)
        self.U = parameters(*velocity, dtype) if velocity else np.zeros_like(self.P) if momentum else self.P[:0]
        if population is None:
            self.field = sample_field(self.neurons, X, y, loss, self.dynamics, dtype)
        else:
            self.field = population_field(self.count, self.neurons, population)
        self.rule = Rule(KINDS[self.dynamics.method], len(self.U) > 0, float(decay), float(momentum),
                         self.dynamics.halvings, self.dynamics.rtol, self.dynamics.atol, self.dynamics.evaluations)
        marks = marks or MarkTable.none(self.count)
        self.marks = marks.in_lanes(self.P[:, :, None], self.P[:, :0, None], self.lanes)
        self.room = self._room()

    def _room(self) -> Room:
        groups, length, lanes = self.P.shape
        directions = {BALL: 1, SIGN: 1, FLOW: self.dynamics.halvings + 3, ADAPTIVE: STAGES}[self.rule.kind]
        trials = length if self.rule.kind in (FLOW, ADAPTIVE) else 0
        wide, narrow = (partial(aligned, (size, lanes), self.dtype) for size in (trials, 1))
        reason, last = np.zeros((groups, lanes), np.int64), np.full((groups, lanes), -1)
        return Room(K=aligned((directions * length, lanes), self.dtype), Y=wide(), saved=wide(), passed=narrow()[0],
                    trial=narrow()[0], step=narrow()[0], error=narrow()[0], refused=np.zeros(lanes, np.int64),
                    switched=np.zeros(lanes, np.int64), reason=reason, last=last)

    def advance(self, first: int, etas: np.ndarray, look: bool = False) -> None:
        """Take the steps `first`, first+1, ... of the given sizes; `look`: test the marks after the last one, too."""
        real = self.neurons * (self.inputs + 1)
        train(self.P, flat(self.P), flat(self.U), self.field, real, np.asarray(etas, self.dtype), self.rule, self.marks,
              first, look, self.room)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """W [network, neuron, input] and v [network, neuron], float64, as they stand."""
        return weights_of(self.P, self.count, self.neurons, self.inputs)

    def kept(self, mark: int) -> tuple[np.ndarray, np.ndarray]:
        """The weights at a mark that keeps them; zeros for the networks that did not meet it."""
        return weights_of(self.marks.kept_W[self.marks.keep[mark]][:, :, 0], self.count, self.neurons, self.inputs)

    def velocities(self) -> tuple[np.ndarray, np.ndarray]:
        """Velocities of W and v, float64, as they stand; zeros where there are none."""
        return weights_of(self.U if len(self.U) else 0 * self.P, self.count, self.neurons, self.inputs)

    @property
    def finite(self) -> np.ndarray:
        """Which networks have finite weights."""
        return np.isfinite(unpack(self.P[:, :, None], self.count, self.P.shape[1])).all(axis=(1, 2))

    @property
    def given_up(self) -> tuple[np.ndarray, np.ndarray]:
        """Why the method gave a network up [network], 0 where it did not, and the step at which it did, or -1."""
        return self.room.reason.reshape(-1)[: self.count], self.room.last.reshape(-1)[: self.count]


def parameters(W: np.ndarray, v: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Parameters [group, parameter, lane]: W in rows, then v, both padded."""
    rows = padded(W.shape[1], TILE)
    W, v = pack(W, rows, dtype), pack(v[:, :, None], rows, dtype)
    out = aligned((len(W), rows * (W.shape[2] + 1), W.shape[3]), dtype)
    out[:, : rows * W.shape[2]], out[:, rows * W.shape[2] :] = W.reshape(len(W), -1, W.shape[3]), v[:, :, 0]
    return out


def flat(P: np.ndarray) -> np.ndarray:
    """The same memory, all groups in one."""
    return P.reshape(-1, P.shape[2])


def weights_of(P: np.ndarray, count: int, neurons: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """W and v, float64, of parameters."""
    rows = P.shape[1] // (inputs + 1)
    found = unpack(P[:, :, None], count, P.shape[1], np.float64)[:, :, 0]
    W = found[:, : rows * inputs].reshape(count, rows, inputs)[:, :neurons]
    return np.ascontiguousarray(W), found[:, rows * inputs :][:, :neurons].copy()


def sample_field(
    neurons: int, X: np.ndarray, y: np.ndarray, loss: str, dynamics: Dynamics, dtype: DTypeLike
) -> SampleField:
    """The field of samples, with room for networks of so many neurons."""
    samples, inputs, lanes = y.shape[-1], X.shape[-1], lane_count(dtype)
    rows, room = padded(neurons, TILE), padded(samples, TILE)
    X, y = pack_samples(X, y, room, dtype)
    f, r = (aligned((room, lanes), dtype) for _ in range(2))
    values, slopes = (aligned((rows, room, lanes), dtype) for _ in range(2))
    gates, before = (np.zeros((rows, room), GATES[lanes]) for _ in range(2))
    return SampleField(X, y, samples, neurons, inputs, LOSSES[loss], ACTIVATIONS[dynamics.activation],
                       float(dynamics.parameter), f, r, values, slopes, gates, before, aligned((lanes,), dtype))


def population_field(networks: int, neurons: int, population: Population) -> PopulationField:
    """The field of a population, with room for networks of so many neurons."""
    units = np.ascontiguousarray(np.broadcast_to(population.units, (networks, *population.units.shape[-2:])))
    inputs, lanes = units.shape[2], lane_count(np.float64)
    rows, first = padded(neurons, TILE), padded(units.shape[1], TILE)
    lengths = np.sqrt(np.cumsum(units * units, axis=2)[:, :, -1:])
    square = aligned((-(-networks // lanes), lanes), np.float64)
    square.reshape(-1)[:networks] = _mean_squares(units, population)
    Z, sized, norms, pairs, now = (aligned((*shape, lanes), np.float64) for shape in (
        (first + rows, inputs), (first + rows,), (rows,), (rows, first + rows), ()))
    none = np.zeros((0, 0), np.uint8)
    return PopulationField(pack(units / lengths, first, np.float64),
                           pack(population.factors[:, None] * lengths, first, np.float64)[:, :, 0],
                           population.deviation, population.radial, square, inputs, none, none, Z, sized, norms, pairs, now)


def _mean_squares(units: np.ndarray, population: Population) -> np.ndarray | float:
    """E[y²]: where it is not given, twice the loss of networks that are the label, on labels that are 0."""
    if population.square is not None:
        return population.square
    nothing = replace(population, units=units[:, :0], factors=population.factors[:0], square=0.0)
    factors = np.ascontiguousarray(np.broadcast_to(population.factors, units.shape[:2]))
    return 2 * population_drifts(units, factors, nothing)[1]


class ActivatedSamples(Samples):
    """`Samples` for networks of other activations."""

    def __init__(self, X, y, loss, dynamics):
        super().__init__(X, y, loss)
        self.make = lambda neurons: sample_field(neurons, X, y, loss, dynamics, np.float64)

    def evaluate(self, W, v, drifts=True):
        """As `Samples.evaluate`, D_a = (1/N) Σ_n σ'(w_a·x_n) r_n x_n; a neuron is active if its weights are finite."""
        networks, neurons, inputs = W.shape
        P = parameters(W, v, np.float64)
        D, outputs = aligned(P.shape, np.float64), aligned((len(P), self.room, self.lanes), np.float64)
        observe_samples(P, flat(P), self.make(neurons), flat(D), outputs)
        f = unpack(outputs[:, :, None], networks, self.count)[:, :, 0]
        active = np.isfinite(W).all(axis=2) & np.isfinite(v)
        return f, weights_of(D, networks, neurons, inputs)[0] if drifts else None, active


class PopulationSamples(Samples):
    """Samples that nobody learns from, beside the population that networks do learn from."""

    def __init__(self, X, y, loss, population):
        super().__init__(X, y, loss)
        self.population = population

    def evaluate(self, W, v, drifts=True):
        """Outputs on the samples, but drifts D_a = E[1[w_a·x > 0] (y - f) x]; any neuron that has a direction is active."""
        f, *_ = super().evaluate(W, v, drifts=False)
        D = population_drifts(W, v, self.population)[0] if drifts else None
        finite = np.isfinite(W).all(axis=2) & np.isfinite(v)
        return f, D, finite & (W != 0).any(axis=2)

    def mean_loss(self, W, v):
        """E[(y - f)²]/2 [network]."""
        return population_drifts(W, v, self.population)[1]


def population_drifts(W: np.ndarray, v: np.ndarray, population: Population) -> tuple[np.ndarray, np.ndarray]:
    """Drifts D_a = E[1[w_a·x > 0] (y - f) x] [network, neuron, input], and losses E[(y - f)²]/2 [network], float64."""
    networks, neurons, inputs = W.shape
    P = parameters(W, v, np.float64)
    D, losses = aligned(P.shape, np.float64), aligned((len(P), P.shape[2]), np.float64)
    observe_population(P, flat(P), population_field(networks, neurons, population), flat(D), losses)
    return weights_of(D, networks, neurons, inputs)[0], losses.reshape(-1)[:networks].copy()
