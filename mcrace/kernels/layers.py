"""Layers in tiles, forward and backward, plain or normalised, networks in lanes.

Matrices are W [unit, input], activations [unit, sample], samples [input, sample]; slopes are those of -L.  Every number
is summed over inputs, units and samples in order, whatever the tiles and the chunks of samples.
"""

from __future__ import annotations

from mcrace.compiled import inner
from mcrace.kernels.elementary import exp, softplus
from mcrace.kernels.loops import add_product, in_most, product, sweep
from mcrace.kernels.normalisation import INVERSE, PULL, TILT, measure, normalise, pull_back
from mcrace.kernels.one_layer import LOGISTIC, TILE
from mcrace.kernels.tiles import dot, fma, gate, inline, load, relu, store, where, zeros

# ------------------------------------------------------------------------------------------------- forward


@inline
def _linear(n, cols, args):
    W, bias, below, above, gates, V, out, biased, rectified, noted, ends = args
    f = zeros(out, 1, cols)
    for i in range(0, W.rows, TILE):
        z = product(W, i, TILE, below, n, cols)
        if biased:
            z = z + load(bias, i, 0, TILE, 1)
        if noted:
            store(gates, i, n, gate(z))
        if rectified:
            z = relu(z)
        store(above, i, n, z)
        if ends:
            f = dot(load(V, 0, i, 1, TILE).T, z, f)
    if ends:
        store(out, 0, n, f)


@inner
def linear(W, bias, below, above, gates, V, out, biased, rectified, noted, ends):
    """above = W below + bias, or relu of that, with its gates noted where something is added to it afterwards.

    If the layer `ends` the network but for a single output: out = V above, too.
    """
    in_most(_linear, above.cols, (W, bias, below, above, gates, V, out, biased, rectified, noted, ends))


@inline
def _output(n, cols, args):
    V, below, f = args
    store(f, 0, n, product(V, 0, 1, below, n, cols))


@inner
def output(V, below, f):
    """f = V below, for a single output"""
    in_most(_output, f.cols, (V, below, f))


@inline
def add_bias(bias, f):
    """f += bias, for a single output"""
    for n in range(0, f.cols, TILE):
        store(f, 0, n, load(f, 0, n, 1, TILE) + load(bias, 0, 0, 1, 1))


@inline
def normalised_layer(units, above, gain, shift, rate, gates, scale, rough, norm, m, noted):
    """above = relu(γu + β); h, from which the mean over the first m units is gone, becomes u in its place."""
    for n in range(0, above.cols, TILE):
        square = zeros(units, 1, TILE)
        for i in range(m):
            h = load(units, i, n, 1, TILE)
            square = dot(h, h, square)
        normalise(units, above, gain, shift, measure(units, n, square, rough, rate, norm, m, scale), n)
        if noted:
            for i in range(0, above.rows, TILE):
                store(gates, i, n, gate(load(above, i, n, TILE, TILE)))


@inline
def add(above, below):
    """above += below"""
    for i in range(0, above.rows, TILE):
        for n in range(0, above.cols, TILE):
            store(above, i, n, load(above, i, n, TILE, TILE) + load(below, i, n, TILE, TILE))


# ------------------------------------------------------------------------------------------------- outputs


@inner
def residuals(f, y, share, loss, back, total):
    """Add the loss to `total`, and if `back` put -dl/df, times the share of each sample, in the place of the outputs.

    The share of a padded sample is 0; the label of a padded output is, too.
    """
    for n in range(0, f.cols, TILE):
        part = load(share, 0, n, 1, TILE)
        for i in range(f.rows):
            z, label = load(f, i, n, 1, TILE), load(y, i, n, 1, TILE)
            if loss == LOGISTIC:
                total = dot(part * softplus(0 - label * z), label * label, total)
                slope = part * (label / (1 + exp(label * z)))
            else:
                total = dot(0.5 * (label - z), part * (label - z), total)
                slope = part * (label - z)
            if back:
                store(f, i, n, slope)
    return total


# ------------------------------------------------------------------------------------------------- backward


@inline
def _slope_columns(k, K, i, args):
    G, slope, below = args
    add_product(G, slope, i, TILE, below.T, k, K)
    return i


@inner
def slope_inputs(G, slope, below):
    """G += slope belowᵀ, for any number of inputs"""
    for i in range(0, G.rows, TILE):
        sweep(_slope_columns, G.cols, i, (G, slope, below))


@inline
def _slope_tiles(k, cols, args):
    G, slope, below = args
    for i in range(0, G.rows, TILE):
        add_product(G, slope, i, TILE, below.T, k, cols)


@inner
def slope_weights(G, slope, below):
    """G += slope belowᵀ"""
    in_most(_slope_tiles, G.cols, (G, slope, below))


@inner
def slope_bias(G, slope):
    """G += slope, summed over samples"""
    for i in range(G.rows):
        total = load(G, i, 0, 1, 1)
        for n in range(0, slope.cols, TILE):
            total = dot(load(slope, i, n, 1, TILE), 1, total)
        store(G, i, 0, total)


@inline
def _through_gates(u, i, n, rows, cols, below, gates, rest, skips):
    """A tile u of the slope at the activations `below` becomes that at z, in their place."""
    if skips:
        store(rest, i, n, u)
        store(below, i, n, where(load(gates, i, n, rows, cols), u, 0))
    else:
        store(below, i, n, where(gate(load(below, i, n, rows, cols)), u, 0))


@inline
def _slope_below(n, cols, args):
    W, slope, below, gates, rest, skips, skipped = args
    for i in range(0, below.rows, TILE):
        u = product(W.T, i, TILE, slope, n, cols)
        if skipped:
            u = u + load(rest, i, n, TILE, cols)
        _through_gates(u, i, n, TILE, cols, below, gates, rest, skips)


