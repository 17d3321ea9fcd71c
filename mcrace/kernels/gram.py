"""One hidden layer over many inputs, by the Gram matrix: one network at a time, its samples in lanes.

The pre-activations H = W Xᵀ evolve by K = X Xᵀ, and with them C, where the weights are W + C X: a step costs nothing
that grows with the number of inputs.  H and W + C X are rounded apart, so every `RENEW` steps, at steps whose numbers are
multiples of it and never where one happens to record, C X goes into W and H is computed anew.

Layouts: W [network, neuron, input], H and C [network, neuron, sample], v [network, neuron], K [network or 1, sample,
sample], X [network or 1, sample, input] and its transpose XT.  Neurons are padded with zeros to `TILE`, inputs and samples
to whole vectors.
"""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled, inner
from mcrace.kernels.elementary import exp, softplus
from mcrace.kernels.lookup import HALF, ROWS, across, look
from mcrace.kernels.marks import NEVER, look_ahead
from mcrace.kernels.one_layer import LOGISTIC, TILE
from mcrace.kernels.tiles import (
    BYTES,
    add_product,
    dot,
    fma,
    gate,
    inline,
    load,
    own,
    part,
    shared,
    store,
    sweep,
    where,
    zeros,
)

COLUMNS = 2  # vectors of samples in a tile
SPAN = 17  # tables of so many columns that stand in the nearest cache, 34 kB of 48, beside what passes through
DEEP = 256  # terms of a long sum that are taken at once
RENEW = 512


@inline
def _pairs(body, count, args):
    """body(start, size, args) over 0..count, two at a time."""
    for j in range(0, count - 1, 2):
        body(j, 2, args)
    if count % 2:
        body(count - 1, 1, args)


@inline
def _outputs(j, J, carry, args):
    H, v, f, gates = args
    z = zeros(f, 1, J)
    for a in range(H.rows):
        h = load(H, a, j, 1, J)
        on = gate(h)
        store(gates, a, j, on)
        z = where(on, fma(load(v, a, 0, 1, 1), h, z), z)
    store(f, 0, j, z)
    return carry


@inline
def forward(H, v, f, gates):
    """Outputs f [1, sample], and the gates."""
    sweep(_outputs, H.cols, 0, (H, v, f, gates))


@inline
def residuals(f, y, share, loss):
    """Put -dl/df, times share, in the place of the outputs."""
    for n in range(f.cols):
        z, label = load(f, 0, n, 1, 1), load(y, 0, n, 1, 1)
        r = label / (1 + exp(label * z)) if loss == LOGISTIC else label - z
        store(f, 0, n, share * r)


@inline
def mean_loss(f, y, real, share, loss):
    """The loss from the outputs, in every lane of a 1x1 tile; `real` is 0 at the padding."""
    total = zeros(f, 1, 1)
    for n in range(f.cols):
        z, label, one = load(f, 0, n, 1, 1), load(y, 0, n, 1, 1), load(real, 0, n, 1, 1)
        if loss == LOGISTIC:
            total = dot(softplus(0 - label * z), one, total)
        else:
            total = dot(0.5 * (label - z), one * (label - z), total)
    return across(total) * share


@inline
def _tabulate(T, r, K, first, few, j, J):
    """For `few` times HALF samples: the sum of r[n] K[n, j:j+J] over each of their subsets."""
    for g in range(few):
        row, n = g * ROWS, (first + g) * HALF
        for c in range(J):
            store(T, row, c, zeros(T, 1, 1))
            for s in range(HALF):
                scale, term = load(r, n + s, 0, 1, 1), load(K, n + s, j + c, 1, 1)
                for p in range(1 << s):
                    store(T, row + (1 << s) + p, c, fma(scale, term, load(T, row + p, c, 1, 1)))


@inline
def _descend(a, j, J, args):
    """Descend H and C of neuron a at samples j:j+J, by the sums U of r K over gates, and add its share to the slope of v."""
    H, C, v, dv, r, on, U, eta = args
    h, rate = load(H, a, j, 1, J), eta * load(v, a, 0, 1, 1)
    slope = where(load(on, a, j, 1, J), load(r, 0, j, 1, J), 0)
    store(dv, a, 0, dot(slope, h, load(dv, a, 0, 1, 1)))
    store(C, a, j, fma(rate, slope, load(C, a, j, 1, J)))
    store(H, a, j, fma(rate, load(U, a, 0, 1, J), h))


@inline
def _columns(j, J, args):
    """One step of descent at samples j:j+J."""
    state, U, each, K, places, T, groups = args
    for first in range(0, groups, SPAN):
        few = min(SPAN, groups - first)
        _tabulate(T, each, K, first, few, j, J)
        for a in range(0, U.rows, TILE):
            u = load(U, a, 0, TILE, J) if first else zeros(U, TILE, J)
            for q in range(few):
                u = u + look(T, q * ROWS, places, a, first + q, TILE, J)
            store(U, a, 0, u)
            if first + few == groups:
                for b in range(a, a + TILE):
                    _descend(b, j, J, state)


@inline
def _add_columns(j, J, carry, args):
    A, P, Q = args
    for a in range(0, A.rows, TILE):
        add_product(A, P, a, TILE, Q, j, J)
    return carry


