"""Networks of any number of ReLU layers and outputs in lanes: passes over chunks of samples, descent, and evaluation.

Layouts, with L lanes: parameters P [group, parameter, L] and workspace R [row and sample, L] by a `Plan`; samples X
[sample, input] or [group, sample, input, L]; labels y [sample, output] or [group, sample, output, L]; `rough`, E of the
input, [group or 1, sample, L].  Samples are padded to a multiple of `TILE`; their share in the loss is then 0, for a
network with biases or shifts has outputs at them.  A padded unit stays 0, and takes no part in a mean.
"""

from __future__ import annotations

from mcrace.compiled import compiled, inner
from mcrace.kernels.architecture import (
    ACTIVATIONS,
    BIASES,
    GAINS,
    NONE,
    NORMALS,
    RATES,
    SCALES,
    SHIFTS,
    SKIPS,
    SLOPES,
    UNITS,
    WEIGHTS,
    WIDTHS,
)
from mcrace.kernels.layers import (
    add,
    add_bias,
    finish_head,
    head,
    linear,
    normalised_layer,
    output,
    residuals,
    slope_below,
    slope_bias,
    slope_head,
    slope_inputs,
    slope_normalised,
    slope_output,
    slope_weights,
)
from mcrace.kernels.marks import note
from mcrace.kernels.normalisation import centre
from mcrace.kernels.one_layer import NO_MOVE, TILE, samples_of
from mcrace.kernels.tiles import fma, inline, lane_bits, lanes_on, load, own, part, shared, store, where, zeros


@inline
def _weights(P, at, plan, l):
    return own(P, at + plan.table[WEIGHTS, l], plan.table[WIDTHS, l + 1], plan.table[WIDTHS, l])


@inline
def _activations(R, plan, l, samples):
    return own(R, plan.table[ACTIVATIONS, l] * samples, plan.table[WIDTHS, l + 1], samples)


@inline
def _slope(R, plan, l, samples):
    return own(R, plan.table[SLOPES, l] * samples, plan.table[WIDTHS, l + 1], samples)


@inline
def _units(R, plan, l, samples):
    """The normalised units of a layer, and four numbers a sample."""
    units = own(R, plan.table[NORMALS, l] * samples, plan.table[WIDTHS, l + 1], samples)
    return units, own(R, plan.table[SCALES, l] * samples, 4, samples)


@inline
def _vectors(P, at, plan, l):
    """γ and β of a layer, or their slopes."""
    m = plan.table[WIDTHS, l + 1]
    return own(P, at + plan.table[GAINS, l], m, 1), own(P, at + plan.table[SHIFTS, l], m, 1)


@inline
def _ends(plan, norm, l):
    """Whether the activations of a hidden layer, as they come from `linear`, are all that a single output needs."""
    last = plan.layers
    return norm.kind == NONE and l == last - 1 and plan.table[WIDTHS, last + 1] == 1 and plan.table[SKIPS, l] == 0


@inline
def _linear(P, at, plan, norm, l, below, R, gates, samples):
    """What comes before the normalisation of a hidden layer; without one, its activations."""
    W, above = _weights(P, at, plan, l), _activations(R, plan, l, samples)
    on, plain = own(gates, plan.table[ACTIVATIONS, l] * samples, W.rows, samples), norm.kind == NONE
    if not plain:
        above = own(R, plan.table[NORMALS, l] * samples, W.rows, samples)
    bias, noted = own(P, at + plan.table[BIASES, l], W.rows, 1), plain and plan.table[SKIPS, l] > 0
    V, f = _weights(P, at, plan, plan.layers), _activations(R, plan, plan.layers, samples)
    linear(W, bias, below, above, on, V, f, plan.bias, plain, noted, _ends(plan, norm, l))


@inner
def _finish(P, at, plan, norm, l, rough, R, gates, samples):
    """The activations of a hidden layer, from what `_linear` found."""
    above = _activations(R, plan, l, samples)
    if norm.kind != NONE:
        gain, shift = _vectors(P, at, plan, l)
        rate = load(own(P, at + plan.rates, plan.layers, 1), l, 0, 1, 1)
        units, scale = _units(R, plan, l, samples)
        on = own(gates, plan.table[ACTIVATIONS, l] * samples, above.rows, samples)
        m, noted = plan.table[UNITS, l], plan.table[SKIPS, l] > 0
        normalised_layer(units, above, gain, shift, rate, on, scale, rough, norm, m, noted)
    if plan.table[SKIPS, l]:
        add(above, _activations(R, plan, l - 1, samples))


