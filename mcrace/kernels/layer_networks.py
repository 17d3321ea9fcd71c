"""Networks of any depth and number of outputs in vector lanes, seen from outside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcrace.kernels.lanes import aligned, lane_count, pack, padded, unpack
from mcrace.kernels.layers import train
from mcrace.kernels.marks import InLanes, MarkTable
from mcrace.kernels.one_layer import LOSSES, TILE, Method

CHUNK_VECTORS = 1 << 13  # activations of a chunk of samples: half a megabyte


class LayeredNetworks(InLanes):
    """Networks of ReLU layers in training, one in each lane.

    Parameters
    ----------
    weights : sequence of arrays [network, unit, input]
        From the first hidden layer to the outputs.
    X : array [sample, input], shared, or [network, sample, input]
    y : array [sample, output] or [network, sample, output]
    loss : {"mse", "logistic"}
        Summed over outputs.
    dtype, marks, decay, momentum : see `mcrace.kernels.OneLayerNetworks`
    velocity : sequence of arrays, optional
        Velocities at the start, as the weights, in units of a step.
    """

    kernel = "layers-lanes"

    def __init__(self, weights, X, y, loss, dtype, marks=None, decay=0.0, momentum=0.0, velocity=None):
        self.count, self.dtype = len(weights[0]), np.dtype(dtype)
        self.lanes = lane_count(dtype)
        self.shapes = [w.shape[1:] for w in weights]
        self.widths = np.array([padded(n, TILE) for n in (self.shapes[0][1], *(s[0] for s in self.shapes))])
        self.samples = y.shape[-2]
        self.P = self._flat(weights)
        plain = not decay and not momentum
        self.U = self.P[:0] if plain else self._flat(velocity or [np.zeros_like(w) for w in weights])
        room = padded(self.samples, TILE)
        self.X, self.y = (self._padded_samples(a, room, wide) for a, wide in ((X, self.widths[0]), (y, self.widths[-1])))
        units = int(self.widths[1:].sum())
        self.chunk = min(room, max(TILE, CHUNK_VECTORS // units // TILE * TILE))
        self.G, self.A = aligned(self.P.shape[1:], dtype), aligned((units * self.chunk, self.lanes), dtype)
        self.method = Method(LOSSES[loss], plain, self.dtype.type(decay), self.dtype.type(momentum))
        marks = marks or MarkTable.none(self.count)
        self.marks = marks.in_lanes(self.P[:, :, None], self.P[:, :0, None], self.lanes)

    def _flat(self, weights: Sequence[np.ndarray]) -> np.ndarray:
        """Parameters [group, parameter, lane], every layer padded."""
        parts = []
        for w, above, below in zip(weights, self.widths[1:], self.widths):
            whole = np.zeros((self.count, above, below))
            whole[:, : w.shape[1], : w.shape[2]] = w
            parts.append(whole.reshape(self.count, -1))
        flat = np.concatenate(parts, axis=1)
        return pack(flat[:, :, None], flat.shape[1], self.dtype)[:, :, 0]

    def _padded_samples(self, array: np.ndarray, room: int, wide: int) -> np.ndarray:
        """Samples [sample, col] or [group, sample, col, lane], padded."""
        if array.ndim == 3:
            whole = np.zeros((self.count, room, wide))
            whole[:, : array.shape[1], : array.shape[2]] = array
            return pack(whole, room, self.dtype)
        out = aligned((room, wide), self.dtype)
        out[: len(array), : array.shape[1]] = array
        return out

    def advance(self, first: int, etas: np.ndarray, look: bool = False) -> None:
        """Take the steps `first`, first+1, ... of the given sizes; `look`: test the marks after the last one, too."""
        train(self.P, self.U, self.G, self.A, self.X, self.y, self.samples, self.chunk, self.widths,
              np.asarray(etas, self.dtype), self.method, self.marks, first, look)

    def weights(self) -> list[np.ndarray]:
        """The weights of every layer [network, unit, input], float64, as they stand."""
        return self._unflat(self.P)

    def kept(self, mark: int) -> list[np.ndarray]:
        """The weights at a mark that keeps them; zeros for the networks that did not meet it."""
        return self._unflat(self.marks.kept_W[self.marks.keep[mark]][:, :, 0])

    def _unflat(self, P: np.ndarray) -> list[np.ndarray]:
        flat = unpack(P[:, :, None], self.count, P.shape[1], np.float64)[:, :, 0]
        out, start = [], 0
        for (units, inputs), above, below in zip(self.shapes, self.widths[1:], self.widths):
            out.append(flat[:, start : start + above * below].reshape(-1, above, below)[:, :units, :inputs].copy())
            start += above * below
        return out

    @property
    def finite(self) -> np.ndarray:
        """Which networks have finite weights."""
        return np.isfinite(unpack(self.P[:, :, None], self.count, self.P.shape[1])).all(axis=(1, 2))
