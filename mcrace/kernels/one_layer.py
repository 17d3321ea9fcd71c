"""One hidden layer of ReLU neurons, networks in lanes: activations are never stored, only one gate bit a lane.

Layouts, with L lanes: W [group, neuron, input, L], v [group, neuron, 1, L]; samples X [sample, input] shared by all
networks or [group, sample, input, L]; labels y [sample] or [group, sample, L].  Neurons and samples are padded with
zeros to a multiple of `TILE`; inputs are not padded.  A padded sample switches no neuron on; a padded neuron stays 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from mcrace.compiled import compiled
from mcrace.kernels.elementary import exp, softplus
from mcrace.kernels.lanes import GATES, aligned, lane_count, lane_flags, pack, pack_samples, padded, unpack
from mcrace.kernels.marks import note
from mcrace.kernels.tiles import (
    dot,
    fma,
    inline,
    lane_bits,
    lanes_on,
    load,
    own,
    product,
    shared,
    store,
    sweep,
    where,
    zeros,
)

TILE = 4  # neurons and samples in a tile; inputs come five at a time, then fewer
MSE, LOGISTIC = 0, 1


class Method(NamedTuple):
    """What is done at every step."""

    loss: int
    plain: bool  # neither decay nor momentum
    decay: float
    momentum: float


def _samples(X, group, rows, cols):
    """The samples, or labels, of a group as a matrix."""


@overload(_samples, inline="always")
def _samples_overload(X, group, rows, cols):
    if X.ndim <= 2:
        return lambda X, group, rows, cols: shared(X, 0, rows, cols)
    return lambda X, group, rows, cols: own(X, group * rows * cols, rows, cols)


@inline
def forward(W, v, X, f, gates):
    """Outputs f [1, sample], and which neurons are on at which samples."""
    for n in range(0, f.cols, TILE):
        store(f, 0, n, zeros(f, 1, TILE))
    for i in range(0, W.rows, TILE):
        for n in range(0, f.cols, TILE):
            h = product(W, i, TILE, X.T, n, TILE)
            on = h > 0
            store(gates, i, n, on)
            store(f, 0, n, dot(load(v, i, 0, TILE, 1), where(on, h, 0), load(f, 0, n, 1, TILE)))


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


@inline
def drift(W, X, r, gates, i, k, K):
    """D[i:i+TILE, k:k+K], the sums over samples of gate * r * x."""
    u = zeros(W, TILE, K)
    for n in range(r.cols):
        u = where(load(gates, i, n, TILE, 1), u + load(r, 0, n, 1, 1) * load(X, n, k, 1, K), u)
    return u


@inline
def _descend(k, K, dv, args):
    """Descend W[i:i+TILE, k:k+K] and add its share of w.D, the slope of v."""
    W, X, r, gates, i, rate, alive = args
    D, w = drift(W, X, r, gates, i, k, K), load(W, i, k, TILE, K)
    store(W, i, k, where(alive, fma(rate, D, w), w))
    return dot(w, D, dv)


@inline
def backward(W, v, X, r, gates, eta, alive):
    """One step of descent of the networks that are alive."""
    for i in range(0, W.rows, TILE):
        out = load(v, i, 0, TILE, 1)
        dv = sweep(_descend, W.cols, zeros(v, TILE, 1), (W, X, r, gates, i, eta * out, alive))
        store(v, i, 0, where(alive, fma(eta, dv, out), out))


@inline
def _descend_with_memory(k, K, dv, args):
    """As `_descend`, with weight decay and the velocity of a heavy ball."""
    W, U, X, r, gates, i, rate, keep, momentum, alive = args
    D, w, u = drift(W, X, r, gates, i, k, K), load(W, i, k, TILE, K), load(U, i, k, TILE, K)
    velocity = fma(momentum, u, fma(rate, D, keep * w))
    store(U, i, k, where(alive, velocity, u))
    store(W, i, k, where(alive, w + velocity, w))
    return dot(w, D, dv)


@inline
def backward_with_memory(W, v, U, u, X, r, gates, eta, decay, momentum, alive):
    """One step of the heavy ball with weight decay: velocity = momentum velocity - eta (gradient + decay weights)."""
    keep = 0 - eta * decay
    for i in range(0, W.rows, TILE):
        out, speed = load(v, i, 0, TILE, 1), load(u, i, 0, TILE, 1)
        args = (W, U, X, r, gates, i, eta * out, keep, momentum, alive)
        dv = sweep(_descend_with_memory, W.cols, zeros(v, TILE, 1), args)
        velocity = fma(momentum, speed, fma(eta, dv, keep * out))
        store(u, i, 0, where(alive, velocity, speed))
        store(v, i, 0, where(alive, out + velocity, out))


@compiled
def train(W, v, U, u, X, y, samples, f, gates, etas, method, marks, first, look):
    """Full-batch descent of every group: from step `first` on, one step for each entry of etas.

    Parameters
    ----------
    W, v, U, u : weights and their velocities (empty where there is no momentum and no decay); changed in place.
    X, y : samples and labels, padded; `samples` of them are real.
    f, gates : room for outputs [sample, lane] and gates [neuron, sample].
    etas : step sizes, of the dtype of the weights.
    method : `Method`
    marks : `mcrace.kernels.marks.Marks`
    look : whether to test the marks once more after the last step.
    """
    groups, m, d, lanes = W.shape
    room = f.shape[0]
    outputs, slopes, on = own(f, 0, 1, room), own(f, 0, 1, samples), own(gates, 0, m, room)
    now, nearest = own(marks.now, 0, 1, 1), own(marks.nearest, 0, groups, 1)
    for g in range(groups):
        w, out = own(W, g * m * d, m, d), own(v, g * m, m, 1)
        x, target = _samples(X, g, room, d), _samples(y, g, 1, room)
        for t in range(len(etas) + look):
            if marks.alive[g] == 0:
                break
            forward(w, out, x, outputs, on)
            if marks.any:
                value = mean_loss(outputs, target, 1 / samples, method.loss)
                if lane_bits(value <= load(nearest, g, 0, 1, 1)) or first + t >= marks.due[g]:
                    store(now, 0, 0, value)
                    note(marks, g, first + t, W[g], v[g])
            if t == len(etas):
                break
            residuals(outputs, target, 1 / samples, method.loss)
            alive = lanes_on(w, marks.alive[g])
            if method.plain:
                backward(w, out, x, slopes, on, etas[t], alive)
            else:
                ball, speed = own(U, g * m * d, m, d), own(u, g * m, m, 1)
                backward_with_memory(w, out, ball, speed, x, slopes, on, etas[t], method.decay, method.momentum, alive)


@inline
def _store_drift(k, K, i, args):
    D, W, X, r, gates = args
    store(D, i, k, drift(W, X, r, gates, i, k, K))
    return i


@compiled
def gradients(W, v, X, y, samples, f, gates, D, outputs, active, loss):
    """Outputs [group, sample, L], drift D [group, neuron, input, L] (unless it has no room), and active [group, neuron],
    which has a bit for each lane where the neuron is on at any sample, at the weights as they stand.
    """
    groups, m, d, lanes = W.shape
    room = f.shape[0]
    out, slopes, on = own(f, 0, 1, room), own(f, 0, 1, samples), own(gates, 0, m, room)
    for g in range(groups):
        w, x = own(W, g * m * d, m, d), _samples(X, g, room, d)
        forward(w, own(v, g * m, m, 1), x, out, on)
        outputs[g] = f
        for i in range(m):
            for n in range(room):
                active[g, i] |= gates[i, n]
        if len(D) == 0:
            continue
        residuals(out, _samples(y, g, 1, room), 1 / samples, loss)
        for i in range(0, m, TILE):
            sweep(_store_drift, d, i, (own(D, g * m * d, m, d), w, x, slopes, on))


LOSSES = {"mse": MSE, "logistic": LOGISTIC}


class OneLayerNetworks:
    """Networks of one hidden layer in training, one in each lane.

    Parameters
    ----------
    W : array [network, neuron, input]
    v : array [network, neuron]
    X : array [sample, input], shared, or [network, sample, input]
    y : array [sample] or [network, sample]
    loss : {"mse", "logistic"}
    dtype : float32 or float64
        Of all arithmetic.
    marks : `mcrace.kernels.marks.MarkTable`
    decay : float
        Weight decay: the gradient of the loss is that of L + decay (|W|² + |v|²)/2.
    momentum : float
        What is kept of the velocity of a heavy ball from one step to the next.
    """

    kernel = "one-layer-lanes"

    def __init__(self, W, v, X, y, loss, dtype, marks, decay=0.0, momentum=0.0):
        self.count, self.neurons, self.inputs = W.shape
        self.samples = y.shape[-1]
        self.dtype = np.dtype(dtype)
        self.lanes = lanes = lane_count(dtype)
        rows, room = padded(self.neurons, TILE), padded(self.samples, TILE)
        self.W, self.v = pack(W, rows, dtype), pack(v[:, :, None], rows, dtype)
        plain = not decay and not momentum
        self.U, self.u = (np.zeros_like(a[:0] if plain else a) for a in (self.W, self.v))
        self.X, self.y = pack_samples(X, y, room, dtype)
        self.f, self.gates = aligned((room, lanes), dtype), np.zeros((rows, room), GATES[lanes])
        self.method = Method(LOSSES[loss], plain, self.dtype.type(decay), self.dtype.type(momentum))
        self.marks = marks.in_lanes(self.W, self.v)

    def advance(self, first: int, etas: np.ndarray, look: bool = False) -> None:
        """Take the steps `first`, first+1, ... of the given sizes; `look`: test the marks after the last one, too."""
        etas = np.asarray(etas, self.dtype)
        train(self.W, self.v, self.U, self.u, self.X, self.y, self.samples, self.f, self.gates, etas,
              self.method, self.marks, first, look)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """W [network, neuron, input] and v [network, neuron], float64, as they stand."""
        return self._unpacked(self.W, self.v)

    def kept(self, mark: int) -> tuple[np.ndarray, np.ndarray]:
        """The weights at a mark that keeps them; zeros for the networks that did not meet it."""
        slot = self.marks.keep[mark]
        return self._unpacked(self.marks.kept_W[slot], self.marks.kept_v[slot])

    def _unpacked(self, W, v):
        W, v = (unpack(a, self.count, self.neurons, np.float64) for a in (W, v))
        return W, v[:, :, 0]

    @property
    def finite(self) -> np.ndarray:
        """Which networks have finite output weights; infinite input weights make these so one step later."""
        return np.isfinite(unpack(self.v, self.count, self.neurons)).all(axis=(1, 2))

    @property
    def met(self) -> np.ndarray:
        """Steps at which the marks were met [network, mark], int64; -1: not met."""
        return unpack(self.marks.met[:, :, None].swapaxes(1, 2), self.count, 1, np.int64)[:, 0]

    @property
    def alive(self) -> np.ndarray:
        """Which networks still move [network]."""
        return lane_flags(self.marks.alive, self.lanes, self.count)

    def retire(self, networks: np.ndarray) -> None:
        """Stop the networks that are set in a boolean array."""
        for network in np.flatnonzero(networks):
            group, lane = divmod(int(network), self.lanes)
            self.marks.alive[group] &= ~(1 << lane)


class Samples:
    """Samples and labels in float64 lanes, packed once and evaluated often.

    Parameters
    ----------
    X : array [sample, input], shared, or [network, sample, input]
    y : array [sample] or [network, sample]
    loss : {"mse", "logistic"}
    """

    def __init__(self, X, y, loss):
        self.count, self.loss = y.shape[-1], LOSSES[loss]
        self.room, self.lanes = padded(self.count, TILE), lane_count(np.float64)
        self.X, self.y = pack_samples(X, y, self.room, np.float64)

    def evaluate(self, W, v, drifts=True):
        """Outputs and drifts of networks, in float64, by the same lanes as in training.

        Parameters
        ----------
        W : array [network, neuron, input]
        v : array [network, neuron]
        drifts : bool
            Whether they are wanted.

        Returns
        -------
        f : array [network, sample]
        D : array [network, neuron, input], or None
            D_a = (1/N) sum_n g_an r_n x_n (THEORY.md, Notation).
        active : bool array [network, neuron]
            Whether a neuron is on at any sample.
        """
        networks, neurons, _ = W.shape
        rows = padded(neurons, TILE)
        packed_W, packed_v = pack(W, rows, np.float64), pack(v[:, :, None], rows, np.float64)
        D = aligned(packed_W.shape if drifts else (0, *packed_W.shape[1:]), np.float64)
        outputs = aligned((len(packed_W), self.room, self.lanes), np.float64)
        f, gates = aligned((self.room, self.lanes), np.float64), np.zeros((rows, self.room), GATES[self.lanes])
        on = np.zeros((len(packed_W), rows), np.int64)
        gradients(packed_W, packed_v, self.X, self.y, self.count, f, gates, D, outputs, on, self.loss)
        f = unpack(outputs[:, :, None], networks, self.count)[:, :, 0]
        active = np.stack([lane_flags(bits, self.lanes, networks) for bits in on.T[:neurons]], axis=1)
        return f, unpack(D, networks, neurons) if drifts else None, active
