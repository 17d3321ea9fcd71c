"""One hidden layer over many inputs, by the Gram matrix: one network at a time, its neurons in lanes.

The pre-activations H = W Xᵀ evolve by K = X Xᵀ, and with them C, where the weights are W + C X: a step costs nothing
that grows with the number of inputs.  H and W + C X are rounded apart, so every `RENEW` steps, at steps whose numbers are
multiples of it and never where one happens to record, C X goes into W and H is computed anew.

Layouts, with L lanes and a row for each block of L neurons: W [network, block, input, L], H and C [network, block,
sample, L], v [network, block, L], K [network or 1, sample, sample], X [network or 1, sample, input].  Neurons are padded
with zeros to the lanes, samples to `ROOM`, inputs to `COLUMNS`.
"""

from __future__ import annotations

from mcrace.compiled import compiled
from mcrace.kernels.elementary import exp, softplus
from mcrace.kernels.lookup import across, depth, digits, look, number, plus
from mcrace.kernels.marks import NEVER, look_ahead
from mcrace.kernels.one_layer import LOGISTIC
from mcrace.kernels.tiles import dot, gate, inline, load, own, product, shared, store, sweep, where, zeros

COLUMNS = 8  # of a tile
ROOM = 48  # samples are padded to a multiple of: lanes of both dtypes, and tables of 3 and of 4 samples
RENEW = 512


@inline
def _pairs(body, count, carry, args):
    """As `sweep`, two at a time."""
    for b in range(0, count - 1, 2):
        carry = body(b, 2, carry, args)
    if count % 2:
        carry = body(count - 1, 1, carry, args)
    return carry


@inline
def _outputs(b, B, f, args):
    """Add the share of blocks b:b+B to the outputs of the g-th S samples, and note which neurons are on."""
    H, v, gates, g, S = args
    h = load(H, b, g * S, B, S)
    on = gate(h)
    store(gates, b, g, number(on))
    return dot(load(v, b, 0, B, 1), where(on, h, 0), f)


@inline
def forward(H, v, f, gates, S):
    """Outputs f [sample, 1], and the gates as numbers of S samples."""
    for g in range(gates.cols):
        store(f, g * S, 0, across(sweep(_outputs, H.rows, zeros(H, 1, S), (H, v, gates, g, S))).T)


@inline
def residuals(f, y, share, loss):
    """Put -dl/df, times share, in the place of the outputs: here lanes are samples."""
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
def _tabulate(T, r, K, j, S):
    """T[g]: for every subset of the g-th S samples, a lane each, its sum of r[n] K[n, j:j+COLUMNS]."""
    for g in range(T.rows):
        part = where(digits(T, S), load(r, g * S, 0, S, 1), 0)
        store(T, g, 0, dot(part, load(K, g * S, j, S, COLUMNS), zeros(T, 1, COLUMNS)))


@inline
def _gated(b, B, gates, T, one):
    """The sums of r[n] K[n, j:j+COLUMNS] over the samples that are on, for blocks b:b+B."""
    u = zeros(T, B, COLUMNS)
    for g in range(T.rows):
        u = plus(u, look(load(T, g, 0, 1, COLUMNS), load(gates, b, g, B, 1)), one)
    return u


@inline
def _descend(b, B, j, args):
    """Descend H and C at samples j:j+COLUMNS and add their share to the slope of v."""
    H, C, v, dv, r, gates, T, eta, one = args
    u = _gated(b, B, gates, T, one)
    h, rate = load(H, b, j, B, COLUMNS), eta * load(v, b, 0, B, 1)
    slope = where(gate(h), load(r.T, 0, j, 1, COLUMNS), 0)
    store(dv, b, 0, dot(slope, h, load(dv, b, 0, B, 1)))
    store(C, b, j, load(C, b, j, B, COLUMNS) + rate * slope)
    store(H, b, j, h + rate * u)
    return j


@inline
def _add_product(b, B, j, args):
    A, P, Q = args
    store(A, b, j, load(A, b, j, B, 4) + product(P, b, B, Q, j, 4))
    return j


@inline
def add_product(A, P, Q):
    """A += P Q, for own A and P and shared Q."""
    for j in range(0, A.cols, 4):
        sweep(_add_product, A.rows, j, (A, P, Q))


