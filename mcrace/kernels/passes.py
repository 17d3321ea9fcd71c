"""Passes forward and backward over the neurons of one hidden layer, a tile of them at a time.

A drift is the sum over samples of on r x: of additions, of r x where a neuron is on.  A pass forward multiplies and adds,
which on some processors other units do than those that add.  There, while the drifts of one tile are summed, the pass forward
goes through another, and registers hold the sums of both.
"""

from __future__ import annotations

from numba.extending import overload

from mcrace.compiled import inner
from mcrace.kernels.few_inputs import add_if, forward_of_few, is_on, sums_of_few
from mcrace.kernels.loops import sweep_fours, sweep_threes
from mcrace.kernels.one_layer import FEW, HALF, ONES, SAMPLES, TILE, gates_of, some_of, start, sums_of
from mcrace.kernels.registers import ADDERS, WIDE
from mcrace.kernels.tiles import add_products, dot, fma, gate, inline, load, relu, row, store, where, zeros

# ------------------------------------------------------------------------------------------------- forward


@inline
def _term(h, i, k, n, R, anew, ahead):
    if ADDERS:
        return add_products(h, load(ahead.W, i, k, R, 1), ahead.X.T, k, n, anew)
    return fma(load(ahead.W, i, k, R, 1), load(ahead.X.T, k, n, 1, SAMPLES), h)


@inline
def _add_row(total, h, a, i, n, on, ahead):
    z = row(h, a)
    store(on, a, n, gate(z))
    return dot(load(ahead.v, i + a, 0, 1, 1), relu(z), total)


@inline
def _add_outputs(h, i, n, ahead):
    """Add what a tile of neurons puts out; a neuron at a time, for there are few mask registers."""
    on, total = gates_of(i, 0, ahead.f.cols, ahead), load(ahead.f, 0, n, 1, SAMPLES)
    total = _add_row(total, h, 0, i, n, on, ahead)
    total = _add_row(total, h, 1, i, n, on, ahead)
    total = _add_row(total, h, 2, i, n, on, ahead)
    total = _add_row(total, h, 3, i, n, on, ahead)
    store(ahead.f, 0, n, total)


@inline
def _forward_half(i, ahead):
    """The pass forward through a tile of `HALF` neurons."""
    on = gates_of(i, 0, ahead.f.cols, ahead)
    for n in range(0, ahead.f.cols, SAMPLES):
        h = zeros(ahead.W, HALF, SAMPLES)
        for k in range(ahead.W.cols):
            h = _term(h, i, k, n, HALF, 0, ahead)
        total = _add_row(load(ahead.f, 0, n, 1, SAMPLES), h, 0, i, n, on, ahead)
        store(ahead.f, 0, n, _add_row(total, h, 1, i, n, on, ahead))


@inline
def _go_on(place, i, ahead):
    """The pass forward through tile i from a place in it, (sums of input k on, sample n, k), to its end."""
    h, n, start = place
    while n < ahead.f.cols:
        for k in range(start, ahead.W.cols):
            h = _term(h, i, k, n, TILE, 0, ahead)
        _add_outputs(h, i, n, ahead)
        h, n, start = zeros(ahead.W, TILE, SAMPLES), n + SAMPLES, 0


@inner
def _forward_with_bits(i, ahead):
    if WIDE and ahead.W.cols <= FEW:
        forward_of_few(i, ahead)
        return
    if ADDERS and i + TILE > ahead.W.rows:
        _forward_half(i, ahead)
        return
    _go_on((zeros(ahead.W, TILE, SAMPLES), 0, 0), i, ahead)


@inner
def _forward_with_z(i, ahead):
    forward_of_few(i, ahead)


def forward_through(i, ahead):
    """Add to the outputs what tile i puts out, and note where its neurons are on."""


@overload(forward_through, inline="always")
def _forward_by_type(i, ahead):
    if ahead.types[-1].gates:
        return lambda i, ahead: _forward_with_bits(i, ahead)
    return lambda i, ahead: _forward_with_z(i, ahead)


