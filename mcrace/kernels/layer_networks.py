"""Networks of any depth, number of outputs and normalisation in vector lanes, seen from outside."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from mcrace.kernels.architecture import (
    ACTIVATIONS,
    BIASES,
    GAINS,
    NORMALS,
    SCALES,
    SHIFTS,
    WEIGHTS,
    WIDTHS,
    Layers,
    NormOf,
    Plan,
    plan_of,
)
from mcrace.kernels.lanes import GATES, aligned, filled, lane_count, orders_in_lanes, pack, padded, unpack
from mcrace.kernels.layered import evaluate, train, train_on_batches
from mcrace.kernels.marks import InLanes, MarkTable
from mcrace.kernels.normalisation import INVERSE
from mcrace.kernels.one_layer import LOSSES, TILE, Method

CHUNK, CHUNK_VECTORS = 40, 5 << 10  # samples taken at once, and of their workspace: a third of a megabyte
Weights = tuple[np.ndarray, ...]


class LayeredNetworks(InLanes):
    """Networks of ReLU layers in training, one in each lane.

    Parameters
    ----------
    weights : sequence of arrays [network, ...]
        As `layers` has them: W_1, ..., V, then biases, then γ, β and λ of each layer.
    X : array [sample, input], shared, or [network, sample, input]
    y : array [sample, output] or [network, sample, output]
    loss : {"mse", "logistic"}
        Summed over outputs.
    dtype, marks, decay, momentum : see `mcrace.kernels.OneLayerNetworks`; W_1, ..., V alone decay.
    velocity : sequence of arrays, optional
        Velocities at the start, as the weights, in units of a step.
    layers : `mcrace.kernels.Layers`, optional
        The architecture; without it plain layers whose widths are those of the weights.
    roughness : array [sample] or [network, sample], optional
        E of each sample, where the normalisation is by that of the input.
    """

    kernel = "layers-lanes"

    def __init__(self, weights, X, y, loss, dtype, marks=None, decay=0.0, momentum=0.0, velocity=None, layers=None,
                 roughness=None):
        self.layers = layers or Layers.of(weights)
        self.plan = plan_of(self.layers)
        self.count, self.dtype, self.lanes = len(weights[0]), np.dtype(dtype), lane_count(dtype)
        self.P = packed_parameters(weights, self.layers, self.plan, dtype)
        plain = not decay and not momentum
        U = [np.zeros_like(w) for w in weights] if velocity is None else velocity
        self.U = self.P[:0] if plain else packed_parameters(U, self.layers, self.plan, dtype)
        self.data = _Data.made(X, y, roughness, self.plan, self.dtype)
        chunk = max(TILE, CHUNK_VECTORS // self.plan.rows // TILE * TILE)
        self.chunk = min(len(self.data.share), CHUNK, chunk)
        self.rooms = _rooms(self.plan, self.chunk, self.dtype)
        self.norm = NormOf.made(self.layers.norm, self.dtype)
        self.method = Method(LOSSES[loss], plain, self.dtype.type(decay), self.dtype.type(momentum))
        marks = marks or MarkTable.none(self.count)
        self.marks = marks.in_lanes(self.P[:, :, None], self.P[:, :0, None], self.lanes)

    def advance(self, first: int, etas: np.ndarray, look: bool = False, orders: np.ndarray | None = None) -> None:
        """Take the steps `first`, first+1, ... of the given sizes.

        Parameters
        ----------
        first : int
        etas : array [step]
        look : bool
            Whether to test the marks after the last step, too.
        orders : int array [network, step, sample], optional
            The minibatches, filled up with -1; of one size for all networks at each step.
        """
        etas, plan = np.asarray(etas, self.dtype), self.plan
        how = (self.chunk, plan, self.norm, etas, self.method, self.marks, first, look)
        if orders is None:
            train(self.P, self.U, *self.rooms, *self.data, *how)
            return
        size = padded(orders.shape[2], TILE)
        orders = orders_in_lanes(orders, len(self.P), self.lanes, size)
        inputs, *_, outputs = plan.row(WIDTHS)
        batch = [aligned((size, *tail, self.lanes), self.dtype) for tail in ((inputs,), (outputs,), (1,))]
        train_on_batches(self.P, self.U, *self.rooms, *self.data, *how, orders, *self.data.with_lanes(), *batch,
                         aligned((size,), self.dtype))

    def weights(self) -> Weights:
        """The weights, float64, as they stand."""
        return unpacked_parameters(self.P, self.count, self.layers, self.plan)

    def kept(self, mark: int) -> Weights:
        """The weights at a mark that keeps them; zeros for the networks that did not meet it."""
        kept = self.marks.kept_W[self.marks.keep[mark]][:, :, 0]
        return unpacked_parameters(kept, self.count, self.layers, self.plan)

    def velocities(self) -> Weights:
        """Velocities of the weights, float64, as they stand; zeros for plain descent."""
        if self.method.plain:
            return tuple(np.zeros_like(w) for w in self.weights())
        return unpacked_parameters(self.U, self.count, self.layers, self.plan)

    @property
    def finite(self) -> np.ndarray:
        """Which networks have finite weights."""
        return np.isfinite(unpack(self.P[:, :, None], self.count, self.P.shape[1])).all(axis=(1, 2))


class Evaluation(NamedTuple):
    """What networks compute, float64; lists have an entry for each hidden layer."""

    outputs: np.ndarray  # f [network, sample, output]
    activations: list[np.ndarray]  # x_l [network, neuron, sample], with what is added to relu(z_l)
    gates: list[np.ndarray]  # whether z_l > 0 [network, neuron, sample]
    sigmas: list[np.ndarray]  # σ_eff [network, sample]; 0 where all units are equal; of no layer without a normalisation
    slopes: Weights | None  # -∂L/∂weights, as the weights

    @property
    def uncertainties(self) -> list[np.ndarray]:
        """1/σ_eff² of each layer [network, sample]."""
        with np.errstate(divide="ignore"):
            return [1 / sigma**2 for sigma in self.sigmas]


class LayeredSamples:
    """Samples and labels in float64 lanes, packed once and evaluated often by layered networks.

    Parameters
    ----------
    layers : `mcrace.kernels.Layers`
    X, y, loss, roughness : see `LayeredNetworks`
    """

    def __init__(self, layers, X, y, loss, roughness=None):
        self.layers, self.plan, self.count = layers, plan_of(layers), y.shape[-2]
        self.data = _Data.made(X, y, roughness, self.plan, np.dtype(np.float64))
        self.norm, self.loss = NormOf.made(layers.norm, np.dtype(np.float64)), LOSSES[loss]

    def of(self, layers: Layers) -> LayeredSamples:
        """The same samples for networks of the same sizes with another normalisation."""
        other = copy(self)
        other.layers, other.plan, other.norm = layers, plan_of(layers), NormOf.made(layers.norm, np.dtype(np.float64))
        return other

    def evaluate(self, weights: Sequence[np.ndarray], hidden: bool = True, slopes: bool = True) -> Evaluation:
        """Outputs, layers and slopes of networks, by the same lanes and in the same order as in training.

        Parameters
        ----------
        weights : sequence of arrays [network, ...]
        hidden : bool
            Whether activations, gates and σ_eff are wanted; else these lists are empty.
        slopes : bool
            Whether -∂L/∂weights are wanted.
        """
        plan, networks, room = self.plan, len(weights[0]), len(self.data.share)
        P = packed_parameters(weights, self.layers, plan, np.float64)
        groups, lanes, H = len(P), P.shape[2], len(self.layers.hidden)
        C, G, R, gates = _rooms(plan, room, np.dtype(np.float64))
        top = plan.row(ACTIVATIONS)[-2]
        f = aligned((groups, plan.row(WIDTHS)[-1] * room, lanes), np.float64)
        some = groups if hidden else 0
        x = aligned((some, top * room, lanes), np.float64)
        opened = np.zeros((some, len(gates)), gates.dtype)
        scales = aligned((some, (plan.kept - plan.row(SCALES)[0]) * room, lanes), np.float64)
        G_all = aligned((groups if slopes else 0, plan.size, lanes), np.float64)
        units, numbers = plan.row(NORMALS)[0], plan.row(SCALES)[0]
        for g in range(groups):
            given = (P, g, C, G, R, gates, *self.data, plan, self.norm, self.loss)
            evaluate(*given, True, False)
            f[g] = R[top * room : units * room]
            if hidden:
                x[g], opened[g], scales[g] = R[: top * room], gates, R[numbers * room : plan.kept * room]
            if slopes:
                evaluate(*given, False, True)
                G_all[g] = G[0]
        out = _samples_of_lanes(f, room, networks)[:, : self.layers.outputs, : self.count].swapaxes(1, 2)
        layers, sigmas = [], []
        if hidden:
            rows = _samples_of_lanes(x, room, networks)[:, :, : self.count]
            layers = [rows[:, start : start + m].copy() for start, m in zip(plan.row(ACTIVATIONS), self.layers.hidden)]
            four = _samples_of_lanes(scales, room, networks)[:, :, : self.count]
            inverses = [four[:, 4 * l + INVERSE] for l in range(H if self.layers.norm else 0)]
            sigmas = [np.divide(1, a, out=np.zeros_like(a), where=a != 0) for a in inverses]
        found = unpacked_parameters(G_all, networks, self.layers, plan) if slopes else None
        return Evaluation(np.ascontiguousarray(out), layers, self._gates(layers, opened, room), sigmas, found)

    def _gates(self, activations: list[np.ndarray], opened: np.ndarray, room: int) -> list[np.ndarray]:
        """Gates from the activations, and from their bits where something was added."""
        gates = []
        for x, skips, start in zip(activations, self.layers.skips, self.plan.row(ACTIVATIONS)):
            on = x > 0
            if skips:
                bits = opened[:, start * room : (start + x.shape[1]) * room].reshape(-1, x.shape[1], room)[:, :, : self.count]
                lanes = np.arange(lane_count(np.float64)).reshape(1, -1, 1, 1)
                on = (bits[:, None] >> lanes & 1).astype(bool).reshape(-1, *bits.shape[1:])[: len(x)]
            gates.append(on)
        return gates


def evaluate_layers(
    layers: Layers,
    weights: Sequence[np.ndarray],
    X: np.ndarray,
    y: np.ndarray,
    loss: str,
    roughness: np.ndarray | None = None,
) -> Evaluation:
    """Evaluate layered networks once: see `LayeredSamples`."""
    return LayeredSamples(layers, X, y, loss, roughness).evaluate(weights)


# ------------------------------------------------------------------------------------------------- packing


class _Data(NamedTuple):
    """Samples, labels, roughness and shares, padded, as `mcrace.kernels.layered.train` takes them."""

    X: np.ndarray
    y: np.ndarray
    rough: np.ndarray
    share: np.ndarray

    @classmethod
    def made(cls, X: np.ndarray, y: np.ndarray, roughness: np.ndarray | None, plan: Plan, dtype: np.dtype) -> _Data:
        """From samples, labels and roughness as they are given."""
        samples = y.shape[-2]
        room = padded(samples, TILE)
        share = filled(np.full(samples, 1 / samples), (room,), dtype)
        rough = np.zeros((1, samples)) if roughness is None else np.atleast_2d(roughness)
        if len(rough) == 1:
            rough = np.broadcast_to(rough, (lane_count(dtype), samples))
        lanes = pack(rough[:, :, None], room, dtype)[:, :, 0]
        inputs, outputs = plan.row(WIDTHS)[0], plan.row(WIDTHS)[-1]
        return cls(_padded(X, room, inputs, dtype), _padded(y, room, outputs, dtype), lanes, share)

    def with_lanes(self) -> tuple[np.ndarray, np.ndarray]:
        """X and y with all their dimensions, [group or 1, sample, col, lane or 1]."""
        X, y = (a if a.ndim == 4 else a[None, :, :, None] for a in (self.X, self.y))
        return X, y


def _padded(array: np.ndarray, room: int, wide: int, dtype: np.dtype) -> np.ndarray:
    """Samples [sample, col] or [group, sample, col, lane], padded."""
    if array.ndim == 3:
        return pack(filled(array, (*array.shape[:2], wide), float), room, dtype)
    return filled(array, (room, wide), dtype)


def _rooms(plan: Plan, samples: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """Room for the centred parameters, the slopes, so many samples, and their gates."""
    lanes = lane_count(dtype)
    C, G = (aligned((1, plan.size, lanes), dtype) for _ in range(2))
    return C, G, aligned((plan.rows * samples, lanes), dtype), np.zeros(plan.row(ACTIVATIONS)[-2] * samples, GATES[lanes])


def _blocks(layers: Layers, plan: Plan) -> list[tuple[int, tuple[int, ...]]]:
    """For each array of the weights, in their order, where it starts among the parameters, and its padded shape there."""
    widths, gains, shifts = plan.row(WIDTHS), plan.row(GAINS), plan.row(SHIFTS)
    matrices = [(start, (above, below)) for start, (below, above) in zip(plan.row(WEIGHTS), pairwise(widths))]
    vectors = [(start, (wide,)) for start, wide in zip(plan.row(BIASES), widths[1:])] if layers.bias else []
    of_norm: list[tuple[int, tuple[int, ...]]] = []
    if layers.norm:
        for l, wide in enumerate(widths[1:-1]):
            of_norm += [(gains[l], (wide,)), (shifts[l], (wide,)), (plan.rates + l, ())]
    return [*matrices, *vectors, *of_norm]


def packed_parameters(weights: Sequence[np.ndarray], layers: Layers, plan: Plan, dtype: DTypeLike) -> np.ndarray:
    """Parameters [group, parameter, lane] from weights [network, ...]."""
    count = len(weights[0])
    flat = np.zeros((count, plan.size))
    for array, (start, shape) in zip(weights, _blocks(layers, plan), strict=True):
        size = int(np.prod(shape))
        block = flat[:, start : start + size].reshape(count, *shape)
        block[(slice(None), *map(slice, array.shape[1:]))] = array
        flat[:, start : start + size] = block.reshape(count, size)
    return pack(flat[:, :, None], plan.size, dtype)[:, :, 0]


def unpacked_parameters(P: np.ndarray, networks: int, layers: Layers, plan: Plan) -> Weights:
    """The weights, float64, that were packed."""
    flat = unpack(P[:, :, None], networks, plan.size, np.float64)[:, :, 0]
    found = []
    for (start, padded_shape), shape in zip(_blocks(layers, plan), layers.shapes):
        block = flat[:, start : start + int(np.prod(padded_shape))].reshape(networks, *padded_shape)
        found.append(block[(slice(None), *map(slice, shape))].copy())
    return tuple(found)


def _samples_of_lanes(array: np.ndarray, room: int, networks: int) -> np.ndarray:
    """[group, row and sample, lane] as [network, row, sample]."""
    groups, size, lanes = array.shape
    rows = size // room if room else 0
    return np.moveaxis(array, 2, 1).reshape(groups * lanes, rows, room)[:networks]
