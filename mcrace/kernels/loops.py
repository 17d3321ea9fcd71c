"""Loops over matrices in tiles of literal sizes, and the products that are made of them."""

from __future__ import annotations

from mcrace.kernels.registers import WIDE
from mcrace.kernels.tiles import fma, inline, load, store, zeros


@inline
def _by_five(body, count, carry, args):
    for k in range(0, count - 4, 5):
        carry = body(k, 5, carry, args)
    left = count % 5
    if left == 4:
        carry = body(count - 4, 4, carry, args)
    if left == 3:
        carry = body(count - 3, 3, carry, args)
    if left == 2:
        carry = body(count - 2, 2, carry, args)
    if left == 1:
        carry = body(count - 1, 1, carry, args)
    return carry


@inline
def sweep_threes(body, count, carry, args):
    """carry = body(start, size, carry, args) over 0..count, in threes and at most two twos; one alone as it is."""
    threes = count - 2 * ((3 - count % 3) % 3)
    for k in range(0, threes, 3):
        carry = body(k, 3, carry, args)
    for k in range(max(threes, 0), count - 1, 2):
        carry = body(k, 2, carry, args)
    if count == 1:
        carry = body(0, 1, carry, args)
    return carry


@inline
def sweep_fours(body, count, carry, args):
    """The same of at least two, in threes, with a four before them or a two after them where the threes do not go round."""
    first = 4 if count % 3 == 1 else 0
    if first:
        carry = body(0, 4, carry, args)
    for k in range(first, count - 2, 3):
        carry = body(k, 3, carry, args)
    if count % 3 == 2:
        carry = body(count - 2, 2, carry, args)
    return carry


# carry = body(start, size, carry, args) over 0..count in literal sizes, of which tiles with four rows fit the registers
sweep = _by_five if WIDE else sweep_threes


@inline
def _sixes(body, count, args):
    sixes = count - 4 * ((6 - count % 6) // 2 % 3)
    for k in range(0, sixes, 6):
        body(k, 6, args)
    for k in range(sixes, count, 4):
        body(k, 4, args)


@inline
def _threes(body, count, args):
    """body(start, size, args) over 0..count, at least two, in threes and at most two twos."""
    threes = count - 2 * ((3 - count % 3) % 3)
    for k in range(0, threes, 3):
        body(k, 3, args)
    for k in range(threes, count, 2):
        body(k, 2, args)


# body(start, size, args) over 0..count, a multiple of four, in as large sizes as there are of which tiles with four rows fit
# the registers
in_most = _sixes if WIDE else _threes


@inline
def product(A, i, rows, B, j, cols):
    """The tile A[i:i+rows] @ B[:, j:j+cols]."""
    c = zeros(A, rows, cols)
    for k in range(A.cols):
        c = fma(load(A, i, k, rows, 1), load(B, k, j, 1, cols), c)
    return c


@inline
def add_product(C, A, i, rows, B, j, cols):
    """C[i:i+rows, j:j+cols] += A[i:i+rows] @ B[:, j:j+cols], summed in order."""
    c = load(C, i, j, rows, cols)
    for k in range(A.cols):
        c = fma(load(A, i, k, rows, 1), load(B, k, j, 1, cols), c)
    store(C, i, j, c)