@inline
def clear(f):
    """No outputs."""
    for n in range(f.cols):
        store(f, 0, n, zeros(f, 1, 1))


@inline
def forward(ahead):
    """Outputs, and which neurons are on."""
    clear(ahead.f)
    for i in range(0, ahead.W.rows, TILE):
        forward_through(i, ahead)


# ------------------------------------------------------------------------------------------------- drifts


@inline
def _add(u, n, a, k, K, R, on, sums):
    return where(load(on, a, n, R, 1), u + load(sums.rx, n, k, 1, K), u)


@inline
def _add_by_products(u, n, a, k, K, R, sums):
    return fma(load(sums.ones, a, n, R, 1), load(sums.rx, n, k, 1, K), u)


@inline
def _columns(k, K, R, to, on, sums, more):
    """Columns of D, R neurons of a tile at a time."""
    for a in range(0, TILE, R):
        u = start(sums, to + a, k, K, R, more)
        for n in range(sums.rx.rows):
            u = _add(u, n, a, k, K, R, on, sums) if WIDE else _add_by_products(u, n, a, k, K, R, sums)
        store(sums.D, to + a, k, u)


@inline
def _columns_beside(k, K, R, place, args):
    """Columns of D of R neurons, and meanwhile, term by term, what is left of the pass forward through a tile."""
    to, on, sums, more, at, ahead = args
    h, b, j = place
    u, n, d = start(sums, to, k, K, R, more), 0, ahead.W.cols
    while n < sums.rx.rows and b < ahead.f.cols:
        steps = min(d - j, sums.rx.rows - n)
        for s in range(steps):
            # With four columns all registers are taken, and LLVM would put sums into memory.
            h = _term(h, at, j + s, b, TILE, 1, ahead) if K < 4 else _term(h, at, j + s, b, TILE, 0, ahead)
            u = _add(u, n + s, 0, k, K, R, on, sums)
        n, j = n + steps, j + steps
        if j == d:
            _add_outputs(h, at, b, ahead)
            h, b, j = zeros(ahead.W, TILE, SAMPLES), b + SAMPLES, 0
    for left in range(n, sums.rx.rows):
        u = _add(u, left, 0, k, K, R, on, sums)
    store(sums.D, to, k, u)
    return h, b, j


@inline
def _of_tile(k, K, place, args):
    return _columns_beside(k, K, TILE, place, args)


@inline
def _of_half(k, K, place, args):
    return _columns_beside(k, K, HALF, place, args)


@inline
def _sums_beside(i, to, sums, more, at, ahead):
    args = to, gates_of(i, sums.first, sums.rx.rows, ahead), sums, more, at, ahead
    place = zeros(ahead.W, TILE, SAMPLES), 0 if at >= 0 else ahead.f.cols, 0
    if i + TILE <= ahead.W.rows:
        place = sweep_fours(_of_tile, sums.D.cols, place, args)
    else:
        place = sweep_fours(_of_half, sums.D.cols, place, args)
    _go_on(place, at, ahead)


@inline
def _sums_by_masks(to, on, sums, more):
    """A gate is loaded for ten inputs, if it can, whose sums fill the registers."""
    d = sums.D.cols
    tens, fives = d // 10 * 10, d // 5 * 5
    for k in range(0, tens, 10):
        _columns(k, 10, 2, to, on, sums, more)
    if fives > tens:
        _columns(tens, 5, TILE, to, on, sums, more)
    for k in range(fives, d - 1, 2):
        _columns(k, 2, TILE, to, on, sums, more)
    if (d - fives) % 2:
        _columns(d - 1, 1, TILE, to, on, sums, more)


@inline
def _three_columns(k, K, carry, args):
    to, on, sums, more = args
    _columns(k, K, TILE, to, on, sums, more)
    return carry