@inner
def _head(P, at, plan, norm, rough, R, samples, kept):
    l = plan.layers - 1
    V, (units, scale), (gain, shift) = _weights(P, at, plan, l + 1), _units(R, plan, l, samples), _vectors(P, at, plan, l)
    above, f = _activations(R, plan, l, samples), _activations(R, plan, l + 1, samples)
    bias, rate = own(P, at + plan.table[BIASES, l + 1], 1, 1), load(own(P, at + plan.rates, plan.layers, 1), l, 0, 1, 1)
    head(units, above, f, V, bias, gain, shift, rate, scale, rough, norm, plan.table[UNITS, l], plan.bias, kept)


@inner
def _slope_head(P, at, plan, G, R, samples):
    l = plan.layers - 1
    V, (units, scale), (gain, shift) = _weights(P, at, plan, l + 1), _units(R, plan, l, samples), _vectors(P, at, plan, l)
    g_gain, g_shift = _vectors(G, 0, plan, l)
    slope_head(_activations(R, plan, l + 1, samples), units, V, gain, shift, scale, g_gain, g_shift,
               own(G, plan.rates + l, 1, 1))


@inner
def forward(P, at, plan, norm, x, rough, R, gates, samples, kept):
    """Activations and outputs, into the workspace, of the group whose parameters start at P[at].

    The activations are all there if `kept`; else where the pass back needs them.
    """
    last = plan.layers
    for l in range(last):
        if l == 0:
            _linear(P, at, plan, norm, l, x.T, R, gates, samples)
        else:
            _linear(P, at, plan, norm, l, _activations(R, plan, l - 1, samples), R, gates, samples)
        if plan.fused and l == last - 1:
            _head(P, at, plan, norm, rough, R, samples, kept)
            return
        _finish(P, at, plan, norm, l, rough, R, gates, samples)
    V, below, f = _weights(P, at, plan, last), _activations(R, plan, last - 1, samples), _activations(R, plan, last, samples)
    bias = own(P, at + plan.table[BIASES, last], V.rows, 1)
    if V.rows > 1:
        linear(V, bias, below, f, own(gates, 0, V.rows, samples), V, f, plan.bias, False, False, False)
        return
    if not _ends(plan, norm, last - 1):
        output(V, below, f)
    if plan.bias:
        add_bias(bias, f)


@inner
def backward(P, at, plan, norm, x, G, R, gates, samples):
    """Add to G the slopes of -L, where the outputs have become -dl/df times the shares of the samples."""
    last = plan.layers
    for l in range(last, 0, -1):
        slope, below = _slope(R, plan, l, samples), _activations(R, plan, l - 1, samples)
        if plan.bias:
            slope_bias(own(G, plan.table[BIASES, l], slope.rows, 1), slope)
        if plan.fused and l == last:
            _slope_head(P, at, plan, G, R, samples)
            continue
        on = own(gates, plan.table[ACTIVATIONS, l - 1] * samples, below.rows, samples)
        rest = own(R, plan.kept * samples, below.rows, samples)
        skips, skipped = plan.table[SKIPS, l - 1] > 0, plan.table[SKIPS, l] > 0
        W, G_W = _weights(P, at, plan, l), _weights(G, 0, plan, l)
        if W.rows == 1:
            slope_output(G_W, W, slope, below, on, rest, skips)
        else:
            slope_weights(G_W, slope, below)
            slope_below(W, slope, below, on, rest, skips, skipped)
        if norm.kind != NONE:
            units, scale = _units(R, plan, l - 1, samples)
            (gain, _), (g_gain, g_shift) = _vectors(P, at, plan, l - 1), _vectors(G, 0, plan, l - 1)
            g_rate = own(G, plan.rates + l - 1, 1, 1)
            slope_normalised(below, units, scale, gain, g_gain, g_shift, g_rate, norm, plan.table[UNITS, l - 1])
    slope = _slope(R, plan, 0, samples)
    slope_inputs(_weights(G, 0, plan, 0), slope, x.T)
    if plan.bias:
        slope_bias(own(G, plan.table[BIASES, 0], slope.rows, 1), slope)


@inline
def _copy(source, target):
    for p in range(source.rows):
        store(target, p, 0, load(source, p, 0, 1, 1))


@inline
def _clear(target):
    for p in range(target.rows):
        store(target, p, 0, zeros(target, 1, 1))


