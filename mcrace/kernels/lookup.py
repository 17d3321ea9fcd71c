"""Operations across lanes, for kernels whose lanes are neurons of one network: sums, and gates as indices of tables.

S samples (4 in float32, 3 in float64) have 2**S subsets, as many as a vector has lanes.  So a vector can hold the sum
over every subset, and a gate pattern, read as a number, looks its own up by a permute (the Four Russians' method).
"""

from __future__ import annotations

import os

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from mcrace.kernels.tiles import (
    BIT,
    INT,
    WHOLE,
    Tile,
    build,
    call,
    constant,
    elementwise,
    entries,
    need_literal,
)


def _narrow() -> bool:
    """Whether the processor permutes at most 32 bytes at a time: no bit depends on it, only which permutes are built."""
    if os.environ.get("NUMBA_CPU_NAME"):
        return True
    return not binding.get_host_cpu_features().get("avx512f", False)


def _shuffled(builder, x, order):
    return builder.shuffle_vector(x, x, ir.Constant(ir.VectorType(INT, len(order)), order))


def _total(builder, tile, x):
    by = tile.lanes // 2
    while by:
        x = builder.fadd(x, _shuffled(builder, x, [(n + by) % tile.lanes for n in range(tile.lanes)]))
        by //= 2
    return x


def _permute(builder, table, index):
    """table[index] lane by lane, in the form that LLVM takes for a permute."""
    lanes, whole = table.type.count, index.type.element
    index = builder.and_(index, constant(ir.VectorType(whole, lanes), lanes - 1))
    out = ir.Constant(table.type, ir.Undefined)
    for n in range(lanes):
        entry = builder.extract_element(table, builder.extract_element(index, INT(n)))
        out = builder.insert_element(out, entry, INT(n))
    return out


def _permute_pairs(builder, table, index):
    """Four doubles permuted as eight floats, which is what a narrow machine can do."""
    integers = ir.VectorType(ir.IntType(64), 4)
    doubled = builder.add(builder.shl(index, constant(integers, 33)), constant(integers, 1 << 32))
    pairs = builder.bitcast(builder.or_(builder.shl(index, constant(integers, 1)), doubled), ir.VectorType(INT, 8))
    return builder.bitcast(_permute(builder, builder.bitcast(table, ir.VectorType(ir.FloatType(), 8)), pairs), table.type)


def _look(builder, tile, table, index):
    if not _narrow():
        return _permute(builder, table, index)
    half = tile.lanes // 2
    integers = ir.VectorType(index.type.element, half)
    permute = _permute if tile.dtype.bitwidth == 32 else _permute_pairs
    low, high = (_shuffled(builder, table, list(range(start, start + half))) for start in (0, half))
    out = []
    for start in (0, half):
        part = _shuffled(builder, index, list(range(start, start + half)))
        upper = builder.icmp_signed("!=", builder.and_(part, constant(integers, half)), constant(integers, 0))
        inner = builder.and_(part, constant(integers, half - 1))
        out.append(builder.select(upper, permute(builder, high, inner), permute(builder, low, inner)))
    order = ir.Constant(ir.VectorType(INT, tile.lanes), list(range(tile.lanes)))
    return builder.shuffle_vector(*out, order)


across = elementwise(_total, 1)  # the sum of all lanes, in every lane
look = elementwise(_look, 2)  # look(table, index): in each lane, the entry of the table that its index names


@intrinsic
def plus(context, a, b, one):
    """a + b; every other column as a + b*one, which LLVM cannot simplify: processors add and multiply side by side."""

    def codegen(context, builder, sig, values):
        x, y, unit = (entries(context, builder, t, v, a) for t, v in zip(sig.args, values))

        def entry(r, c):
            if c % 2:
                return call(builder, a, "fma", y(r, c), unit(r, c), x(r, c))
            return builder.fadd(x(r, c), y(r, c))

        return build(builder, a, entry)

    return a(a, b, one), codegen


@intrinsic
def depth(context, matrix):
    """S, how many binary digits number the lanes: a literal size."""
    count = types.literal(matrix.lanes.bit_length() - 1)
    return count(matrix), lambda context, *_: context.get_constant(types.intp, count.literal_value)


@intrinsic
def number(context, bits):
    """The whole numbers with these binary digits: the first column is worth 1, the next 2."""
    out = bits.shaped(bits.rows, 1, WHOLE[bits.lanes])

    def codegen(context, builder, sig, values):
        get, zero = entries(context, builder, bits, values[0], bits), constant(out.vector, 0)

        def entry(r, _):
            value = zero
            for c in range(bits.cols):
                value = builder.or_(value, builder.select(get(r, c), constant(out.vector, 1 << c), zero))
            return value

        return build(builder, out, entry)

    return out(bits), codegen


@intrinsic(prefer_literal=True)
def digits(context, matrix, count):
    """The binary digits of the lanes' numbers, one a row: number(digits.T) is 0, 1, 2, ..."""
    need_literal((matrix, count), 1)
    tile = Tile(BIT, matrix.lanes, count.literal_value, 1)
    rows = [ir.Constant(tile.vector, [lane >> r & 1 for lane in range(tile.lanes)]) for r in range(tile.rows)]
    return tile(matrix, count), lambda context, builder, *_: build(builder, tile, lambda r, c: rows[r])