@inline
def _sums_by_products(i, to, sums, more, ahead):
    """Without mask registers a gate is made once for all inputs."""
    one = zeros(sums.D, 1, 1) + 1
    for first in range(0, sums.rx.rows, ONES):
        some = some_of(sums, first, min(ONES, sums.rx.rows - first))
        on = gates_of(i, some.first, some.rx.rows, ahead)
        for n in range(some.rx.rows):
            store(some.ones, 0, n, where(is_on(on, 0, n, TILE), one, 0))
        sweep_threes(_three_columns, sums.D.cols, 0, (to, on, some, more or first > 0))


@inline
def _product(n, k, K, r, sums, ahead):
    """r x of a sample, put into its room."""
    x = load(r, 0, sums.first + n, 1, 1) * load(ahead.X, sums.first + n, k, 1, K)
    store(sums.rx, n, k, x)
    return x


@inline
def _products(k, K, carry, args):
    r, sums, _, _, ahead = args
    zero = zeros(sums.D, 1, K)
    for n in range(sums.rx.rows):
        zero = fma(0, _product(n, k, K, r, sums, ahead), zero)
    store(sums.zero, 0, k, zero)
    return carry


@inline
def _products_and_columns(k, K, carry, args):
    r, sums, on, more, ahead = args
    zero, one = zeros(sums.D, 1, K), zeros(sums.D, 1, 1) + 1
    u = load(sums.D, 0, k, TILE, K) if more else zeros(sums.D, TILE, K)
    for n in range(sums.rx.rows):
        x = _product(n, k, K, r, sums, ahead)
        zero, u = fma(0, x, zero), add_if(u, is_on(on, 0, n, TILE), one, x)
    store(sums.zero, 0, k, zero)
    store(sums.D, 0, k, u + zero)
    return carry


@inner
def sum_first(r, sums, more, ahead):
    """Put r x of the samples into their room, 0 times its sum, and the drifts of the first tile, added, if asked, to what is
    there.
    """
    args = r, sums, gates_of(0, sums.first, sums.rx.rows, ahead), more, ahead
    if WIDE or sums.D.cols <= FEW:
        sweep_threes(_products_and_columns, sums.D.cols, 0, args)
    else:
        sweep_threes(_products, sums.D.cols, 0, args)
        _sums_by_products(0, 0, sums, more, ahead)


@inner
def _sums_with_z(i, to, sums, more, at, ahead):
    sums_of_few(i, to, sums, more, at, ahead)


@inner
def _sums_with_bits(i, to, sums, more, at, ahead):
    if WIDE and sums.D.cols <= FEW:
        sums_of_few(i, to, sums, more, at, ahead)
        return
    if ADDERS:
        _sums_beside(i, to, sums, more, at, ahead)
        return
    if WIDE:
        _sums_by_masks(to, gates_of(i, sums.first, sums.rx.rows, ahead), sums, more)
    else:
        _sums_by_products(i, to, sums, more, ahead)
    if at >= 0:
        forward_through(at, ahead)


def sum_drifts(i, to, sums, more, at, ahead):
    """Put the drifts of tile i into D from row `to` on, added, if asked, to what is there.

    Meanwhile a pass forward goes through tile `at`, unless that is negative: all samples must be in r x then.
    """


@overload(sum_drifts, inline="always")
def _sum_by_type(i, to, sums, more, at, ahead):
    if ahead.types[-1].gates:
        return lambda i, to, sums, more, at, ahead: _sums_with_bits(i, to, sums, more, at, ahead)
    return lambda i, to, sums, more, at, ahead: _sums_with_z(i, to, sums, more, at, ahead)


@inline
def drifts(r, room, ahead):
    """All of D, from residuals and the gates of a pass forward."""
    span = room.rx.shape[0]
    for first in range(0, r.cols, span):
        sums = sums_of(room, first, min(first + span, r.cols))
        sum_first(r, sums, first > 0, ahead)
        for i in range(TILE, ahead.W.rows, TILE):
            sum_drifts(i, i, sums, first > 0, -1, ahead)
