"""Operations across lanes, for kernels whose lanes are samples of one network: sums, and gates as rows of tables.

`HALF` samples have 2**HALF subsets.  So a table can have a row for the sum over each of them, and the gates of a neuron,
which are the bits of a number, name its row: one addition then serves as many samples (the Four Russians' method).
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mcrace.kernels.tiles import INT, SCALAR, Tile, addresses, build, elementwise, need_literal

HALF = 4  # bits of a table's row: the gates of eight samples, a byte, name two
ROWS = 1 << HALF


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
def look(context, table, start, places, i, g, rows, cols):
    """The tile of rows of a table that stand so many bytes after row `start`: in row r, places[i + r, g], an own matrix."""
    need_literal((table, start, places, i, g, rows, cols), 5)
    tile = Tile(table.dtype, table.lanes, rows.literal_value, cols.literal_value)

    def codegen(context, builder, sig, values):
        place = addresses(context, builder, places, (values[2], values[3], values[4]))
        row = addresses(context, builder, table, (values[0], values[1], values[1].type(0)))
        after = [builder.zext(builder.load(builder.bitcast(place(r, 0), SCALAR[places.dtype].as_pointer())), values[1].type)
                 for r in range(tile.rows)]

        def entry(r, c):
            value = builder.load(builder.bitcast(builder.gep(row(0, c), [after[r]]), tile.vector.as_pointer()))
            value.align = table.dtype.bitwidth // 8
            return value

        return build(builder, tile, entry)

    return tile(table, types.intp, places, types.intp, types.intp, rows, cols), codegen
