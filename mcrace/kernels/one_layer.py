"""One hidden layer of ReLU neurons, networks in lanes: layouts, losses, and what steps are worked out with.

Layouts, with L lanes: W [group, neuron, input, L], v [group, neuron, 1, L]; samples X [sample, input] shared by all
networks or [group, sample, input, L]; labels y [sample] or [group, sample, L].  Neurons and samples are padded with zeros
(`rows_for`, `room_for`), inputs are not.  A padded sample switches no neuron on; a padded neuron stays 0.

Of the pass forward one gate bit a lane is kept, [tile, sample, neuron of the tile]: no activations.  But without mask
registers bits of at most `FEW` inputs take longer than all else: there z is kept, [.., L], unless it is large.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from mcrace.kernels.elementary import exp, softplus
from mcrace.kernels.lanes import padded
from mcrace.kernels.registers import ADDERS
from mcrace.kernels.tiles import dot, inline, load, own, part, shared, store, zeros

TILE, SAMPLES = 4, 3  # neurons and samples in a tile
HALF = 2  # neurons in a last tile, where units of their own add
FEW, FEW_BYTES = 3, 1 << 20  # inputs, and bytes of z, up to which it is kept
AT_HAND, SPAN = 1 << 21, 1 << 19  # bytes of r x up to which all of it is at hand, and of parts of it where it is larger
ONES = 64  # samples at which it is worked out at once where a tile is on, without mask registers
NO_MOVE = -0.0  # not even of a zero's sign: weights of networks that have stopped need no masked store, often a slow one
MSE, LOGISTIC = 0, 1
LOSSES = {"mse": MSE, "logistic": LOGISTIC}


def rows_for(neurons, inputs):
    """How many rows there are for neurons: full tiles, or those and half a one."""
    multiple = HALF if ADDERS and inputs > FEW and neurons > TILE else TILE
    return padded(neurons, multiple)


def room_for(samples, inputs):
    """How many samples there is room for: a multiple of what tiles take at once, but one by one where inputs are few."""
    return samples if inputs <= FEW else padded(samples, SAMPLES)


class Method(NamedTuple):
    """What is done at every step."""

    loss: int
    plain: bool  # neither decay nor momentum
    decay: float
    momentum: float


def samples_of(X, group, rows, cols):
    """The samples, or labels, of a group as a matrix."""


@overload(samples_of, inline="always")
def _samples_of(X, group, rows, cols):
    if X.ndim <= 2:
        return lambda X, group, rows, cols: shared(X, 0, rows, cols)
    return lambda X, group, rows, cols: own(X, group * rows * cols, rows, cols)


# ------------------------------------------------------------------------------------------------- losses


@inline
def residuals(f, y, share, loss):
    """Put -dl/df, times share, in the place of the outputs."""
    for n in range(f.cols):
        z, label = load(f, 0, n, 1, 1), load(y, 0, n, 1, 1)
        r = label / (1 + exp(label * z)) if loss == LOGISTIC else label - z
        store(f, 0, n, share * r)


@inline
def mean_loss(f, y, share, loss):
    """The loss of each network from its outputs, as a 1x1 tile; a padded sample, of label 0, adds nothing."""
    total = zeros(f, 1, 1)
    for n in range(f.cols):
        z, label = load(f, 0, n, 1, 1), load(y, 0, n, 1, 1)
        if loss == LOGISTIC:
            total = dot(softplus(0 - label * z), label * label, total)
        else:
            total = dot(0.5 * (label - z), label - z, total)
    return total * share


# ------------------------------------------------------------------------------------------------- rooms


class Forward(NamedTuple):
    """What a pass forward of a group reads, and what it fills."""

    W: object
    v: object
    X: object
    f: object  # outputs [1, sample], to which every tile of neurons adds
    on: object  # which neurons are on [tile and sample, neuron of the tile]: bits, or z


class Room(NamedTuple):
    """Where one step of a group is worked out."""

    D: np.ndarray  # drifts [neuron, input, lane], for no step from one to the next
    rx: np.ndarray  # r x of some samples [sample, input, lane]
    zero: np.ndarray  # 0 times the sum of all r x [1, input, lane]: 0, but NaN where one is not finite
    ones: np.ndarray  # 1 where the neurons of a tile are on, else 0 [neuron, sample, lane]


class Sums(NamedTuple):
    """Matrices on a `Room`, of which drifts are summed."""

    D: object
    rx: object
    zero: object
    ones: object
    first: int  # the sample whose r x comes first


@inline
def sums_of(room, first, after):
    """The room for the drifts of the samples first, first+1, ... before `after`."""
    m, d, _ = room.D.shape
    return Sums(own(room.D, 0, m, d), own(room.rx, 0, after - first, d), own(room.zero, 0, 1, d), own(room.ones, 0, TILE, ONES),
                first)


@inline
def some_of(sums, start, count):
    """The same for some of the samples."""
    return Sums(sums.D, part(sums.rx, start, count), sums.zero, sums.ones, sums.first + start)


@inline
def gates_of(i, first, count, ahead):
    """Where the neurons of tile i are on at the samples first, first+1, ...: [neuron, sample]."""
    return part(ahead.on, i // TILE * ahead.f.cols + first, count).T


@inline
def start(sums, to, k, K, R, more):
    """Sums that drifts at D[to:to+R] start from.

    Where r x is not finite neither is the drift of a neuron that is off, 0 times it: then it does not matter whether a sum
    leaves r x out or adds 0 times it, as it does without mask registers.
    """
    zero = zeros(sums.D, R, K) + load(sums.zero, 0, k, 1, K)
    return zero + load(sums.D, to, k, R, K) if more else zero
