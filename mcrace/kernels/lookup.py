"""Operations across lanes, for kernels whose lanes are samples of one network: sums, and gates as rows of tables.

A `GROUP` of samples has 2**GROUP subsets.  So a table can have a row for the sum over each of them, and the gates of a
neuron, which are the bits of a number, name its row: one addition then serves as many samples (the Four Russians' method).
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mcrace.kernels.registers import LONG
from mcrace.kernels.tiles import INT, addresses, build, elementwise, need_literal

GROUP = 4
ROWS = 1 << GROUP
FIELD = 16  # bits of a number that says where a row stands


def _shuffled(builder, x, order):
    return builder.shuffle_vector(x, x, ir.Constant(ir.VectorType(INT, len(order)), order))


def _total(builder, tile, x):
    by = tile.lanes // 2
    while by:
        x = builder.fadd(x, _shuffled(builder, x, [(n + by) % tile.lanes for n in range(tile.lanes)]))
        by //= 2
    return x


across = elementwise(_total, 1)  # the sum of all lanes, in every lane


@intrinsic(prefer_literal=True)
def look(context, u, table, start, places, i, q, pairs):
    """The tile u plus rows of tables for each row r of the tile, in order: two for each of some pairs of tables.

    places[i + r, q + p], of a shared matrix of int32, has two fields of `FIELD` bits, which say where the rows of pair p
    stand after the first ones of their tables, in vectors times `LONG`; the tables follow one another from row `start` on.
    """
    need_literal((u, table, start, places, i, q, pairs), 6)

    def codegen(context, builder, sig, values):
        row = addresses(context, builder, table, (values[1], values[2], values[2].type(0)))
        place = addresses(context, builder, places, values[3:6])
        out = {(r, c): builder.extract_value(values[0], r * u.cols + c) for r in range(u.rows) for c in range(u.cols)}
        first = builder.ptrtoint(row(0, 0), values[2].type)

        def found(field):
            far = builder.mul(builder.zext(field, first.type), first.type(u.cols))
            # Hidden from LLVM, which would leave this sum to every load: that takes two operations instead of one.
            hidden = ir.InlineAsm(ir.FunctionType(first.type, [first.type]), "", "=r,0")
            return builder.call(hidden, [builder.add(first, far)])

        for p in range(pairs.literal_value):
            fields = [builder.load(builder.bitcast(place(r, p), INT.as_pointer())) for r in range(u.rows)]
            for g in range(2):
                for r in range(u.rows):
                    field = builder.lshr(fields[r], INT(FIELD)) if g else builder.and_(fields[r], INT((1 << FIELD) - 1))
                    at = found(field)
                    for c in range(u.cols):
                        apart = builder.sub(builder.ptrtoint(row((2 * p + g) * ROWS, c), first.type), first)
                        value = builder.load(builder.inttoptr(builder.add(at, apart), u.vector.as_pointer()))
                        value.align = LONG
                        out[r, c] = builder.fadd(out[r, c], value)
        return build(builder, u, lambda r, c: out[r, c])

    return u(u, table, types.intp, places, types.intp, types.intp, pairs), codegen
