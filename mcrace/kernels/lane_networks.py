"""Networks of one hidden layer in vector lanes, seen from outside: arrays [network, ...] in, arrays out."""

from __future__ import annotations

import numpy as np

from mcrace.kernels.lanes import GATES, aligned, lane_count, lane_flags, orders_in_lanes, pack, pack_samples, padded, unpack
from mcrace.kernels.marks import InLanes
from mcrace.kernels.one_layer import AT_HAND, FEW, FEW_BYTES, LOSSES, ONES, SPAN, TILE, Method, Room, room_for, rows_for
from mcrace.kernels.one_layer_training import gradients, train, train_on_batches
from mcrace.kernels.registers import VECTOR, WIDE


class OneLayerNetworks(InLanes):
    """Networks of one hidden layer in training, one in each lane.

    Parameters
    ----------
    W : array [network, neuron, input]
    v : array [network, neuron]
    X : array [sample, input], shared, or [network, sample, input]
    y : array [sample] or [network, sample]
    loss : {"mse", "logistic"}
    dtype : float32 or float64
        Of all arithmetic.
    marks : `mcrace.kernels.marks.MarkTable`
    decay : float
        Weight decay: the gradient of the loss is that of L + decay (|W|² + |v|²)/2.
    momentum : float
        What is kept of the velocity of a heavy ball from one step to the next.
    velocity : tuple of arrays, optional
        Velocities at the start, as W and v, in units of a step.
    """

    kernel = "one-layer-lanes"

    def __init__(self, W, v, X, y, loss, dtype, marks, decay=0.0, momentum=0.0, velocity=None):
        self.count, self.neurons, self.inputs = W.shape
        self.samples = y.shape[-1]
        self.dtype = np.dtype(dtype)
        self.lanes = lanes = lane_count(dtype)
        rows, room = rows_for(self.neurons, self.inputs), room_for(self.samples, self.inputs)
        self.W, self.v = pack(W, rows, dtype), pack(v[:, :, None], rows, dtype)
        plain = not decay and not momentum
        U, u = velocity or (np.zeros_like(W), np.zeros_like(v))
        moving = slice(0, 0) if plain else slice(None)
        self.U, self.u = pack(U[moving], rows, dtype), pack(u[moving, :, None], rows, dtype)
        self.room = room_of(rows, self.inputs, self.samples, self.dtype)
        self.X, self.y = pack_samples(X, y, room, dtype)
        self.f, self.on = aligned((room, lanes), dtype), _room_for_gates(rows, room, self.inputs, self.dtype)
        self.method = Method(LOSSES[loss], plain, self.dtype.type(decay), self.dtype.type(momentum))
        self.marks = marks.in_lanes(self.W, self.v, lanes)

    def advance(self, first: int, etas: np.ndarray, look: bool = False, orders: np.ndarray | None = None) -> None:
        """Take the steps `first`, first+1, ... of the given sizes.

        Parameters
        ----------
        first : int
        etas : array [step]
        look : bool
            Whether to test the marks after the last step, too.
        orders : int array [network, step, sample], optional
            The minibatches, filled up with -1.
        """
        arrays = (self.W, self.v, self.U, self.u, self.room, self.X, self.y, self.samples, self.f, self.on)
        etas = np.asarray(etas, self.dtype)
        if orders is None:
            train(*arrays, etas, self.method, self.marks, first, look)
            return
        size = room_for(orders.shape[2], self.inputs)
        batch_X, batch_y = (aligned((size, *tail, self.lanes), self.dtype) for tail in ((self.inputs,), ()))
        train_on_batches(*arrays, etas, self.method, self.marks, first, look,
                         orders_in_lanes(orders, len(self.W), self.lanes, size), *self._all_samples(), batch_X, batch_y)

    def _all_samples(self) -> tuple[np.ndarray, np.ndarray]:
        return (self.X, self.y) if self.X.ndim == 4 else (self.X[None, :, :, None], self.y[None, :, None])

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """W [network, neuron, input] and v [network, neuron], float64, as they stand."""
        return self._unpacked(self.W, self.v)

    def kept(self, mark: int) -> tuple[np.ndarray, np.ndarray]:
        """The weights at a mark that keeps them; zeros for the networks that did not meet it."""
        slot = self.marks.keep[mark]
        return self._unpacked(self.marks.kept_W[slot], self.marks.kept_v[slot])

    def _unpacked(self, W, v):
        W, v = (unpack(a, self.count, self.neurons, np.float64) for a in (W, v))
        return W, v[:, :, 0]

    def velocities(self) -> tuple[np.ndarray, np.ndarray]:
        """Velocities of W and v, float64, as they stand; zeros for plain descent."""
        if self.method.plain:
            return np.zeros((self.count, self.neurons, self.inputs)), np.zeros((self.count, self.neurons))
        return self._unpacked(self.U, self.u)

    @property
    def finite(self) -> np.ndarray:
        """Which networks have finite output weights; infinite input weights make these so one step later."""
        return np.isfinite(unpack(self.v, self.count, self.neurons)).all(axis=(1, 2))


