"""One hidden layer over many inputs, by the Gram matrix: one network at a time, its samples in lanes.

The pre-activations H = W Xᵀ evolve by K = X Xᵀ, and with them C, where the weights are W + C X for the W of the start: a
step costs nothing that grows with the number of inputs.  No step needs C, so it takes up to `HELD` of them at once, in
order, and is read and written once for all.  H and C are rounded apart, so every `RENEW` steps, at steps whose numbers are
multiples of it and never where one happens to record, H = H_0 + C K is computed anew.

Layouts: W [network, neuron, input], v [network, neuron], X [network or 1, sample, input]; H, H_0, C [network, block,
neuron, sample] and K [network or 1, block, sample, sample], in blocks of `COLUMNS` vectors of samples, and a last one of
`LAST` where their number is odd: what a step works through then lies side by side.  Neurons are padded with zeros to
`TILE`, inputs and samples to whole vectors, samples to no less than a block.
"""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled, inner
from mcrace.kernels.elementary import exp, softplus
from mcrace.kernels.lookup import FIELD, GROUP, ROWS, across, look
from mcrace.kernels.loops import add_product, sweep
from mcrace.kernels.marks import NEVER, look_ahead
from mcrace.kernels.one_layer import LOGISTIC, TILE
from mcrace.kernels.registers import LONG, WIDE
from mcrace.kernels.tiles import dot, fma, gate, inline, load, part, store, where, zeros
from mcrace.kernels.tiles import long_own as own
from mcrace.kernels.tiles import long_shared as shared

COLUMNS, LAST = 2, 3  # vectors of samples in a block: one alone would take half as long again
SPAN = 10  # pairs of tables at once, half as many in blocks of three: more leave the caches, fewer read and write sums oftener
DEEP = 256  # terms of a long sum that are taken at once
FEW, TALL = (TILE, 8) if WIDE else (2, 2)  # neurons in a tile of three columns, and in one of which nothing is held but sums
HELD = 16  # steps whose gates, residuals and rates are held for C
RENEW = 64


@inline
def _blocks(body, count, args):
    """body(start, size, args) over the blocks of 0..count."""
    whole = count - count % COLUMNS * LAST
    for j in range(0, whole, COLUMNS):
        body(j, COLUMNS, args)
    if whole < count:
        body(whole, LAST, args)


@inline
def _block(A, start, rows, j, J):
    """Block j:j+J of an array, which starts so many vectors after its beginning, of so many rows."""
    return own(A, start + j * rows, rows, J)


@inline
def _outputs(j, J, args):
    H, at, neurons, v, f, gates = args
    h_of = _block(H, at, neurons, j, J)
    total = zeros(f, 1, J)
    for first in range(0, TILE, FEW):  # every fourth neuron is summed apart
        z = zeros(f, FEW, J)
        for a in range(first, neurons, TILE):
            h = load(h_of, a, 0, FEW, J)
            on = gate(h)
            store(gates, a, j, on)
            z = where(on, fma(load(v, a, 0, FEW, 1), h, z), z)
        total = dot(z, 1, total)
    store(f, 0, j, total)


@inline
def forward(H, at, neurons, v, f, gates):
    """Outputs f [1, sample], and the gates."""
    _blocks(_outputs, f.cols, (H, at, neurons, v, f, gates))


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
def _tabulate(T, r, K, first, few, J):
    """For `few` groups of samples: the sum of r[n] K[n] over each of their subsets."""
    for g in range(few):
        row, n = g * ROWS, (first + g) * GROUP
        for c in range(J):
            store(T, row, c, zeros(T, 1, 1))
            for s in range(GROUP):
                scale, term = load(r, n + s, 0, 1, 1), load(K, n + s, c, 1, 1)
                for p in range(1 << s):
                    store(T, row + (1 << s) + p, c, fma(scale, term, load(T, row + p, c, 1, 1)))


@inline
def _descend(a, j, J, u, args):
    """Descend H of a tile of neurons at samples j:j+J, by the sums u of r K over gates, and add to the slope of v."""
    H, rates, dv, r, on = args
    h, slope = load(H, a, 0, FEW, J), where(load(on, a, j, FEW, J), load(r, 0, j, 1, J), 0)
    store(dv, a, 0, dot(slope, h, load(dv, a, 0, FEW, 1)))
    store(H, a, 0, fma(load(rates, a, 0, FEW, 1), u, h))


