"""What moves ReLU networks that learn from all of N(0, σ² I) instead of samples of it, under the mean squared error.

With θ the angle of w and u, the arc-cosine kernel of degree 1 is (Cho & Saul, NIPS 2009)

    E[relu(w·x) relu(u·x)] = σ²/2π |w||u| (sin θ + (π - θ) cos θ)

so that E[1[w·x > 0] relu(u·x) x] = σ²/2π ((π - θ) u + |u| sin θ ŵ).  Labels are y = Σ_k c_k relu(u_k·x) + g(|x|), of which the
second term moves w along itself only: E[1[w·x > 0] g(|x|) x] = radial ŵ.  Unit vectors at an angle θ have a difference of
length 2 sin(θ/2) and a sum of length 2 cos(θ/2): hence θ keeps all its digits for neurons that are aligned, and no bit of a
pair depends on which of the two comes first, so that the angular momenta of a pair cancel.

Layouts as in `mcrace.kernels.sample_field`; the label's units come before the neurons wherever both are listed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mcrace.compiled import compiled
from mcrace.kernels.elementary import arctan
from mcrace.kernels.loops import product, sweep
from mcrace.kernels.one_layer import TILE
from mcrace.kernels.tiles import dot, fma, inline, load, own, part, root, store, where, zeros

HALF_TURN, TURN = math.pi / 2, 2 * math.pi


class PopulationField(NamedTuple):
    """The labels, and room for one group of networks."""

    units: np.ndarray  # [group, unit, input, L] directions of the u_k
    sizes: np.ndarray  # [group, unit, L] c_k |u_k|
    deviation: float  # σ
    radial: float
    square: np.ndarray  # [group, L] E[y²]
    inputs: int
    gates: np.ndarray  # [0, 0] there are none
    before: np.ndarray
    Z: np.ndarray  # [unit and neuron, input, L] directions of units and neurons
    sized: np.ndarray  # [unit and neuron, L] c_k |u_k| and -v_a |w_a|
    norms: np.ndarray  # [neuron, L] |w|
    pairs: np.ndarray  # [neuron, unit and neuron, L] what each draws a neuron by
    now: np.ndarray  # [L] losses


@inline
def _directions(W, v, Z, sized, norms):
    """Fill in what hangs on one neuron alone; a weight of norm 0 has the direction 0."""
    for i in range(0, W.rows, TILE):
        total = zeros(W, TILE, 1)
        for k in range(W.cols):
            w = load(W, i, k, TILE, 1)
            total = fma(w, w, total)
        norm = root(total)
        inverse = where(norm > 0, 1 / norm, 0)
        for k in range(W.cols):
            store(Z, i, k, load(W, i, k, TILE, 1) * inverse)
        store(norms, i, 0, norm)
        store(sized, i, 0, (0 - load(v, i, 0, TILE, 1)) * norm)


@inline
def _sine_and_rest(Z, i, j, first):
    """sin θ, cos θ and π - θ of the directions of neurons i ... and of units or neurons j ..."""
    apart, together = zeros(Z, TILE, TILE), zeros(Z, TILE, TILE)
    for k in range(Z.cols):
        a, b = load(Z, first + i, k, TILE, 1), load(Z, j, k, TILE, 1).T
        apart, together = fma(a - b, a - b, apart), fma(a + b, a + b, together)
    near = apart < together
    less, more = root(where(near, apart, together)), root(where(near, together, apart))
    half = arctan(where(more > 0, less / more, 0))  # θ/2, or (π - θ)/2 where that is less
    return 0.5 * less * more, 0.25 * (together - apart), 2 * where(near, HALF_TURN - half, half)


@inline
def _store_drift(k, K, i, args):
    D, pairs, Z, along, first = args
    store(D, i, k, fma(along, load(Z, first + i, k, TILE, K), product(pairs, i, TILE, Z, k, K)))
    return i


@compiled
def population_slopes(field, g, P, start, D, at):
    """Drifts D_a = E[1[w_a·x > 0] (y - f) x], and the slopes E[relu(w_a·x) (y - f)] of v; see `sample_slopes`."""
    rows, count, _ = field.pairs.shape
    d, first = field.inputs, count - rows
    W, v = own(P, start, rows, d), own(P, start + rows * d, rows, 1)
    Z, sized, norms = own(field.Z, 0, count, d), own(field.sized, 0, count, 1), own(field.norms, 0, rows, 1)
    pairs, drifts, dv = own(field.pairs, 0, rows, count), own(D, at, rows, d), own(D, at + rows * d, rows, 1)
    units, sizes = own(field.units, g * first * d, first, d), own(field.sizes, g * first, first, 1)
    for j in range(first):
        store(sized, j, 0, load(sizes, j, 0, 1, 1))
        for k in range(d):
            store(Z, j, k, load(units, j, k, 1, 1))
    _directions(W, v, part(Z, first, rows), part(sized, first, rows), norms)
    share = field.deviation * field.deviation / TURN
    loss = 0.5 * load(own(field.square, 0, len(field.square), 1), g, 0, 1, 1)
    for i in range(0, rows, TILE):
        along, drawn = zeros(W, TILE, 1) + field.radial, zeros(W, TILE, 1) + field.radial
        label = drawn
        for j in range(0, count, TILE):
            if j == first:
                label = drawn
            sine, cosine, rest = _sine_and_rest(Z, i, j, first)
            size = load(sized, j, 0, TILE, 1).T
            store(pairs, i, j, share * rest * size)
            along = dot(share * sine, size, along)
            drawn = dot(share * fma(rest, cosine, sine), size, drawn)
        norm = load(norms, i, 0, TILE, 1)
        sweep(_store_drift, d, i, (drifts, pairs, Z, along, first))
        store(dv, i, 0, norm * drawn)
        loss = dot(-0.5 * load(v, i, 0, TILE, 1), norm * (label + drawn), loss)
    store(own(field.now, 0, 1, 1), 0, 0, loss)