@inline
def _add(A, P, Q):
    """A += P Q, for own A and Q and shared P, summed in order."""
    for k in range(0, Q.rows, DEEP):
        few = min(DEEP, Q.rows - k)
        sweep(_add_columns, A.cols, 0, (A, part(P.T, k, few).T, part(Q, k, few)))


@inner
def _multiply(A, i, P, j, Q, k):
    """A[i] += P[j] Q[k], for arrays [network, row, col]; A and Q in whole vectors."""
    rows, cols, deep = A.shape[1], A.shape[2] // (BYTES // A.itemsize), Q.shape[1]
    a, p = own(A, i * rows * cols, rows, cols), shared(P, j * rows * P.shape[2], rows, P.shape[2])
    _add(a, p, own(Q, k * deep * cols, deep, cols))


@inner
def _find(bits, places, size):
    """Where the row of a table that gates name stands, in bytes of rows of a size: for each half of each byte of gates."""
    for a in range(bits.shape[0]):
        for q in range(places.shape[1] // 2):
            places[a, 2 * q] = (bits[a, q] & (ROWS - 1)) * size
            places[a, 2 * q + 1] = (bits[a, q] >> HALF) * size


@compiled
def multiply(A, P, Q):
    """A += P Q for every network; A [network, row, col], P and Q likewise or [1, row, col]."""
    for i in range(len(A)):
        _multiply(A, i, P, i % len(P), Q, i % len(Q))


@compiled
def _renew(i, W, H, C, X, XT):
    """W += C X, C = 0, H = W Xᵀ for network i."""
    _multiply(W, i, C, i, X, i % len(X))
    C[i] = 0
    H[i] = 0
    _multiply(H, i, W, i, XT, i % len(XT))


@compiled
def _note(marks, i, step, W, C, v, X):
    """As `mcrace.kernels.marks.note`, for one network whose weights have to be recovered."""
    for j in range(marks.levels.shape[1]):
        if marks.now[0] <= marks.levels[i, j, 0] or step >= marks.at[i, j, 0]:
            marks.met[i, j, 0] = step
            marks.levels[i, j, 0], marks.at[i, j, 0] = -1, NEVER
            slot = marks.keep[j]
            if slot >= 0:
                marks.kept_W[slot, i], marks.kept_v[slot, i] = W[i], v[i]
                _multiply(marks.kept_W[slot], i, C, i, X, i % len(X))
            if j == marks.stop:
                marks.alive[i] = 0
    look_ahead(marks, i)


@compiled
def train(W, H, C, v, K, X, XT, y, real, samples, f, gates, bits, places, T, U, dv, etas, loss, marks, first, look):
    """Full-batch descent of every network: from step `first` on, one step for each entry of etas.

    Parameters
    ----------
    W, H, C, v : the state of the networks; changed in place.
    K, X, XT, y, real : Gram matrices, samples and their transpose, labels, and 1 where a sample is real; `samples` are.
    f, gates, T, U, dv : room for outputs [sample], gates [neuron, vector], tables, sums over them, and slopes of v.
    bits : the gates once more, seen as bytes.
    etas : step sizes, of the dtype of the weights.
    loss, look : as for `mcrace.kernels.one_layer.train`.
    marks : `mcrace.kernels.marks.Marks` with one lane
    """
    neurons, room = H.shape[1:]
    wide, groups = room // (BYTES // H.itemsize), (samples + HALF - 1) // HALF
    out, each, weight, now = own(f, 0, 1, wide), shared(f, 0, room, 1), own(real, 0, 1, wide), shared(marks.now, 0, 1, 1)
    on, places_of = own(gates, 0, neurons, wide), shared(places, 0, neurons, places.shape[1])
    table, sums, slopes = own(T, 0, len(T), COLUMNS), own(U, 0, neurons, COLUMNS), own(dv, 0, neurons, 1)
    for i in range(len(W)):
        h, c = own(H, i * neurons * wide, neurons, wide), own(C, i * neurons * wide, neurons, wide)
        k, target = own(K, i % len(K) * room * wide, room, wide), own(y, i % len(y) * wide, 1, wide)
        outer = shared(v, i * neurons, neurons, 1)
        for t in range(len(etas) + look):
            if marks.alive[i] == 0:
                break
            if (first + t) % RENEW == 0 and first + t > 0:
                _renew(i, W, H, C, X, XT)
            forward(h, outer, out, on)
            if marks.any:
                store(now, 0, 0, mean_loss(out, target, weight, 1 / samples, loss))
                if marks.now[0] <= marks.nearest[i, 0] or first + t >= marks.due[i]:
                    _note(marks, i, first + t, W, C, v, X)
            if t == len(etas) or marks.alive[i] == 0:
                break
            residuals(out, target, 1 / samples, loss)
            _find(bits, places, np.uint16(COLUMNS * BYTES))
            dv[:] = 0
            _pairs(_columns, wide, ((h, c, outer, slopes, out, on, sums, etas[t]), sums, each, k, places_of, table, groups))
            for a in range(neurons):
                store(outer, a, 0, fma(etas[t], across(load(slopes, a, 0, 1, 1)), load(outer, a, 0, 1, 1)))