@inline
def _look(q, pairs, u, args):
    T, places, a, first = args
    return look(u, T, 2 * q * ROWS, places, a, first + q, pairs)


@inline
def _columns(j, J, args):
    """One step of descent at samples j:j+J."""
    H, at, K, k_at, U, T, places, each, rates, dv, r, on = args
    neurons, pairs = rates.rows, places.cols
    k, state = _block(K, k_at, each.rows, j, J), (_block(H, at, neurons, j, J), rates, dv, r, on)
    span = SPAN if J == COLUMNS else SPAN // 2
    sums, table = own(U, 0, neurons, J), own(T, 0, 2 * span * ROWS, J)
    for first in range(0, pairs, span):
        after = min(first + span, pairs)
        _tabulate(table, each, k, 2 * first, 2 * (after - first), J)
        for a in range(0, neurons, FEW):
            u = load(sums, a, 0, FEW, J) if first else zeros(sums, FEW, J)
            u = sweep(_look, after - first, u, (table, places, a, first))
            if after < pairs:
                store(sums, a, 0, u)
            else:
                _descend(a, j, J, u, state)


@inline
def _take_block(j, J, args):
    C, at, neurons, wide, f, gates, rates, first, last = args
    c_of = _block(C, at, neurons, j, J)
    for a in range(0, neurons, FEW):
        c = load(c_of, a, 0, FEW, J)
        for s in range(first, last):
            on, r = own(gates, s * wide * neurons, wide, neurons).T, own(f, s * wide, 1, wide)
            slope = where(load(on, a, j, FEW, J), load(r, 0, j, 1, J), 0)
            c = fma(load(shared(rates, s * neurons, neurons, 1), a, 0, FEW, 1), slope, c)
        store(c_of, a, 0, c)


@inner
def _take(C, i, f, gates, rates, first, last):
    """Take the steps held at first:last into the C of network i."""
    neurons, wide = gates.shape[2], gates.shape[1]
    _blocks(_take_block, wide, (C, i * neurons * wide, neurons, wide, f, gates, rates, first, last))


@inline
def _add_columns(j, J, carry, args):
    A, P, Q = args
    for a in range(0, A.rows, FEW):
        add_product(A, P, a, FEW, Q, j, J)
    return carry


@inline
def _add(A, P, Q):
    """A += P Q, for own A and Q and shared P, summed in order."""
    for k in range(0, Q.rows, DEEP):
        few = min(DEEP, Q.rows - k)
        sweep(_add_columns, A.cols, 0, (A, part(P.T, k, few).T, part(Q, k, few)))


@compiled
def multiply(A, P, Q):
    """A += P Q for every network; A [network, row, col], P and Q likewise or [1, row, col]; A and Q in whole vectors."""
    rows, cols, deep = A.shape[1], A.shape[2] // (LONG // A.itemsize), Q.shape[1]
    for i in range(len(A)):
        p = shared(P, i % len(P) * rows * P.shape[2], rows, P.shape[2])
        _add(own(A, i * rows * cols, rows, cols), p, own(Q, i % len(Q) * deep * cols, deep, cols))


@inline
def _terms(n, wide, C, at, neurons, Q):
    """The block of C that begins with vector n, and the rows of Q that it is multiplied with."""
    lanes = Q.rows // wide
    samples = (COLUMNS if wide - n > LAST else wide - n) * lanes
    return shared(C, (at + n * neurons) * lanes, neurons, samples), part(Q, n * lanes, samples)


@inner
def _recover(W, i, C, X):
    """W[i] += C[i] X[i]."""
    lanes = LONG // W.itemsize
    neurons, cols, room = W.shape[1], W.shape[2] // lanes, X.shape[1]
    wide = room // lanes
    w, x = own(W, i * neurons * cols, neurons, cols), own(X, i % len(X) * room * cols, room, cols)
    for n in range(0, wide - 1, COLUMNS):
        c, few = _terms(n, wide, C, i * neurons * wide, neurons, x)
        _add(w, c, few)


@compiled
def recover(W, C, X):
    """W += C X for every network."""
    for i in range(len(W)):
        _recover(W, i, C, X)


