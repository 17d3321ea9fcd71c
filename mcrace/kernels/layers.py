"""Any number of ReLU layers and of outputs, networks in lanes: activations are stored, samples come in chunks.

Layouts, with L lanes: parameters P [group, parameter, L], layer after layer, each [unit, input] in rows; samples X
[sample, input] or [group, sample, input, L]; labels y [sample, output] or [group, sample, output, L].  Every size is
padded with zeros to a multiple of `TILE`; what is padded stays 0 and adds nothing.
"""

from __future__ import annotations

from mcrace.compiled import compiled
from mcrace.kernels.elementary import exp, softplus
from mcrace.kernels.marks import note
from mcrace.kernels.one_layer import LOGISTIC, TILE, samples_of
from mcrace.kernels.tiles import dot, fma, gate, inline, lane_bits, lanes_on, load, own, part, product, store, where, zeros


@inline
def layer(W, below, above):
    """above = relu(W below)"""
    for n in range(0, above.cols, TILE):
        for i in range(0, above.rows, TILE):
            h = product(W, i, TILE, below, n, TILE)
            store(above, i, n, where(gate(h), h, 0))


@inline
def head(V, above, y, share, loss, r, total):
    """Residuals r = -dl/df, times share, of the outputs V above; returns total plus the loss of these samples."""
    for n in range(0, above.cols, TILE):
        for i in range(0, V.rows, TILE):
            z, label = product(V, i, TILE, above, n, TILE), load(y, i, n, TILE, TILE)
            if loss == LOGISTIC:
                total = dot(share * softplus(0 - label * z), label * label, total)
                store(r, i, n, share * (label / (1 + exp(label * z))))
            else:
                total = dot(0.5 * (label - z), share * (label - z), total)
                store(r, i, n, share * (label - z))
    return total


@inline
def slope_below(W, slope, below):
    """below = Wᵀ slope where below is positive, else 0: activations become slopes in their place."""
    for n in range(0, below.cols, TILE):
        for i in range(0, below.rows, TILE):
            u = product(W.T, i, TILE, slope, n, TILE)
            store(below, i, n, where(gate(load(below, i, n, TILE, TILE)), u, 0))


@inline
def slope_weights(G, slope, below):
    """G += slope belowᵀ"""
    for k in range(0, G.cols, TILE):
        for i in range(0, G.rows, TILE):
            store(G, i, k, load(G, i, k, TILE, TILE) + product(slope, i, TILE, below.T, k, TILE))


@compiled
def offsets(widths, samples):
    """Where each layer's weights start among the parameters, and its activations among those of a chunk of samples."""
    weights, units = [0] * len(widths), [0] * len(widths)
    for l in range(1, len(widths)):
        weights[l] = weights[l - 1] + (widths[l] * widths[l - 1])
        units[l] = units[l - 1] + widths[l] * samples
    return weights, units


@inline
def gradient(P, first, G, X, y, start, samples, widths, A, share, loss, total):
    """Add to G the descent direction on `samples` samples from `start` on; returns total plus their loss.

    The group's parameters start at P[first]; widths are those of the inputs, the hidden layers, and the outputs.
    """
    last = len(widths) - 1
    weights, units = offsets(widths, samples)
    x, target = part(X, start, samples), part(y, start, samples)
    layer(own(P, first, widths[1], widths[0]), x.T, own(A, 0, widths[1], samples))
    for l in range(2, last):
        below, above = own(A, units[l - 2], widths[l - 1], samples), own(A, units[l - 1], widths[l], samples)
        layer(own(P, first + weights[l - 1], widths[l], widths[l - 1]), below, above)
    top, r = own(A, units[last - 2], widths[last - 1], samples), own(A, units[last - 1], widths[last], samples)
    total = head(own(P, first + weights[last - 1], widths[last], widths[last - 1]), top, target.T, share, loss, r, total)
    for l in range(last, 1, -1):
        slope, below = own(A, units[l - 1], widths[l], samples), own(A, units[l - 2], widths[l - 1], samples)
        slope_weights(own(G, weights[l - 1], widths[l], widths[l - 1]), slope, below)
        slope_below(own(P, first + weights[l - 1], widths[l], widths[l - 1]), slope, below)
    slope_weights(own(G, 0, widths[1], widths[0]), own(A, 0, widths[1], samples), x.T)
    return total


@inline
def descend(P, U, G, g, size, eta, decay, momentum, plain, alive):
    """One step along G, for the networks that are alive."""
    weights, slope = own(P, g * size, size, 1), own(G, 0, size, 1)
    still = lanes_on(weights, alive)
    for p in range(0, size, TILE):
        w, d = load(weights, p, 0, TILE, 1), load(slope, p, 0, TILE, 1)
        if plain:
            store(weights, p, 0, where(still, fma(eta, d, w), w))
        else:
            ball = own(U, g * size, size, 1)
            u = load(ball, p, 0, TILE, 1)
            velocity = fma(momentum, u, fma(eta, d, (0 - eta * decay) * w))
            store(ball, p, 0, where(still, velocity, u))
            store(weights, p, 0, where(still, w + velocity, w))


@compiled
def train(P, U, G, A, X, y, samples, chunk, widths, etas, method, marks, first, look):
    """Full-batch descent of every group: from step `first` on, one step for each entry of etas.

    Parameters
    ----------
    P, U : parameters [group, parameter, L] and their velocities (no groups for plain descent); changed in place.
    G, A : room for a gradient [parameter, L] and for the activations of a chunk [unit and sample, L].
    X, y : samples and labels, padded; `samples` of them are real.
    chunk : samples that are taken at once, a multiple of `TILE`.
    widths : int64 array of the padded sizes of inputs, hidden layers, and outputs.
    etas, method, marks, first, look : as for `mcrace.kernels.one_layer.train`.
    """
    groups, size, lanes = P.shape
    room, share = -(-samples // TILE) * TILE, 1 / samples
    for g in range(groups):
        x, target = samples_of(X, g, room, widths[0]), samples_of(y, g, room, widths[-1])
        for t in range(len(etas) + look):
            if marks.alive[g] == 0:
                break
            G[:] = 0
            total = zeros(own(G, 0, size, 1), 1, 1)
            for start in range(0, room, chunk):
                total = gradient(P, g * size, G, x, target, start, min(chunk, room - start), widths, A, share,
                                 method.loss, total)
            if marks.any:
                hit = lane_bits(total <= load(own(marks.nearest, 0, groups, 1), g, 0, 1, 1))
                if hit or first + t >= marks.due[g]:
                    store(own(marks.now, 0, 1, 1), 0, 0, total)
                    note(marks, g, first + t, P[g].reshape(size, 1, lanes), P[g][:0].reshape(0, 1, lanes))
            if t < len(etas):
                descend(P, U, G, g, size, etas[t], method.decay, method.momentum, method.plain, marks.alive[g])
