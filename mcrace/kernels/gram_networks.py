"""Networks of one hidden layer over many inputs, seen from outside: arrays [network, ...] in, arrays out."""

from __future__ import annotations

import numpy as np

from mcrace.kernels.gram import COLUMNS, ROOM, multiply, train
from mcrace.kernels.lanes import aligned, lane_count, padded
from mcrace.kernels.one_layer import LOSSES


class GramNetworks:
    """Networks of one hidden layer over many inputs, in training; see `OneLayerNetworks` for the parameters."""

    kernel = "one-layer-gram"
    lanes = 1

    def __init__(self, W, v, X, y, loss, dtype, marks):
        self.count, self.neurons, self.inputs = W.shape
        self.samples, self.dtype, self.loss = y.shape[-1], np.dtype(dtype), LOSSES[loss]
        L, room = lane_count(dtype), padded(self.samples, ROOM)
        blocks, wide = padded(self.neurons, L) // L, padded(self.inputs, COLUMNS)
        self.W, self.v = neurons_in_lanes(W, wide, dtype), neurons_in_lanes(v[:, :, None], 1, dtype)[:, :, 0]
        X, y = (X, y) if X.ndim == 3 else (X[None], y[None])
        self.X = aligned((len(X), room, wide), dtype)
        self.X[:, : self.samples, : self.inputs] = X
        self.y = aligned((len(y), room), dtype)
        self.y[:, : self.samples] = y
        self.real = aligned((room,), dtype)
        self.real[: self.samples] = 1
        self.K = self._gram(L)
        self.H, self.C = (aligned((self.count, blocks, room, L), dtype) for _ in range(2))
        multiply(self.H, self.W, self.X, True)
        S = L.bit_length() - 1
        self.f, self.dv = aligned((room,), dtype), aligned((blocks, L), dtype)
        self.T = aligned((-(-self.samples // S), COLUMNS, L), dtype)
        self.gates = np.zeros((blocks, -(-self.samples // S), L), {16: np.int32, 8: np.int64}[L])
        self.marks = marks.in_lanes(self.W, self.v, lanes=1)

    def _gram(self, L):
        """K = X Xᵀ by our own product, the samples of one factor in lanes."""
        count, room, wide = self.X.shape
        blocks = neurons_in_lanes(self.X, wide, self.dtype)
        K = aligned((count, room // L, room, L), self.dtype)
        multiply(K, blocks, self.X, True)
        return np.ascontiguousarray(K.swapaxes(2, 3)).reshape(count, room, room)

    def advance(self, first: int, etas: np.ndarray, look: bool = False) -> None:
        """Take the steps `first`, first+1, ... of the given sizes; `look`: test the marks after the last one, too."""
        etas = np.asarray(etas, self.dtype)
        train(self.W, self.H, self.C, self.v, self.K, self.X, self.y, self.real, self.samples, self.f, self.gates, self.T,
              self.dv, etas, self.loss, self.marks, first, look)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """W [network, neuron, input] and v [network, neuron], float64, recovered without a change to what trains."""
        W = self.W.copy()
        multiply(W, self.C, self.X, False)
        return self._plain(W, self.v)

    def kept(self, mark: int) -> tuple[np.ndarray, np.ndarray]:
        """The weights at a mark that keeps them; zeros for the networks that did not meet it."""
        slot = self.marks.keep[mark]
        return self._plain(self.marks.kept_W[slot], self.marks.kept_v[slot])

    def _plain(self, W, v):
        W = W.swapaxes(2, 3).reshape(self.count, -1, W.shape[2])[:, : self.neurons, : self.inputs]
        return W.astype(float), v.reshape(self.count, -1)[:, : self.neurons].astype(float)

    def velocities(self) -> tuple[np.ndarray, np.ndarray]:
        """Zeros: this kernel knows plain descent alone."""
        return np.zeros((self.count, self.neurons, self.inputs)), np.zeros((self.count, self.neurons))

    @property
    def finite(self) -> np.ndarray:
        """Which networks have finite output weights."""
        return np.isfinite(self.v).all(axis=(1, 2))

    @property
    def met(self) -> np.ndarray:
        """Steps at which the marks were met [network, mark], int64; -1: not met."""
        return self.marks.met[:, :, 0].copy()

    @property
    def alive(self) -> np.ndarray:
        """Which networks still move [network]."""
        return self.marks.alive.astype(bool)

    def retire(self, networks: np.ndarray) -> None:
        """Stop the networks that are set in a boolean array."""
        self.marks.alive[networks] = 0


def neurons_in_lanes(array: np.ndarray, cols: int, dtype: np.dtype) -> np.ndarray:
    """Arrays [network, row, col] as [network, block, col, lane], rows and cols padded with zeros."""
    lanes = lane_count(dtype)
    networks, rows, width = array.shape
    whole = np.zeros((networks, padded(rows, lanes), cols), dtype)
    whole[:, :rows, :width] = array
    out = aligned((networks, whole.shape[1] // lanes, cols, lanes), dtype)
    out[...] = whole.reshape(networks, -1, lanes, cols).swapaxes(2, 3)
    return out