@inner
def centre_layers(P, plan):
    """Take the mean over its units out of each hidden layer of a group, the first of P."""
    for l in range(plan.layers):
        centre(_weights(P, 0, plan, l), plan.table[UNITS, l])
        if plan.bias:
            centre(own(P, plan.table[BIASES, l], plan.table[WIDTHS, l + 1], 1), plan.table[UNITS, l])


@inline
def _source(P, g, C, plan, norm):
    """Where the parameters of a group are read, and from which entry on: in C, centred, where they have to be."""
    source, at = P, g * plan.size
    if norm.kind != NONE:
        _copy(own(P, at, plan.size, 1), own(C, 0, plan.size, 1))
        centre_layers(C, plan)
        source, at = C, 0
    return source, at


@inner
def _finish_head(P, at, plan, G):
    last = plan.layers
    (gain, shift), (g_gain, g_shift) = _vectors(P, at, plan, last - 1), _vectors(G, 0, plan, last - 1)
    finish_head(_weights(P, at, plan, last), gain, shift, _weights(G, 0, plan, last), g_gain, g_shift)


@inner
def slopes(P, g, C, plan, norm, x, y, rough, share, R, gates, G, chunk, loss, ahead, back):
    """The loss of group g, as a 1x1 tile, and, if `back`, the slopes of -L in G; C has room for centred parameters.

    Unless `ahead`, activations and outputs are in the workspace already.
    """
    source, at = _source(P, g, C, plan, norm)
    _clear(own(G, 0, plan.size, 1))
    total = zeros(own(G, 0, 1, 1), 1, 1)
    for start in range(0, x.rows, chunk):
        samples = min(chunk, x.rows - start)
        few = part(x, start, samples)
        if ahead:
            forward(source, at, plan, norm, few, part(rough, start, samples).T, R, gates, samples, not back)
        f = _activations(R, plan, plan.layers, samples)
        total = residuals(f, part(y, start, samples).T, part(share, start, samples).T, loss, back, total)
        if back:
            backward(source, at, plan, norm, few, G, R, gates, samples)
    if back and plan.fused:
        _finish_head(source, at, plan, G)
    if back and norm.kind != NONE:
        centre_layers(G, plan)
    return total


@inline
def _descend(P, U, G, g, plan, eta, method, alive):
    """One step along G, for the networks that are alive; only W_1, ..., V decay."""
    size = plan.size
    weights, slope = own(P, g * size, size, 1), own(G, 0, size, 1)
    still = lanes_on(weights, alive)
    kept = where(still, zeros(weights, 1, 1) + method.momentum, 1)
    for kind in range(len(plan.moving)):
        decay = method.decay if kind == 0 else 0 * method.decay
        for p in range(plan.moving[kind, 0], plan.moving[kind, 1], TILE):
            w, d = load(weights, p, 0, TILE, 1), load(slope, p, 0, TILE, 1)
            if method.plain:
                store(weights, p, 0, fma(eta, where(still, d, NO_MOVE), w))
            else:
                ball = own(U, g * size, size, 1)
                push = where(still, fma(eta, d, (0 - eta * decay) * w), NO_MOVE)
                velocity = fma(kept, load(ball, p, 0, TILE, 1), push)
                store(ball, p, 0, velocity)
                store(weights, p, 0, w + where(still, velocity, NO_MOVE))
    if plan.trained_rates:
        for l in range(plan.layers):
            rate = load(weights, plan.rates + l, 0, 1, 1)
            inside = where(rate < RATES[0], RATES[0], where(rate > RATES[1], RATES[1], rate))
            store(weights, plan.rates + l, 0, where(still, inside, rate))


@inline
def _watch(marks, g, step, total, P):
    """Test the marks of group g against its loss."""
    hit = lane_bits(total <= load(own(marks.nearest, 0, len(marks.nearest), 1), g, 0, 1, 1))
    if hit or step >= marks.due[g]:
        store(own(marks.now, 0, 1, 1), 0, 0, total)
        size, lanes = P.shape[1:]
        note(marks, g, step, P[g].reshape(size, 1, lanes), P[g][:0].reshape(0, 1, lanes))