@compiled
def multiply(A, P, X, transposed):
    """A += P X, or P Xᵀ, for every network; X [network or 1, row, col]."""
    blocks, rows, inputs = A.shape[1], X.shape[1], X.shape[2]
    for i in range(len(A)):
        a, p = own(A, i * blocks * A.shape[2], blocks, A.shape[2]), own(P, i * blocks * P.shape[2], blocks, P.shape[2])
        x = shared(X, i % len(X) * rows * inputs, rows, inputs)
        if transposed:
            add_product(a, p, x.T)
        else:
            add_product(a, p, x)


@compiled
def _renew(i, W, H, C, X):
    """W += C X, C = 0, H = W Xᵀ for network i."""
    blocks, room, inputs = H.shape[1], H.shape[2], W.shape[2]
    w, h = own(W, i * blocks * inputs, blocks, inputs), own(H, i * blocks * room, blocks, room)
    c = own(C, i * blocks * room, blocks, room)
    x = shared(X, i % len(X) * room * inputs, room, inputs)
    add_product(w, c, x)
    C[i] = 0
    H[i] = 0
    add_product(h, w, x.T)


@compiled
def _keep(i, slot, W, C, v, X, kept_W, kept_v):
    """The weights W + C X of network i into a slot."""
    blocks, room, inputs = C.shape[1], C.shape[2], W.shape[2]
    kept_W[slot, i], kept_v[slot, i] = W[i], v[i]
    to = own(kept_W, (slot * len(W) + i) * blocks * inputs, blocks, inputs)
    add_product(to, own(C, i * blocks * room, blocks, room), shared(X, i % len(X) * room * inputs, room, inputs))


@compiled
def _note(marks, i, step, W, C, v, X):
    """As `mcrace.kernels.marks.note`, for one network whose weights have to be recovered."""
    for j in range(marks.levels.shape[1]):
        if marks.now[0] <= marks.levels[i, j, 0] or step >= marks.at[i, j, 0]:
            marks.met[i, j, 0] = step
            marks.levels[i, j, 0], marks.at[i, j, 0] = -1, NEVER
            if marks.keep[j] >= 0:
                _keep(i, marks.keep[j], W, C, v, X, marks.kept_W, marks.kept_v)
            if j == marks.stop:
                marks.alive[i] = 0
    look_ahead(marks, i)


@compiled
def train(W, H, C, v, K, X, y, real, samples, f, gates, T, dv, etas, loss, marks, first, look):
    """Full-batch descent of every network: from step `first` on, one step for each entry of etas.

    Parameters
    ----------
    W, H, C, v : the state of the networks; changed in place.
    K, X, y, real : Gram matrices, samples, labels, and 1 where a sample is real; `samples` of them are.
    f, gates, T, dv : room for outputs [sample], gates [block, sample group, L], tables and slopes.
    etas : step sizes, of the dtype of the weights.
    marks : `mcrace.kernels.marks.Marks` with one lane
    look : whether to test the marks once more after the last step.
    """
    blocks, room, lanes = H.shape[1:]
    S, one = depth(own(T, 0, 1, 1)), etas.dtype.type(samples) / etas.dtype.type(samples)
    groups = (samples + S - 1) // S
    outs, r = shared(f, 0, room, 1), own(f, 0, 1, room // lanes)
    on, table = own(gates, 0, blocks, groups), own(T, 0, groups, COLUMNS)
    now = shared(marks.now, 0, 1, 1)
    for i in range(len(W)):
        h, c = own(H, i * blocks * room, blocks, room), own(C, i * blocks * room, blocks, room)
        out, slope = own(v, i * blocks, blocks, 1), own(dv, 0, blocks, 1)
        k, target = shared(K, i % len(K) * room * room, room, room), own(y, i % len(y) * (room // lanes), 1, room // lanes)
        for t in range(len(etas) + look):
            if marks.alive[i] == 0:
                break
            if (first + t) % RENEW == 0 and first + t > 0:
                _renew(i, W, H, C, X)
            forward(h, out, outs, on, S)
            if marks.any:
                store(now, 0, 0, mean_loss(r, target, own(real, 0, 1, room // lanes), 1 / samples, loss))
                if marks.now[0] <= marks.nearest[i, 0] or first + t >= marks.due[i]:
                    _note(marks, i, first + t, W, C, v, X)
            if t == len(etas) or marks.alive[i] == 0:
                break
            residuals(r, target, 1 / samples, loss)
            dv[:] = 0
            for j in range(0, samples, COLUMNS):
                _tabulate(table, outs, k, j, S)
                _pairs(_descend, blocks, j, (h, c, out, slope, outs, on, table, etas[t], one))
            for b in range(blocks):
                store(out, b, 0, load(out, b, 0, 1, 1) + etas[t] * load(slope, b, 0, 1, 1))
