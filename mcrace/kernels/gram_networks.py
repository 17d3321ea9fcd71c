"""Networks of one hidden layer over many inputs, seen from outside: arrays [network, ...] in, arrays out."""

from __future__ import annotations

import numpy as np

from mcrace.kernels.gram import COLUMNS, HELD, LAST, SPAN, multiply, recover, train
from mcrace.kernels.lanes import GATES, aligned, filled, padded
from mcrace.kernels.lookup import GROUP, ROWS
from mcrace.kernels.one_layer import LOSSES, TILE
from mcrace.kernels.registers import LONG


def in_blocks(A: np.ndarray) -> np.ndarray:
    """Arrays [network, row, sample] in blocks of samples [network, block, row, sample], in one array of the old shape."""
    count, rows, room = A.shape
    flat, L = aligned((count, rows * room), A.dtype), LONG // A.itemsize
    for n in range(0, room - L, COLUMNS * L):
        block = A[:, :, n : n + COLUMNS * L if room - n > LAST * L else room]
        flat[:, rows * n : rows * (n + block.shape[2])] = block.reshape(count, -1)
    return flat.reshape(A.shape)


class GramNetworks:
    """Networks of one hidden layer over many inputs, in training; see `OneLayerNetworks` for the parameters."""

    kernel = "one-layer-gram"
    lanes = 1

    def __init__(self, W, v, X, y, loss, dtype, marks):
        self.count, self.neurons, self.inputs = W.shape
        self.samples, self.dtype, self.loss = y.shape[-1], np.dtype(dtype), LOSSES[loss]
        L = LONG // np.dtype(dtype).itemsize
        rows, wide = padded(self.neurons, TILE), padded(self.inputs, L)
        room = max(padded(self.samples, L), COLUMNS * L)
        self.W, self.v = filled(W, (self.count, rows, wide), dtype), filled(v, (self.count, rows), dtype)
        X, y = (X, y) if X.ndim == 3 else (X[None], y[None])
        self.X = filled(X, (len(X), room, wide), dtype)
        self.y, self.real = filled(y, (len(y), room), dtype), filled(np.ones(self.samples), (room,), dtype)
        K, H = aligned((len(X), room, room), dtype), aligned((self.count, rows, room), dtype)
        XT = filled(X.swapaxes(1, 2), (len(X), self.inputs, room), dtype)
        multiply(K, self.X, XT)
        multiply(H, self.W, XT)
        self.K, self.H, self.H0, self.C = in_blocks(K), in_blocks(H), in_blocks(H), aligned(H.shape, dtype)
        self.held = aligned((HELD, room), dtype), np.zeros((HELD, room // L, rows), GATES[L]), aligned((HELD, rows), dtype)
        self.places = np.zeros((padded(self.samples, 2 * GROUP) // (2 * GROUP), rows), np.int32)
        self.rooms = [aligned((size, L), dtype) for size in (2 * SPAN * ROWS * COLUMNS, rows * LAST, rows)]
        self.marks = marks.in_lanes(self.W, self.v, lanes=1)

    def advance(self, first: int, etas: np.ndarray, look: bool = False) -> None:
        """Take the steps `first`, first+1, ... of the given sizes; `look`: test the marks after the last one, too."""
        etas = np.asarray(etas, self.dtype)
        train(self.W, self.H, self.H0, self.C, self.v, self.K, self.X, self.y, self.real, self.samples, *self.held,
              self.places, *self.rooms, etas, self.loss, self.marks, first, look)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """W [network, neuron, input] and v [network, neuron], float64, recovered without a change to what trains."""
        W = self.W.copy()
        recover(W, self.C, self.X)
        return self._plain(W, self.v)

    def kept(self, mark: int) -> tuple[np.ndarray, np.ndarray]:
        """The weights at a mark that keeps them; zeros for the networks that did not meet it."""
        slot = self.marks.keep[mark]
        return self._plain(self.marks.kept_W[slot], self.marks.kept_v[slot])

    def _plain(self, W, v):
        return W[:, : self.neurons, : self.inputs].astype(float), v[:, : self.neurons].astype(float)

    def velocities(self) -> tuple[np.ndarray, np.ndarray]:
        """Zeros: this kernel knows plain descent alone."""
        return np.zeros((self.count, self.neurons, self.inputs)), np.zeros((self.count, self.neurons))

    @property
    def finite(self) -> np.ndarray:
        """Which networks have finite output weights."""
        return np.isfinite(self.v).all(axis=1)

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