@inner
def slope_below(W, slope, below, gates, rest, skips, skipped):
    """The slope at a layer's z takes the place of its activations `below`, from the slope at the h above.

    `rest` has the slope at what these activations are added to (`skipped`), and gets the slope at what is added to them
    (`skips`).
    """
    in_most(_slope_below, below.cols, (W, slope, below, gates, rest, skips, skipped))


@inline
def _slope_output(n, cols, args):
    G, V, slope, below, gates, rest, skips = args
    r = load(slope, 0, n, 1, cols)
    for i in range(below.rows):
        h, u = load(below, i, n, 1, cols), load(V, 0, i, 1, 1) * r
        store(G, 0, i, dot(r, h, load(G, 0, i, 1, 1)))
        _through_gates(u, i, n, 1, cols, below, gates, rest, skips)


@inner
def slope_output(G, V, slope, below, gates, rest, skips):
    """As `slope_weights` and then `slope_below`, for a single output."""
    in_most(_slope_output, below.cols, (G, V, slope, below, gates, rest, skips))


@inline
def slope_normalised(slope, units, scale, gain, g_gain, g_shift, g_rate, norm, m):
    """The slope at a layer's z becomes that at its h, up to its mean; adds to the slopes of γ, β and λ."""
    for n in range(0, slope.cols, TILE):
        pulled = zeros(slope, 1, TILE)
        for i in range(m):
            u, unit = load(slope, i, n, 1, TILE), load(units, i, n, 1, TILE)
            pulled = dot(load(gain, i, 0, 1, 1) * u, unit, pulled)
            store(g_gain, i, 0, dot(u, unit, load(g_gain, i, 0, 1, 1)))
            store(g_shift, i, 0, dot(u, 1, load(g_shift, i, 0, 1, 1)))
        store(g_rate, 0, 0, dot(0 - pulled, load(scale, TILT, n, 1, TILE), load(g_rate, 0, 0, 1, 1)))
        pull_back(slope, units, gain, scale, pulled, n, norm, m)


# ------------------------------------------------------------------------------------------------- normalised, and its output


@inner
def head(units, above, f, V, bias, gain, shift, rate, scale, rough, norm, m, biased, kept):
    """A last normalised layer and its single output: as `normalised_layer` and `output`, in one pass.

    The layer above is but one output, so that P/r = Σ v γ u over the units that are on is known already: it is multiplied
    into PULL and TILT, and the pass back needs no sum over units of its own.  Activations are stored if `kept`.
    """
    for n in range(0, f.cols, TILE):
        square = zeros(units, 1, TILE)
        for i in range(m):
            h = load(units, i, n, 1, TILE)
            square = dot(h, h, square)
        inverse = measure(units, n, square, rough, rate, norm, m, scale)
        out, pull = zeros(units, 1, TILE), zeros(units, 1, TILE)
        for i in range(units.rows):
            v, g, u = load(V, 0, i, 1, 1), load(gain, i, 0, 1, 1), load(units, i, n, 1, TILE) * inverse
            z = fma(g, u, load(shift, i, 0, 1, 1))
            on = gate(z)
            out, pull = fma(v, where(on, z, 0), out), fma(v * g, where(on, u, 0), pull)
            store(units, i, n, u)
            if kept:
                store(above, i, n, where(on, z, 0))
        if biased:
            out = out + load(bias, 0, 0, 1, 1)
        store(f, 0, n, out)
        store(scale, PULL, n, pull * load(scale, PULL, n, 1, TILE))
        store(scale, TILT, n, pull * load(scale, TILT, n, 1, TILE))


@inner
def slope_head(r, units, V, gain, shift, scale, g_gain, g_shift, g_rate):
    """The units of `head` become the slope at h, up to its mean, from that at the output.

    To the slope of γ is added that over v, Σ r u over the samples where the unit is on, and to that of β likewise Σ r: see
    `finish_head`.
    """
    for n in range(0, r.cols, TILE):
        tilt = load(scale, TILT, n, 1, TILE)
        store(g_rate, 0, 0, dot(0 - load(r, 0, n, 1, TILE), tilt, load(g_rate, 0, 0, 1, 1)))
    for i in range(0, units.rows, TILE):
        g, b = load(gain, i, 0, TILE, 1), load(shift, i, 0, TILE, 1)
        p, with_unit, alone = load(V, 0, i, 1, TILE).T * g, load(g_gain, i, 0, TILE, 1), load(g_shift, i, 0, TILE, 1)
        for n in range(r.cols):
            u, rn = load(units, i, n, TILE, 1), load(r, 0, n, 1, 1)
            on = gate(fma(g, u, b))
            with_unit, alone = where(on, fma(rn, u, with_unit), with_unit), where(on, alone + rn, alone)
            c = where(on, p, 0) - u * load(scale, PULL, n, 1, 1)
            store(units, i, n, rn * load(scale, INVERSE, n, 1, 1) * c)
        store(g_gain, i, 0, with_unit)
        store(g_shift, i, 0, alone)


@inner
def finish_head(V, gain, shift, g_V, g_gain, g_shift):
    """The slopes of V, γ and β from the sums of `slope_head` over all samples."""
    for i in range(V.cols):
        v, with_unit, alone = load(V, 0, i, 1, 1), load(g_gain, i, 0, 1, 1), load(g_shift, i, 0, 1, 1)
        store(g_V, 0, i, fma(load(gain, i, 0, 1, 1), with_unit, load(shift, i, 0, 1, 1) * alone))
        store(g_gain, i, 0, v * with_unit)
        store(g_shift, i, 0, v * alone)
