"""One hidden layer of ReLU neurons, networks in lanes.

Layouts, with L lanes: W [group, neuron, input, L], v [group, neuron, 1, L]; samples X [sample, input] shared by all
networks or [group, sample, input, L]; labels y [sample] or [group, sample, L].  Neurons and samples are padded with
zeros to a multiple of `TILE`; inputs are not padded.  A padded sample switches no neuron on; a padded neuron stays 0.

Of the pass forward one gate bit a lane is kept, [neuron, sample]: no activations.  But with at most `FEW` inputs bits take
longer than all else, so there z is kept, [neuron, sample, L], unless it is large; kernels know by its type which of the two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from mcrace.compiled import compiled, inner
from mcrace.kernels.elementary import exp, softplus
from mcrace.kernels.marks import note
from mcrace.kernels.registers import WIDE
from mcrace.kernels.tiles import (
    dot,
    fma,
    gate,
    in_fours,
    in_threes,
    inline,
    lane_bits,
    lanes_on,
    load,
    own,
    product,
    relu,
    shared,
    store,
    where,
    zeros,
)

TILE = 4  # neurons and samples in a tile
FEW, FEW_BYTES = 3, 1 << 20  # inputs, and bytes of z, up to which it is kept
SPAN, OWN_SPAN = 256, 40 if WIDE else 100  # samples, shared or own, of a sum that the nearest cache holds for all neurons
NO_MOVE = -0.0  # not even of a zero's sign: weights of networks that have stopped need no masked store, often a slow one
MSE, LOGISTIC = 0, 1
LOSSES = {"mse": MSE, "logistic": LOGISTIC}


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


@inline
def _outputs(n, cols, args):
    i, W, v, X, f, gates = args
    h = product(W, i, TILE, X.T, n, cols)
    store(gates, i, n, gate(h))
    store(f, 0, n, dot(load(v, i, 0, TILE, 1), relu(h), load(f, 0, n, 1, cols)))


@inline
def _forward_with_bits(W, v, X, f, gates):
    for i in range(0, W.rows, TILE):
        in_fours(_outputs, f.cols, (i, W, v, X, f, gates))


@inline
def _outputs_of_few(K, W, v, X, f, z):
    for i in range(0, W.rows, 2):
        w, out = load(W, i, 0, 2, K), load(v, i, 0, 2, 1)
        for n in range(f.cols):
            h = dot(w, load(X, n, 0, 1, K), zeros(W, 2, 1))
            store(z, i, n, h)
            store(f, 0, n, dot(out, relu(h), load(f, 0, n, 1, 1)))


@inline
def _forward_of_few(W, v, X, f, z):
    if X.cols == 1:
        _outputs_of_few(1, W, v, X, f, z)
    elif X.cols == 2:
        _outputs_of_few(2, W, v, X, f, z)
    else:
        _outputs_of_few(3, W, v, X, f, z)


def _add_outputs(W, v, X, f, on):
    """Add to f what all neurons put out."""


@overload(_add_outputs, inline="always")
def _add_outputs_by_type(W, v, X, f, on):
    if on.gates:
        return lambda W, v, X, f, on: _forward_with_bits(W, v, X, f, on)
    return lambda W, v, X, f, on: _forward_of_few(W, v, X, f, on)


@inline
def forward(W, v, X, f, on):
    """Outputs f [1, sample], and which neurons are on at which samples, as bits or by z."""
    for n in range(0, f.cols, TILE):
        store(f, 0, n, zeros(f, 1, TILE))
    _add_outputs(W, v, X, f, on)


@inline
def residuals(f, y, share, loss):
    """Put -dl/df, times share, in the place of the outputs."""
    for n in range(0, f.cols, TILE):
        z, label = load(f, 0, n, 1, TILE), load(y, 0, n, 1, TILE)
        r = label / (1 + exp(label * z)) if loss == LOGISTIC else label - z
        store(f, 0, n, share * r)


@inline
def mean_loss(f, y, share, loss):
    """The loss of each network from its outputs, as a 1x1 tile; a padded sample, of label 0, adds nothing."""
    total = zeros(f, 1, 1)
    for n in range(0, f.cols, TILE):
        z, label = load(f, 0, n, 1, TILE), load(y, 0, n, 1, TILE)
        if loss == LOGISTIC:
            total = dot(softplus(0 - label * z), label * label, total)
        else:
            total = dot(0.5 * (label - z), label - z, total)
    return total * share


class Room(NamedTuple):
    """Where one step of a group is worked out."""

    D: np.ndarray  # drifts [neuron, input, lane], for no step from one to the next
    dv: np.ndarray  # slopes of v [neuron, lane]
    gated: np.ndarray  # residuals of some samples where the neurons of a tile are on, else 0 [neuron, sample, lane]


@inline
def _settle(i, R, k, K, u, whole, target):
    """Store the sums u at D[i:i+R, k:k+K]; or, if asked and they are whole, descend W by them, and note w.D."""
    D, W, descends, v, dv, eta, alive = target
    if descends and whole:
        w, still = load(W, i, k, R, K), lanes_on(W, alive)
        rate, move = where(still, eta * load(v, i, 0, R, 1), 0), where(still, u, NO_MOVE)
        store(W, i, k, fma(rate, move, w))
        store(dv, i, 0, dot(w, u, load(dv, i, 0, R, 1)))
    else:
        store(D, i, k, u)


@inline
def _columns(k, K, R, X, r, gates, target):
    """D[:, k:k+K], the sums over samples of gate * r * x, R neurons at a time."""
    D, W, span = target[0], target[1], OWN_SPAN if X.is_own else SPAN
    for first in range(0, r.cols, span):
        after = min(first + span, r.cols)
        for i in range(0, W.rows, R):
            u = load(D, i, k, R, K) if first else zeros(W, R, K)
            for n in range(first, after):
                u = fma(where(load(gates, i, n, R, 1), load(r, 0, n, 1, 1), 0), load(X, n, k, 1, K), u)
            _settle(i, R, k, K, u, after == r.cols, target)


@inline
def _pairs(start, X, r, gates, target):
    """The columns of D from `start` on, two at a time."""
    for k in range(start, X.cols - 1, 2):
        _columns(k, 2, TILE, X, r, gates, target)
    if (X.cols - start) % 2:
        _columns(X.cols - 1, 1, TILE, X, r, gates, target)


def _sums_by_masks(X, r, gates, gated, target):
    tens, fives = X.cols // 10 * 10, X.cols // 5 * 5
    for k in range(0, tens, 10):
        _columns(k, 10, 2, X, r, gates, target)
    if fives > tens:
        _columns(tens, 5, TILE, X, r, gates, target)
    _pairs(fives, X, r, gates, target)


@inline
def _gated_columns(k, K, args):
    i, first, after, X, r, gated, target = args
    D, W = target[:2]
    u = load(D, i, k, TILE, K) if first else zeros(W, TILE, K)
    for n in range(first, after):
        u = fma(load(gated, 0, n - first, TILE, 1), load(X, n, k, 1, K), u)
    _settle(i, TILE, k, K, u, after == r.cols, target)


def _sums_by_products(X, r, gates, gated, target):
    if X.cols < 5:
        _pairs(0, X, r, gates, target)
        return
    for first in range(0, r.cols, OWN_SPAN):
        after = min(first + OWN_SPAN, r.cols)
        for i in range(0, target[1].rows, TILE):
            for n in range(first, after):
                store(gated, 0, n - first, where(load(gates, i, n, TILE, 1), load(r, 0, n, 1, 1), 0))
            in_threes(_gated_columns, X.cols, (i, first, after, X, r, gated, target))


# With mask registers a gate costs next to nothing, and so many inputs are taken at once that their sums fill the registers;
# without them residuals are gated once for all inputs, where these are not few.
_sums_with_bits = inner(_sums_by_masks if WIDE else _sums_by_products)


@inline
def _columns_of_few(K, R, X, r, z, target):
    W = target[1]
    for i in range(0, W.rows, R):
        u = zeros(W, R, K)
        for n in range(r.cols):
            u = fma(where(gate(load(z, i, n, R, 1)), load(r, 0, n, 1, 1), 0), load(X, n, 0, 1, K), u)
        _settle(i, R, 0, K, u, True, target)


@inner
def _sums_of_few(X, r, z, target):
    if X.cols == 1:
        _columns_of_few(1, TILE, X, r, z, target)
    elif X.cols == 2:
        _columns_of_few(2, TILE, X, r, z, target)
    else:
        _columns_of_few(3, 2, X, r, z, target)


def _sums(X, r, on, gated, target):
    """All of D, and what else `_settle` says."""


@overload(_sums, inline="always")
def _sums_by_type(X, r, on, gated, target):
    if on.gates:
        return lambda X, r, on, gated, target: _sums_with_bits(X, r, on, gated, target)
    return lambda X, r, on, gated, target: _sums_of_few(X, r, on, target)


@inline
def _room(room, W):
    """D, dv and gated as matrices."""
    return own(room.D, 0, W.rows, W.cols), own(room.dv, 0, W.rows, 1), own(room.gated, 0, TILE, OWN_SPAN)


@inline
def drifts(D, W, X, r, on, room):
    """D_a of every neuron."""
    _, dv, gated = _room(room, W)
    _sums(X, r, on, gated, (D, W, False, dv, dv, room.D.dtype.type(0), 0))


@inline
def backward(W, v, X, r, on, room, eta, alive):
    """One step of descent of the networks that are alive."""
    D, dv, gated = _room(room, W)
    for i in range(0, W.rows, TILE):
        store(dv, i, 0, zeros(dv, TILE, 1))
    _sums(X, r, on, gated, (D, W, True, v, dv, eta, alive))
    still = lanes_on(W, alive)
    for i in range(0, W.rows, TILE):
        out = load(v, i, 0, TILE, 1)
        store(v, i, 0, fma(eta, where(still, load(dv, i, 0, TILE, 1), NO_MOVE), out))


@inline
def backward_with_memory(W, v, U, u, X, r, on, room, eta, decay, momentum, alive):
    """One step of the heavy ball with weight decay: velocity = momentum velocity - eta (gradient + decay weights).

    In two passes, the drifts first: a step costs little more, and there is far less to compile.
    """
    D, _, _ = _room(room, W)
    drifts(D, W, X, r, on, room)
    keep, still = 0 - eta * decay, lanes_on(W, alive)
    kept = where(still, zeros(W, 1, 1) + momentum, 1)
    for i in range(0, W.rows, TILE):
        out, speed, dv = load(v, i, 0, TILE, 1), load(u, i, 0, TILE, 1), zeros(v, TILE, 1)
        for k in range(W.cols):
            d, w, ball = load(D, i, k, TILE, 1), load(W, i, k, TILE, 1), load(U, i, k, TILE, 1)
            velocity = fma(kept, ball, where(still, fma(eta * out, d, keep * w), NO_MOVE))
            dv = fma(w, d, dv)
            store(U, i, k, velocity)
            store(W, i, k, w + where(still, velocity, NO_MOVE))
        velocity = fma(kept, speed, where(still, fma(eta, dv, keep * out), NO_MOVE))
        store(u, i, 0, velocity)
        store(v, i, 0, out + where(still, velocity, NO_MOVE))


@inline
def _watch(marks, g, step, f, y, share, loss, W, v):
    """Test the marks of group g against the loss of the outputs."""
    value = mean_loss(f, y, share, loss)
    nearest = load(own(marks.nearest, 0, len(marks.nearest), 1), g, 0, 1, 1)
    if lane_bits(value <= nearest) or step >= marks.due[g]:
        store(own(marks.now, 0, 1, 1), 0, 0, value)
        note(marks, g, step, W[g], v[g])


@inline
def _update(w, out, U, u, room, g, X, r, on, eta, method, alive):
    """One step of a group, by the method."""
    if method.plain:
        backward(w, out, X, r, on, room, eta, alive)
    else:
        ball, speed = own(U, g * w.rows * w.cols, w.rows, w.cols), own(u, g * w.rows, w.rows, 1)
        backward_with_memory(w, out, ball, speed, X, r, on, room, eta, method.decay, method.momentum, alive)


@compiled
def train(W, v, U, u, room, X, y, samples, f, kept, etas, method, marks, first, look):
    """Full-batch descent of every group: from step `first` on, one step for each entry of etas.

    Parameters
    ----------
    W, v, U, u : weights and their velocities (empty where there is no momentum and no decay); changed in place.
    room : `Room`
    X, y : samples and labels, padded; `samples` of them are real.
    f, kept : room for outputs [sample, lane], and for gates [neuron, sample] or z [neuron, sample, lane].
    etas : step sizes, of the dtype of the weights.
    method : `Method`
    marks : `mcrace.kernels.marks.Marks`
    look : whether to test the marks once more after the last step.
    """
    groups, m, d, _ = W.shape
    size, share = f.shape[0], 1 / samples
    outputs, slopes, on = own(f, 0, 1, size), own(f, 0, 1, samples), own(kept, 0, m, size)
    for g in range(groups):
        w, out = own(W, g * m * d, m, d), own(v, g * m, m, 1)
        x, target = samples_of(X, g, size, d), samples_of(y, g, 1, size)
        for t in range(len(etas) + look):
            if marks.alive[g] == 0:
                break
            forward(w, out, x, outputs, on)
            if marks.any:
                _watch(marks, g, first + t, outputs, target, share, method.loss, W, v)
            if t < len(etas):
                residuals(outputs, target, share, method.loss)
                _update(w, out, U, u, room, g, x, slopes, on, etas[t], method, marks.alive[g])


@compiled
def train_on_batches(W, v, U, u, room, X, y, samples, f, kept, etas, method, marks, first, look, orders,
                     all_X, all_y, batch_X, batch_y):
    """As `train`, on minibatches; the marks are tested against the loss of all samples.

    Parameters
    ----------
    orders : int32 array [group, step, sample, lane]
        The samples of each minibatch, as many for all lanes, the rest -1.
    all_X, all_y : X and y with all their dimensions, [group or 1, sample, input, lane or 1].
    batch_X, batch_y : room for the samples and labels of a minibatch.
    """
    groups, m, d, _ = W.shape
    whole, size = f.shape[0], batch_y.shape[0]
    outputs, on = own(f, 0, 1, whole), own(kept, 0, m, whole)
    few, x, target = own(f, 0, 1, size), own(batch_X, 0, size, d), own(batch_y, 0, 1, size)
    for g in range(groups):
        w, out = own(W, g * m * d, m, d), own(v, g * m, m, 1)
        for t in range(len(etas) + look):
            if marks.alive[g] == 0:
                break
            if marks.any:
                forward(w, out, samples_of(X, g, whole, d), outputs, on)
                _watch(marks, g, first + t, outputs, samples_of(y, g, 1, whole), 1 / samples, method.loss, W, v)
            if t < len(etas):
                count = gather(all_X[g % len(all_X)], all_y[g % len(all_y)], orders[g, t], batch_X, batch_y)
                forward(w, out, x, few, own(kept, 0, m, size))
                residuals(few, target, 1 / count, method.loss)
                _update(w, out, U, u, room, g, x, few, own(kept, 0, m, size), etas[t], method, marks.alive[g])


@compiled
def gather(X, y, order, batch_X, batch_y):
    """The samples of a minibatch, lane by lane, from X [sample, input, lane or 1]; returns how many there are."""
    count, own_lanes = 0, X.shape[2] > 1
    for s in range(order.shape[0]):
        count += order[s, 0] >= 0
        for lane in range(order.shape[1]):
            n, from_lane = order[s, lane], lane if own_lanes else 0
            batch_y[s, lane] = y[n, from_lane] if n >= 0 else 0
            for k in range(batch_X.shape[1]):
                batch_X[s, k, lane] = X[n, k, from_lane] if n >= 0 else 0
    return count


@compiled
def gradients(W, v, X, y, samples, f, gates, room, D, outputs, active, loss):
    """Outputs [group, sample, L], drift D [group, neuron, input, L] (unless it has no room), and active [group, neuron],
    which has a bit for each lane where the neuron is on at any sample, at the weights as they stand.
    """
    groups, m, d, _ = W.shape
    size = f.shape[0]
    out, slopes, on = own(f, 0, 1, size), own(f, 0, 1, samples), own(gates, 0, m, size)
    for g in range(groups):
        w, x = own(W, g * m * d, m, d), samples_of(X, g, size, d)
        forward(w, own(v, g * m, m, 1), x, out, on)
        outputs[g] = f
        for i in range(m):
            for n in range(size):
                active[g, i] |= gates[i, n]
        if len(D) == 0:
            continue
        residuals(out, samples_of(y, g, 1, size), 1 / samples, loss)
        drifts(own(D, g * m * d, m, d), w, x, slopes, on, room)
