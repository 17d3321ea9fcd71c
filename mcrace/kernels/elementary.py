"""Elementary functions of tiles, of our own: the same bits on every machine, and a NaN stays a NaN."""

from __future__ import annotations

import math

from mcrace.kernels.tiles import call, constant, elementwise, fma, inline, rint, root, size, where


def _power_of_two(builder, tile, x):
    mantissa, bias = {32: (23, 127), 64: (52, 1023)}[tile.dtype.bitwidth]
    biased = builder.add(builder.fptosi(x, tile.whole), constant(tile.whole, bias))
    return builder.bitcast(builder.shl(biased, constant(tile.whole, mantissa)), tile.vector)


def _polynomial(coefficients):
    """Horner's rule with fused multiply-adds, highest power first."""

    def emit(builder, tile, x):
        terms = coefficients[tile.dtype.bitwidth]
        total = constant(tile.vector, terms[0])
        for term in terms[1:]:
            total = call(builder, tile, "fma", total, x, constant(tile.vector, term))
        return total

    return elementwise(emit, 1)


def _taylor(terms):
    return [1 / math.factorial(k) for k in range(terms, -1, -1)]


def _atanh(terms):
    return [1 / (2 * k + 1) for k in range(terms, -1, -1)]


def _exponent(builder, tile, x):
    mantissa, bias = {32: (23, 127), 64: (52, 1023)}[tile.dtype.bitwidth]
    biased = builder.lshr(builder.bitcast(x, tile.whole), constant(tile.whole, mantissa))
    return builder.sitofp(builder.sub(biased, constant(tile.whole, bias)), tile.vector)


def _expm1(terms):
    return [1 / math.factorial(k + 1) for k in range(terms, -1, -1)]


def _arctan(terms):
    return [(-1) ** k / (2 * k + 1) for k in range(terms, -1, -1)]


_exp_near_0 = _polynomial({32: _taylor(7), 64: _taylor(13)})  # for |x| <= log(2)/2
_atanh_series = _polynomial({32: _atanh(6), 64: _atanh(15)})  # atanh(s)/s in s², for s <= 1/3
_expm1_series = _polynomial({32: _expm1(6), 64: _expm1(13)})  # (e**x - 1)/x for |x| <= 0.35
_arctan_series = _polynomial({32: _arctan(5), 64: _arctan(12)})  # arctan(q)/q in q², for q <= tan(π/16)
_exp2 = elementwise(_power_of_two, 1)  # 2**x for whole x
_log2_below = elementwise(_exponent, 1)  # the whole part of log2(x), for normal x > 0


@inline
def exp(x):
    """e**x, to 1 ulp; arguments beyond the range of the dtype are cut, so the result is finite."""
    limit = 87.0 if x.bits == 32 else 708.0
    x = where(x > limit, limit, where(-limit > x, -limit, x))
    n = rint(x * 1.4426950408889634)
    # log(2) in two parts, the first with few digits, so that n times it is exact
    if x.bits == 32:
        rest = fma(n, 2.1219444005469058e-4, fma(n, -0.693359375, x))
    else:
        rest = fma(n, -1.9082149292705877e-10, fma(n, -0.6931471803691238, x))
    return _exp_near_0(rest) * _exp2(n)


@inline
def softplus(x):
    """log(1 + e**x), to a few ulp over the whole range (log1p by a series in e/(2+e))."""
    e = exp(0 - size(x))
    s = e / (2 + e)
    return where(x < 0, 0, x) + 2 * s * _atanh_series(s * s)


@inline
def log(x):
    """log(x) for 1 <= x < 1e38, to an absolute error of a few ulp of 1; what is not finite stays so."""
    n = _log2_below(x / 0.75)  # so that what is left of x lies between 3/4 and 3/2, and n is 0 near x = 1
    rest = x * _exp2(0 - n)
    s = (rest - 1) / (rest + 1)
    value = fma(n, 0.6931471805599453, 2 * s * _atanh_series(s * s))
    return where(x < 1e38, value, x)


@inline
def tanh(x):
    """The hyperbolic tangent, to a few ulp over the whole range: near 0, e**(-2|x|) - 1 by a series of its own."""
    y = -2.0 * size(x)
    t = where(y > -0.35, y * _expm1_series(y), exp(y) - 1)
    t = (0 - t) / (2 + t)
    return where(x < 0, 0 - t, t)


@inline
def arctan(q):
    """arctan of 0 <= q <= 1, to a few ulp, from that of a quarter of the angle."""
    q = q / (1 + root(1 + q * q))
    q = q / (1 + root(1 + q * q))
    return 4 * (q * _arctan_series(q * q))