@compiled
def train(P, U, C, G, R, gates, X, y, rough, share, chunk, plan, norm, etas, method, marks, first, look):
    """Full-batch descent of every group: from step `first` on, one step for each entry of etas.

    Parameters
    ----------
    P, U : parameters [group, parameter, L] and their velocities (no groups for plain descent); changed in place.
    C, G : room for the centred parameters and for the slopes of one group [1, parameter, L].
    R, gates : room for a chunk of samples [row and sample, L], and for its gates [row and sample].
    X, y, rough : samples, labels, and E of the input, padded.
    share : [sample] what each sample counts in the loss, 0 where it is padded.
    chunk : samples that are taken at once, a multiple of `TILE`; it changes no bit.
    plan, norm : `mcrace.kernels.architecture.Plan` and `NormOf`
    etas, method, marks, first, look : as for `mcrace.kernels.one_layer.train`.
    """
    room = len(share)
    shares = shared(share, 0, room, 1)
    for g in range(len(P)):
        x, target = samples_of(X, g, room, plan.table[WIDTHS, 0]), samples_of(y, g, room, plan.table[WIDTHS, -1])
        E = own(rough, g % len(rough) * room, room, 1)
        for t in range(len(etas) + look):
            if marks.alive[g] == 0:
                break
            total = slopes(P, g, C, plan, norm, x, target, E, shares, R, gates, G, chunk, method.loss, True, True)
            if marks.any:
                _watch(marks, g, first + t, total, P)
            if t < len(etas):
                _descend(P, U, G, g, plan, etas[t], method, marks.alive[g])


@compiled
def train_on_batches(P, U, C, G, R, gates, X, y, rough, share, chunk, plan, norm, etas, method, marks, first, look,
                     orders, all_X, all_y, batch_X, batch_y, batch_rough, batch_share):
    """As `train`, on minibatches; the marks are tested against the loss of all samples.

    Parameters
    ----------
    orders : int32 array [group, step, sample, lane]
        The samples of each minibatch, as many for all lanes, the rest -1.
    all_X, all_y : X and y with all their dimensions, [group or 1, sample, input or output, lane or 1].
    batch_X, batch_y, batch_rough, batch_share : room for a minibatch.
    """
    room, few = len(share), len(batch_share)
    shares, few_shares = shared(share, 0, room, 1), shared(batch_share, 0, few, 1)
    few_x, few_y = own(batch_X, 0, few, plan.table[WIDTHS, 0]), own(batch_y, 0, few, plan.table[WIDTHS, -1])
    few_E = own(batch_rough, 0, few, 1)
    for g in range(len(P)):
        x, target = samples_of(X, g, room, plan.table[WIDTHS, 0]), samples_of(y, g, room, plan.table[WIDTHS, -1])
        E = own(rough, g % len(rough) * room, room, 1)
        for t in range(len(etas) + look):
            if marks.alive[g] == 0:
                break
            if marks.any:
                total = slopes(P, g, C, plan, norm, x, target, E, shares, R, gates, G, chunk, method.loss, True, False)
                _watch(marks, g, first + t, total, P)
            if t < len(etas):
                order = orders[g, t]
                take(all_X[g % len(all_X)], order, batch_X)
                take(all_y[g % len(all_y)], order, batch_y)
                take(rough[g % len(rough)].reshape(-1, 1, rough.shape[2]), order, batch_rough)
                count = (order[:, 0] >= 0).sum()
                batch_share[:count], batch_share[count:] = 1 / count, 0
                slopes(P, g, C, plan, norm, few_x, few_y, few_E, few_shares, R, gates, G, chunk, method.loss, True, True)
                _descend(P, U, G, g, plan, etas[t], method, marks.alive[g])


@inner
def take(array, order, out):
    """out[s, :, lane] = array[order[s, lane], :, lane], and 0 where the order has -1; array [sample, col, lane or 1]."""
    own_lanes = array.shape[2] > 1
    for s in range(order.shape[0]):
        for lane in range(order.shape[1]):
            n, from_lane = order[s, lane], lane if own_lanes else 0
            for k in range(out.shape[1]):
                out[s, k, lane] = array[n, k, from_lane] if n >= 0 else 0


@compiled
def evaluate(P, g, C, G, R, gates, X, y, rough, share, plan, norm, loss, ahead, back):
    """What training computes, of group g, with room for all samples at once.

    Parameters
    ----------
    P, C, G, R, gates, X, y, rough, share, plan, norm : as for `train`.
    ahead : whether to put activations, of all layers, and outputs into R and gates.
    back : whether to put the slopes of -L into G, and others in the place of the activations, which are there already.
    """
    room = len(share)
    x, target = samples_of(X, g, room, plan.table[WIDTHS, 0]), samples_of(y, g, room, plan.table[WIDTHS, -1])
    E = own(rough, g % len(rough) * room, room, 1)
    slopes(P, g, C, plan, norm, x, target, E, shared(share, 0, room, 1), R, gates, G, room, loss, ahead, back)
