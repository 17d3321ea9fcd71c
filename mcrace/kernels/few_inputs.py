"""One hidden layer of at most `FEW` inputs: the weights of some neurons stay in registers over all samples.

Which neurons are on is kept as bits or by z; kernels know by its type which of the two.
"""

from __future__ import annotations

from numba.extending import overload

from mcrace.kernels.one_layer import TILE, gates_of, start
from mcrace.kernels.registers import ADDERS, WIDE
from mcrace.kernels.tiles import dot, dots, fma, gate, inline, load, relu, store, where, zeros

ROWS = 4 if WIDE else 2  # neurons whose weights fit the registers, of one or two inputs; of three inputs it is two


def note_on(on, a, n, h):
    """Note at on[a:, n:] where neurons are on, from their h."""


@overload(note_on, inline="always")
def _note_on(on, a, n, h):
    return (lambda on, a, n, h: store(on, a, n, gate(h))) if on.gates else (lambda on, a, n, h: store(on, a, n, h))


def is_on(on, a, n, R):
    """Where R neurons are on at a sample."""


@overload(is_on, inline="always", prefer_literal=True)
def _is_on(on, a, n, R):
    if on.gates:
        return lambda on, a, n, R: load(on, a, n, R, 1)
    return lambda on, a, n, R: gate(load(on, a, n, R, 1))


@inline
def _outputs(w, out, a, n, K, R, on, ahead):
    h = dots(w, load(ahead.X, n, 0, 1, K))
    note_on(on, a, n, h)
    store(ahead.f, 0, n, dot(out, relu(h), load(ahead.f, 0, n, 1, 1)))


@inline
def _forward(K, R, i, ahead):
    on = gates_of(i, 0, ahead.f.cols, ahead)
    for a in range(0, TILE, R):
        w, out = load(ahead.W, i + a, 0, R, K), load(ahead.v, i + a, 0, R, 1)
        for n in range(ahead.f.cols):
            _outputs(w, out, a, n, K, R, on, ahead)


@inline
def forward_of_few(i, ahead):
    if ahead.W.cols == 1:
        _forward(1, ROWS, i, ahead)
    elif ahead.W.cols == 2:
        _forward(2, ROWS, i, ahead)
    else:
        _forward(3, 2, i, ahead)


@inline
def add_if(u, on, one, x):
    return where(on, u + x, u) if WIDE else fma(where(on, one, 0), x, u)


@inline
def _sums(K, R, i, to, sums, more, at, ahead):
    on, new = gates_of(i, sums.first, sums.rx.rows, ahead), gates_of(at, 0, ahead.f.cols, ahead)
    one = zeros(sums.D, 1, 1) + 1
    for a in range(0, TILE, R):
        u = start(sums, to + a, 0, K, R, more)
        if ADDERS and at >= 0:
            w, out = load(ahead.W, at + a, 0, R, K), load(ahead.v, at + a, 0, R, 1)
            for n in range(sums.rx.rows):
                u = add_if(u, is_on(on, a, n, R), one, load(sums.rx, n, 0, 1, K))
                _outputs(w, out, a, n, K, R, new, ahead)
        else:
            for n in range(sums.rx.rows):
                u = add_if(u, is_on(on, a, n, R), one, load(sums.rx, n, 0, 1, K))
        store(sums.D, to + a, 0, u)
    if not ADDERS and at >= 0:
        forward_of_few(at, ahead)


@inline
def sums_of_few(i, to, sums, more, at, ahead):
    if sums.D.cols == 1:
        _sums(1, TILE, i, to, sums, more, at, ahead)
    elif sums.D.cols == 2:
        _sums(2, TILE, i, to, sums, more, at, ahead)
    else:
        _sums(3, 2, i, to, sums, more, at, ahead)