def room_of(rows: int, inputs: int, samples: int, dtype: np.dtype) -> Room:
    """Room for a step of networks of so many neurons, padded."""
    span = samples if samples * inputs * VECTOR <= AT_HAND else max(1, SPAN // (inputs * VECTOR))
    sizes = (rows, inputs), (span, inputs), (1, inputs), (TILE, ONES)
    return Room(*(aligned((*size, lane_count(dtype)), dtype) for size in sizes))


def _room_for_gates(rows: int, samples: int, inputs: int, dtype: np.dtype) -> np.ndarray:
    """Where training keeps which neurons are on: bits, or with few inputs z."""
    lanes = lane_count(dtype)
    if not WIDE and inputs <= FEW and rows * samples * VECTOR <= FEW_BYTES:
        return aligned((padded(rows, TILE) // TILE, samples, TILE, lanes), dtype)
    return _room_for_bits(rows, samples, lanes)


def _room_for_bits(rows: int, samples: int, lanes: int) -> np.ndarray:
    return np.zeros((padded(rows, TILE) // TILE, samples, TILE), GATES[lanes])


class Samples:
    """Samples and labels in float64 lanes, packed once and evaluated often.

    Parameters
    ----------
    X : array [sample, input], shared, or [network, sample, input]
    y : array [sample] or [network, sample]
    loss : {"mse", "logistic"}
    """

    def __init__(self, X, y, loss):
        self.count, self.loss = y.shape[-1], LOSSES[loss]
        self.room, self.lanes = room_for(self.count, X.shape[-1]), lane_count(np.float64)
        self.X, self.y = pack_samples(X, y, self.room, np.float64)

    def evaluate(self, W, v, drifts=True):
        """Outputs and drifts of networks, in float64, by the same lanes as in training.

        Parameters
        ----------
        W : array [network, neuron, input]
        v : array [network, neuron]
        drifts : bool
            Whether they are wanted.

        Returns
        -------
        f : array [network, sample]
        D : array [network, neuron, input], or None
            D_a = (1/N) sum_n g_an r_n x_n (THEORY.md, Notation).
        active : bool array [network, neuron]
            Whether a neuron is on at any sample.
        """
        networks, neurons, _ = W.shape
        rows = rows_for(neurons, W.shape[2])
        packed_W, packed_v = pack(W, rows, np.float64), pack(v[:, :, None], rows, np.float64)
        D = aligned(packed_W.shape if drifts else (0, *packed_W.shape[1:]), np.float64)
        outputs = aligned((len(packed_W), self.room, self.lanes), np.float64)
        f, gates = aligned((self.room, self.lanes), np.float64), _room_for_bits(rows, self.room, self.lanes)
        on = np.zeros((len(packed_W), rows), np.int64)
        room = room_of(rows, W.shape[2], self.count, np.dtype(np.float64))
        gradients(packed_W, packed_v, self.X, self.y, self.count, f, gates, room, D, outputs, on, self.loss)
        f = unpack(outputs[:, :, None], networks, self.count)[:, :, 0]
        active = lane_flags(on[:, :neurons], self.lanes, networks)
        return f, unpack(D, networks, neurons) if drifts else None, active
