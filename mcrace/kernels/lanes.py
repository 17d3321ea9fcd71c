"""Between arrays [network, ...] and groups of networks side by side in vector lanes [group, ..., lane]."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from mcrace.compiled import compiled
from mcrace.kernels.registers import LONG, VECTOR

GATES = {16: np.uint16, 8: np.uint8, 4: np.int8}  # one gate bit a lane, by lanes


def lane_count(dtype: DTypeLike) -> int:
    """Networks in a vector: 16 of float32 or 8 of float64 where registers are wide, else half as many."""
    return VECTOR // np.dtype(dtype).itemsize


def padded(size: int, tile: int) -> int:
    """The next multiple of a tile."""
    return -(-size // tile) * tile


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Zeros that start at a whole vector, so that no load straddles two cache lines."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.zeros(size + LONG, np.uint8)
    start = -room.ctypes.data % LONG
    return room[start : start + size].view(dtype).reshape(shape)


def filled(array: np.ndarray, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Aligned zeros of a shape with an array at their start."""
    out = aligned(shape, dtype)
    out[tuple(map(slice, array.shape))] = array
    return out


@compiled
def _pack(array, out):
    lanes = out.shape[3]
    for i in range(array.shape[0]):
        for a in range(array.shape[1]):
            for k in range(array.shape[2]):
                out[i // lanes, a, k, i % lanes] = array[i, a, k]


@compiled
def _unpack(lanes_array, out):
    lanes = lanes_array.shape[3]
    for i in range(out.shape[0]):
        for a in range(out.shape[1]):
            for k in range(out.shape[2]):
                out[i, a, k] = lanes_array[i // lanes, a, k, i % lanes]


def pack(array: np.ndarray, rows: int, dtype: DTypeLike) -> np.ndarray:
    """Arrays [network, row, col] as [group, row, col, lane], rows and the last group padded with zeros."""
    lanes = lane_count(dtype)
    out = aligned((-(-len(array) // lanes), rows, array.shape[2], lanes), dtype)
    _pack(array, out)
    return out


def unpack(lanes_array: np.ndarray, networks: int, rows: int, dtype: DTypeLike | None = None) -> np.ndarray:
    """The arrays [network, row, col] that were packed."""
    out = np.empty((networks, rows, lanes_array.shape[2]), dtype or lanes_array.dtype)
    _unpack(lanes_array, out)
    return out


def orders_in_lanes(orders: np.ndarray, groups: int, lanes: int, size: int) -> np.ndarray:
    """Minibatches [network, step, sample] as [group, step, sample, lane], filled up with -1 to `size` samples."""
    count, steps, samples = orders.shape
    whole = np.full((groups * lanes, steps, size), -1, np.int32)
    whole[:count, :, :samples] = orders
    return np.ascontiguousarray(np.moveaxis(whole.reshape(groups, lanes, steps, size), 1, 3))


def pack_samples(X: np.ndarray, y: np.ndarray, room: int, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray]:
    """Samples and labels, shared by all networks or of each, padded with zeros to `room`."""
    if X.ndim == 3:
        return pack(X, room, dtype), pack(y[:, :, None], room, dtype)[:, :, 0]
    return filled(X, (room, X.shape[1]), dtype), filled(y, (room,), dtype)


def lane_flags(bits: np.ndarray, lanes: int, networks: int) -> np.ndarray:
    """Bits of groups [group, ...] as truths of networks [network, ...]."""
    out = np.empty((networks, *bits.shape[1:]), bool)
    _lane_flags(np.ascontiguousarray(bits).reshape(len(bits), -1), lanes, out.reshape(networks, -1))
    return out


@compiled
def _lane_flags(bits, lanes, out):
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = bits[i // lanes, k] >> (i % lanes) & 1


def clear_lanes(bits: np.ndarray, lanes: int, networks: np.ndarray) -> None:
    """Clear the bits, of groups [group], of the networks that are set in a boolean array [network]."""
    for network in np.flatnonzero(networks):
        group, lane = divmod(int(network), lanes)
        bits[group] &= ~(1 << lane)