@inline
def _renew_block(j, J, args):
    H, C, at, neurons, K, k_at, wide, room = args
    h, k, tall = _block(H, at, neurons, j, J), _block(K, k_at, room, j, J), neurons // TALL * TALL
    for n in range(0, wide - 1, COLUMNS):
        c, few = _terms(n, wide, C, at, neurons, k)
        for a in range(0, tall, TALL):
            add_product(h, c, a, TALL, few, 0, J)
        for a in range(tall, neurons, FEW):
            add_product(h, c, a, FEW, few, 0, J)


@compiled
def _renew(i, H, H0, C, K):
    """H = H_0 + C K for network i."""
    neurons, room = H.shape[1:]
    wide = room // (LONG // H.itemsize)
    H[i] = H0[i]
    _blocks(_renew_block, wide, (H, C, i * neurons * wide, neurons, K, i % len(K) * room * wide, wide, room))


@inner
def _find(gates, lanes, places):
    """Where the rows of tables stand that gates [vector, neuron] name, for `look`."""
    mask = np.uint32(ROWS - 1)
    for q in range(len(places)):
        n, shift = divmod(2 * GROUP * q, lanes)
        for a in range(places.shape[1]):
            named = np.uint32(gates[n, a]) >> np.uint32(shift)
            places[q, a] = (named & mask | (named >> np.uint32(GROUP) & mask) << np.uint32(FIELD)) * np.uint32(LONG)


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
                _recover(marks.kept_W[slot], i, C, X)
            if j == marks.stop:
                marks.alive[i] = 0
    look_ahead(marks, i)


@compiled
def train(W, H, H0, C, v, K, X, y, real, samples, f, gates, rates, places, T, U, dv, etas, loss, marks, first, look):
    """Full-batch descent of every network: from step `first` on, one step for each entry of etas.

    Parameters
    ----------
    W, H, H0, C, v : the weights at the start, and the state of the networks, which is changed in place.
    K, X, y, real : Gram matrices, samples, labels, and 1 where a sample is real; `samples` are.
    f, gates, rates : room for the outputs, then residuals [held, sample], gates [held, vector, neuron] and output weights
        times step size [held, neuron] of the steps held for C.
    places, T, U, dv : room for where rows of tables stand [pair of tables, neuron], tables, sums over them, slopes of v.
    etas : step sizes, of the dtype of the weights.
    loss, look : as for `mcrace.kernels.one_layer.train`.
    marks : `mcrace.kernels.marks.Marks` with one lane
    """
    neurons, room = H.shape[1:]
    lanes = LONG // H.itemsize
    wide = room // lanes
    weight, now = own(real, 0, 1, wide), shared(marks.now, 0, 1, 1)
    named, slopes = shared(places, 0, len(places), neurons).T, own(dv, 0, neurons, 1)
    for i in range(len(v)):
        at, k_at = i * neurons * wide, i % len(K) * room * wide
        target, outer = own(y, i % len(y) * wide, 1, wide), shared(v, i * neurons, neurons, 1)
        taken = held = 0
        for t in range(len(etas) + look):
            if marks.alive[i] == 0:
                break
            due = first + t > 0 and (first + t) % RENEW == 0
            if due or held == HELD:
                _take(C, i, f, gates, rates, taken, held)
                taken = held = 0
            if due:
                _renew(i, H, H0, C, K)
            out, each = own(f, held * wide, 1, wide), shared(f, held * room, room, 1)
            on = own(gates, held * wide * neurons, wide, neurons).T
            forward(H, at, neurons, outer, out, on)
            if marks.any:
                store(now, 0, 0, mean_loss(out, target, weight, 1 / samples, loss))
                if marks.now[0] <= marks.nearest[i, 0] or first + t >= marks.due[i]:
                    _take(C, i, f, gates, rates, taken, held)
                    taken = held
                    _note(marks, i, first + t, W, C, v, X)
            if t == len(etas) or marks.alive[i] == 0:
                break
            residuals(out, target, 1 / samples, loss)
            _find(gates[held], lanes, places)
            dv[:] = 0
            for a in range(neurons):
                rates[held, a] = etas[t] * v[i, a]
            rate = shared(rates, held * neurons, neurons, 1)
            _blocks(_columns, wide, (H, at, K, k_at, U, T, named, each, rate, slopes, out, on))
            for a in range(neurons):
                store(outer, a, 0, fma(etas[t], across(load(slopes, a, 0, 1, 1)), load(outer, a, 0, 1, 1)))
            held += 1
        _take(C, i, f, gates, rates, taken, held)
