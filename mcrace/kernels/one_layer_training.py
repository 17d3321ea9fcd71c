"""Training of networks with one hidden layer: steps, in all samples or in minibatches, and gradients at a state.

Where r x of all samples is at hand, a step is one pass over the tiles of neurons: while the drifts of a tile are summed, the
pass forward of the next step goes through the tile before it, which has taken its own step.
"""

from __future__ import annotations

from mcrace.compiled import compiled
from mcrace.kernels.marks import note
from mcrace.kernels.one_layer import HALF, NO_MOVE, TILE, Forward, mean_loss, residuals, samples_of, sums_of
from mcrace.kernels.passes import clear, drifts, forward, forward_through, sum_drifts, sum_first
from mcrace.kernels.registers import ADDERS
from mcrace.kernels.tiles import fma, inline, lane_bits, lanes_on, load, own, store, where, zeros


@inline
def descend(i, R, D, at, W, v, eta, alive):
    """One step of descent of R neurons from i on, whose drifts are in D from row `at` on, in the networks that are alive."""
    still, out, slope = lanes_on(W, alive), load(v, i, 0, R, 1), zeros(v, R, 1)
    rate = where(still, eta * out, 0)
    for k in range(W.cols):
        w, d = load(W, i, k, R, 1), load(D, at, k, R, 1)
        store(W, i, k, fma(rate, where(still, d, NO_MOVE), w))
        slope = fma(w, d, slope)
    store(v, i, 0, fma(eta, where(still, slope, NO_MOVE), out))


@inline
def descend_with_memory(i, R, D, at, W, v, U, u, eta, decay, momentum, alive):
    """The same of the heavy ball with weight decay: velocity = momentum velocity - eta (gradient + decay weights)."""
    keep, still = 0 - eta * decay, lanes_on(W, alive)
    kept = where(still, zeros(W, 1, 1) + momentum, 1)
    out, speed, slope = load(v, i, 0, R, 1), load(u, i, 0, R, 1), zeros(v, R, 1)
    for k in range(W.cols):
        d, w, ball = load(D, at, k, R, 1), load(W, i, k, R, 1), load(U, i, k, R, 1)
        velocity = fma(kept, ball, where(still, fma(eta * out, d, keep * w), NO_MOVE))
        slope = fma(w, d, slope)
        store(U, i, k, velocity)
        store(W, i, k, w + where(still, velocity, NO_MOVE))
    velocity = fma(kept, speed, where(still, fma(eta, slope, keep * out), NO_MOVE))
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
def _descend(i, R, D, at, g, ahead, U, u, eta, method, alive):
    """One step of R neurons of group g, by the method."""
    W, v = ahead.W, ahead.v
    if method.plain:
        descend(i, R, D, at, W, v, eta, alive)
    else:
        ball, speed = own(U, g * W.rows * W.cols, W.rows, W.cols), own(u, g * W.rows, W.rows, 1)
        descend_with_memory(i, R, D, at, W, v, ball, speed, eta, method.decay, method.momentum, alive)


@inline
def _step(r, room, g, ahead, U, u, eta, method, alive, beside):
    """One step of a group; `beside` it, the pass forward of the next, for which r x of all samples has to be at hand."""
    rows, span = ahead.W.rows, room.rx.shape[0]
    for first in range(0, r.cols, span):
        after = min(first + span, r.cols)
        sums = sums_of(room, first, after)
        sum_first(r, sums, first > 0, ahead)
        if beside:
            clear(ahead.f)
        for i in range(0, rows, TILE):
            to = i if span < r.cols else 0
            if i:
                sum_drifts(i, to, sums, first > 0, i - TILE if beside else -1, ahead)
            if after < r.cols:
                continue
            if ADDERS and i + TILE > rows:
                _descend(i, HALF, sums.D, to, g, ahead, U, u, eta, method, alive)
            else:
                _descend(i, TILE, sums.D, to, g, ahead, U, u, eta, method, alive)
    if beside:
        forward_through((rows - 1) // TILE * TILE, ahead)


@inline
def _gates(on, m, samples):
    """Room for the gates of m neurons, some of its last tile perhaps unused."""
    return own(on, 0, (m + TILE - 1) // TILE * samples, TILE)


@inline
def _ahead(W, v, X, f, on, g):
    """The pass forward of group g."""
    _, m, d, _ = W.shape
    size = f.shape[0]
    return Forward(own(W, g * m * d, m, d), own(v, g * m, m, 1), samples_of(X, g, size, d), own(f, 0, 1, size),
                   _gates(on, m, size))


@compiled
def train(W, v, U, u, room, X, y, samples, f, on, etas, method, marks, first, look):
    """Full-batch descent of every group: from step `first` on, one step for each entry of etas.

    Parameters
    ----------
    W, v, U, u : weights and their velocities (empty where there is no momentum and no decay); changed in place.
    room : `Room`
    X, y : samples and labels, padded; `samples` of them are real.
    f, on : room for outputs [sample, lane], and for gates [tile, sample, neuron of the tile] or z [.., lane].
    etas : step sizes, of the dtype of the weights.
    method : `Method`
    marks : `mcrace.kernels.marks.Marks`
    look : whether to test the marks once more after the last step.
    """
    share = 1 / samples
    for g in range(len(W)):
        if marks.alive[g] == 0:
            continue
        ahead, target = _ahead(W, v, X, f, on, g), samples_of(y, g, 1, f.shape[0])
        forward(ahead)
        for t in range(len(etas) + look):
            if marks.alive[g] == 0:
                break
            if marks.any:
                _watch(marks, g, first + t, ahead.f, target, share, method.loss, W, v)
            if t == len(etas):
                break
            residuals(ahead.f, target, share, method.loss)
            goes_on = t + 1 < len(etas) + look
            beside = goes_on and room.rx.shape[0] >= samples
            _step(own(f, 0, 1, samples), room, g, ahead, U, u, etas[t], method, marks.alive[g], beside)
            if goes_on and not beside:
                forward(ahead)


@compiled
def train_on_batches(W, v, U, u, room, X, y, samples, f, on, etas, method, marks, first, look, orders,
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
    x, target = own(batch_X, 0, size, d), own(batch_y, 0, 1, size)
    for g in range(groups):
        w, out = own(W, g * m * d, m, d), own(v, g * m, m, 1)
        for t in range(len(etas) + look):
            if marks.alive[g] == 0:
                break
            if marks.any:
                ahead = _ahead(W, v, X, f, on, g)
                forward(ahead)
                _watch(marks, g, first + t, ahead.f, samples_of(y, g, 1, whole), 1 / samples, method.loss, W, v)
            if t < len(etas):
                count = gather(all_X[g % len(all_X)], all_y[g % len(all_y)], orders[g, t], batch_X, batch_y)
                few = Forward(w, out, x, own(f, 0, 1, size), _gates(on, m, size))
                forward(few)
                residuals(few.f, target, 1 / count, method.loss)
                _step(few.f, room, g, few, U, u, etas[t], method, marks.alive[g], False)


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
    groups, m, size = W.shape[0], W.shape[1], f.shape[0]
    for g in range(groups):
        ahead = _ahead(W, v, X, f, gates, g)
        forward(ahead)
        outputs[g] = f
        for i in range(m):
            for n in range(size):
                active[g, i] |= gates[i // TILE, n, i % TILE]
        if len(D) == 0:
            continue
        residuals(ahead.f, samples_of(y, g, 1, size), 1 / samples, loss)
        drifts(own(f, 0, 1, samples), room, ahead)
        D[g] = room.D
