"""What moves networks of one hidden layer that learn from samples, for any activation.

Layouts, with L lanes: parameters [parameter, L], W [neuron, input] in rows and then v [neuron]; samples and labels as for
`mcrace.kernels.one_layer`.  Neurons and samples are padded with zeros to a multiple of `TILE`.  Unlike there, activations
and slopes are stored: a gate is no bit here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mcrace.compiled import compiled
from mcrace.kernels.activations import LEAKY_RELU, activated, slope
from mcrace.kernels.loops import product, sweep
from mcrace.kernels.one_layer import TILE, mean_loss, residuals, samples_of
from mcrace.kernels.tiles import fma, gate, inline, load, own, store, zeros


class SampleField(NamedTuple):
    """Samples to learn from, and room for one group of networks."""

    X: np.ndarray
    y: np.ndarray
    samples: int  # that are real
    neurons: int  # that are real
    inputs: int
    loss: int
    activation: int
    parameter: float
    f: np.ndarray  # [sample, L] outputs
    r: np.ndarray  # [sample, L] residuals over N
    values: np.ndarray  # [neuron, sample, L] σ(w·x)
    slopes: np.ndarray  # [neuron, sample, L] σ'(w·x), then times the residual
    gates: np.ndarray  # [neuron, sample] a bit a lane: w·x > 0, where σ has a kink
    before: np.ndarray  # [neuron, sample] gates to compare with
    now: np.ndarray  # [L] losses


@inline
def _forward(W, v, X, f, values, slopes, gates, kind, parameter):
    for n in range(0, f.cols, TILE):
        store(f, 0, n, zeros(f, 1, TILE))
    for i in range(0, W.rows, TILE):
        for n in range(0, f.cols, TILE):
            store(values, i, n, product(W, i, TILE, X.T, n, TILE))
    for i in range(W.rows):  # one by one: there is far less to compile than for tiles of exponentials
        for n in range(f.cols):
            h = load(values, i, n, 1, 1)
            z = activated(h, kind, parameter)
            store(values, i, n, z)
            store(slopes, i, n, slope(h, z, kind, parameter))
            if kind <= LEAKY_RELU:
                store(gates, i, n, gate(h))
            store(f, 0, n, fma(load(v, i, 0, 1, 1), z, load(f, 0, n, 1, 1)))


@inline
def _store_drift(k, K, i, args):
    D, slopes, X = args
    store(D, i, k, product(slopes, i, TILE, X, k, K))
    return i


@compiled
def sample_slopes(field, g, P, start, D, at):
    """Drifts D_a = (1/N) Σ_n σ'(w_a·x_n) r_n x_n and the slopes (1/N) Σ_n r_n σ(w_a·x_n) of v, laid out as parameters.

    The group's parameters start at P[start], what is found goes to D[at] and so on, and the losses go to `field.now`.
    """
    rows, room, _ = field.values.shape
    d, share = field.inputs, 1 / field.samples
    W, v = own(P, start, rows, d), own(P, start + rows * d, rows, 1)
    f, r = own(field.f, 0, 1, room), own(field.r, 0, 1, room)
    values, slopes, gates = own(field.values, 0, rows, room), own(field.slopes, 0, rows, room), own(field.gates, 0, rows, room)
    x, y = samples_of(field.X, g, room, d), samples_of(field.y, g, 1, room)
    _forward(W, v, x, f, values, slopes, gates, field.activation, field.parameter)
    for n in range(field.samples, room):  # a padded sample has an output where σ(0) is not 0
        store(f, 0, n, zeros(f, 1, 1))
    store(own(field.now, 0, 1, 1), 0, 0, mean_loss(f, y, share, field.loss))
    for n in range(room):
        store(r, 0, n, load(f, 0, n, 1, 1))
    residuals(r, y, share, field.loss)
    drifts, dv = own(D, at, rows, d), own(D, at + rows * d, rows, 1)
    for i in range(0, rows, TILE):
        total = zeros(dv, TILE, 1)
        for n in range(room):
            share_of_n = load(r, 0, n, 1, 1)
            total = fma(load(values, i, n, TILE, 1), share_of_n, total)
            store(slopes, i, n, load(slopes, i, n, TILE, 1) * share_of_n)
        store(dv, i, 0, total)
        sweep(_store_drift, d, i, (drifts, slopes, x))
    for i in range(field.neurons, rows):  # a padded neuron has a slope where σ(0) is not 0
        store(dv, i, 0, zeros(dv, 1, 1))
