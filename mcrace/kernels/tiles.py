"""Register tiles: small arrays of literal shape that live in registers, every entry a vector with one lane a network.

`load` a tile from a matrix, compute with it as in NumPy (shapes broadcast), `store` it.  A matrix is a view of memory
with `rows`, `cols` and a free transpose `T`, of one of two kinds, where `start` counts entries:

    own(array, start, rows, cols)      an entry is a vector: every network its own number, or its own gate bit
    shared(array, start, rows, cols)   an entry is one number for all networks

Nothing here knows of layers.  No operation mixes lanes unless it says so, so no network can notice its neighbours.
This is the only module that builds LLVM code.  Vectors are as long as a register (`long_own` and `long_shared`: of 64 bytes,
which LLVM splits where registers are smaller).
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, errors
from numba.core.imputils import lower_getattr
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global
from numba.extending import intrinsic, lower_builtin, make_attribute_wrapper, models, register_model

from mcrace.compiled import INNER
from mcrace.kernels.registers import ADDERS, LONG, VECTOR, WIDE

BIT, INT = types.boolean, ir.IntType(32)
SCALAR = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), BIT: ir.IntType(1), types.int8: ir.IntType(8),
          types.uint8: ir.IntType(8), types.uint16: ir.IntType(16), types.int32: INT, types.int64: ir.IntType(64)}
GATED = {types.uint16: 16, types.uint8: 8, types.int8: 4}  # lanes of which an integer has a bit each, by its type

inline = njit(error_model="numpy", boundscheck=False, forceinline=True, **INNER)


# ------------------------------------------------------------------------------------------------- tiles


class Tile(types.Type):
    """rows x cols vectors of `lanes` numbers, as one LLVM aggregate (which becomes registers)."""

    def __init__(self, dtype, lanes, rows, cols):
        self.dtype, self.lanes, self.rows, self.cols = dtype, lanes, rows, cols
        super().__init__(f"Tile({dtype}x{lanes}, {rows}x{cols})")

    def shaped(self, rows, cols, dtype=None):
        return Tile(dtype or self.dtype, self.lanes, rows, cols)

    @property
    def vector(self):
        return ir.VectorType(SCALAR[self.dtype], self.lanes)

    @property
    def whole(self):
        """Vectors of integers as wide as the numbers."""
        return ir.VectorType(ir.IntType(self.dtype.bitwidth), self.lanes)


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, tile):
        super().__init__(manager, tile, ir.ArrayType(tile.vector, tile.rows * tile.cols))


def constant(vector, value):
    return ir.Constant(vector, [value] * vector.count)


def splat(builder, scalar, vector):
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT(0))
    return builder.shuffle_vector(first, first, constant(ir.VectorType(INT, vector.count), 0))


def entries(context, builder, typ, value, like):
    """A function (row, col) -> vector that broadcasts a tile, or a number, to any shape."""
    if not isinstance(typ, Tile):
        vector = splat(builder, context.cast(builder, value, typ, like.dtype), like.vector)
        return lambda r, c: vector
    return lambda r, c: builder.extract_value(value, r % typ.rows * typ.cols + c % typ.cols)


def build(builder, tile, entry):
    """The tile whose entries are entry(row, col)."""
    value = ir.Constant(ir.ArrayType(tile.vector, tile.rows * tile.cols), ir.Undefined)
    places = [(r, c) for r in range(tile.rows) for c in range(tile.cols)]
    if tile.cols > tile.rows:  # along the longer side, so that few entries of what is broadcast are held at once
        places.sort(key=lambda place: place[1])
    for r, c in places:
        value = builder.insert_value(value, entry(r, c), r * tile.cols + c)
    return value


def broadcast(args):
    tiles = [a for a in args if isinstance(a, Tile)]
    like = next((t for t in tiles if t.dtype != BIT), tiles[0])
    return like.shaped(max(t.rows for t in tiles), max(t.cols for t in tiles))


def _typed(emit, dtype, args):
    """Signature and code of an operation on the entries of tiles; None where no argument is a tile."""
    if not any(isinstance(a, Tile) for a in args):
        return None
    like = broadcast(args)
    out = like.shaped(like.rows, like.cols, dtype)

    def codegen(context, builder, sig, values):
        get = [entries(context, builder, t, v, like) for t, v in zip(sig.args, values)]
        return build(builder, out, lambda r, c: emit(builder, like, *[g(r, c) for g in get]))

    return out(*args), codegen


def elementwise(emit, arity, dtype=None):
    """A tile operation from one on vectors: emit(builder, tile, *vectors) -> vector."""
    if arity == 1:
        return intrinsic(lambda context, a: _typed(emit, dtype, (a,)))
    if arity == 2:
        return intrinsic(lambda context, a, b: _typed(emit, dtype, (a, b)))
    return intrinsic(lambda context, a, b, c: _typed(emit, dtype, (a, b, c)))


def call(builder, tile, name, *vectors):
    """An LLVM intrinsic function on vectors."""
    kind = ir.FunctionType(tile.vector, [tile.vector] * len(vectors))
    name = f"llvm.{name}.v{tile.lanes}f{tile.dtype.bitwidth}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), vectors)


def llvm(name, arity):
    return elementwise(lambda builder, tile, *vectors: call(builder, tile, name, *vectors), arity)


fma = llvm("fma", 3)  # a*b + c, rounded once
root = llvm("sqrt", 1)
rint = llvm("rint", 1)
size = llvm("fabs", 1)
where = elementwise(lambda b, t, on, x, y: b.select(on, x, y), 3)


def _operator(symbol, emit, dtype):
    """Define a Python operator; other than with `overload`, no function of its own is compiled for it."""

    class Operator(AbstractTemplate):
        def generic(self, args, kws):
            found = _typed(emit, dtype, args)
            return found and found[0]

    def lowered(context, builder, sig, values):
        return _typed(emit, dtype, sig.args)[1](context, builder, sig, values)

    infer_global(symbol)(Operator)
    for pair in (Tile, Tile), (Tile, types.Number), (types.Number, Tile):
        lower_builtin(symbol, *pair)(lowered)


for _symbol, _emit, _dtype in (
    (operator.add, lambda b, t, x, y: b.fadd(x, y), None),
    (operator.sub, lambda b, t, x, y: b.fsub(x, y), None),
    (operator.mul, lambda b, t, x, y: b.fmul(x, y), None),
    (operator.truediv, lambda b, t, x, y: b.fdiv(x, y), None),
    (operator.gt, lambda b, t, x, y: b.fcmp_ordered(">", x, y), BIT),
    (operator.lt, lambda b, t, x, y: b.fcmp_ordered("<", x, y), BIT),
    (operator.le, lambda b, t, x, y: b.fcmp_ordered("<=", x, y), BIT),
):
    _operator(_symbol, _emit, _dtype)


def _is_on(builder, tile, x):
    return builder.fcmp_unordered(">", x, constant(tile.vector, 0.0))


gate = elementwise(_is_on, 1, BIT)  # x > 0, and a NaN is on, so that it stays a NaN


def _rectified(builder, tile, x):
    zero = constant(tile.vector, 0.0)
    return builder.select(builder.fcmp_ordered(">", zero, x), zero, x)


relu = elementwise(_rectified, 1)  # one operation; a NaN stays a NaN


def _summed(builder, out, wide, x, y, start=None):
    """Products of entries, summed in order along the axes where `out` has size 1, from `start` or from the first on."""
    total = {}
    for r in range(wide.rows):
        for k in range(wide.cols):
            at = r % out.rows, k % out.cols
            before = total.get(at) or (start and start(r, k))
            total[at] = call(builder, out, "fma", x(r, k), y(r, k), before) if before else builder.fmul(x(r, k), y(r, k))
    return build(builder, out, lambda r, k: total[r, k])


@intrinsic
def dot(context, a, b, c):
    """c plus the products a*b summed, in order, along the axes where c has size 1."""
    wide = broadcast((a, b))

    def codegen(context, builder, sig, values):
        x, y, start = (entries(context, builder, t, v, wide) for t, v in zip((a, b, c), values))
        return _summed(builder, c, wide, x, y, start)

    return c(a, b, c), codegen


@intrinsic
def dots(context, a, b):
    """The products a*b summed, in order, along the columns, from the first on."""
    wide = broadcast((a, b))
    out = wide.shaped(wide.rows, 1)

    def codegen(context, builder, sig, values):
        x, y = (entries(context, builder, t, v, wide) for t, v in zip((a, b), values))
        return _summed(builder, out, wide, x, y)

    return out(a, b), codegen


@intrinsic(prefer_literal=True)
def row(context, tile, r):
    """One row of a tile."""
    need_literal((tile, r), 1)
    out = tile.shaped(1, tile.cols)

    def codegen(context, builder, sig, values):
        get = entries(context, builder, tile, values[0], tile)
        return build(builder, out, lambda _, c: get(r.literal_value, c))

    return out(tile, r), codegen


def _attribute(kind, name, typed, lowered):
    """Define an attribute of tiles or matrices from typed(type) and lowered(context, builder, type, value)."""
    infer_getattr(type("Attribute", (AttributeTemplate,), {"key": kind, "resolve_" + name: lambda self, value: typed(value)}))
    lower_getattr(kind, name)(lowered)


def _transposed(context, builder, tile, value):
    get = entries(context, builder, tile, value, tile)
    return build(builder, tile.shaped(tile.cols, tile.rows), lambda r, c: get(c, r))


_attribute(Tile, "T", lambda tile: tile.shaped(tile.cols, tile.rows), _transposed)
_attribute(Tile, "bits", lambda tile: types.literal(tile.dtype.bitwidth), lambda context, *_: context.get_dummy_value())


# ------------------------------------------------------------------------------------------------- lanes as bits


def lanes_of(builder, bits, matrix):
    """A vector of truths, one a lane of the matrix, from the bits of an integer."""
    if WIDE:
        return builder.bitcast(bits, ir.VectorType(SCALAR[BIT], matrix.lanes))
    # Without mask registers a truth is as wide as a number, and LLVM's own way there is by bytes.
    whole = ir.VectorType(ir.IntType(matrix.vector * 8 // matrix.lanes), matrix.lanes)
    each = ir.Constant(whole, [1 << lane for lane in range(matrix.lanes)])
    spread = splat(builder, bits, ir.VectorType(bits.type, matrix.vector * 8 // bits.type.width))
    return builder.icmp_unsigned("!=", builder.and_(builder.bitcast(spread, whole), each), constant(whole, 0))


def bits_of(builder, truths, integer):
    """An integer from a vector of truths, lane 0 its lowest bit."""
    packed = builder.bitcast(truths, ir.IntType(truths.type.count))
    return packed if packed.type == integer else builder.zext(packed, integer)


@intrinsic
def lane_bits(context, tile):
    """The bits of a 1x1 tile of truths as one integer, lane 0 the lowest."""

    def codegen(context, builder, sig, values):
        return bits_of(builder, builder.extract_value(values[0], 0), ir.IntType(64))

    return types.int64(tile), codegen


@intrinsic
def lanes_on(context, matrix, bits):
    """The 1x1 tile of truths, one a lane of the matrix, whose bits are an integer's."""
    out = Tile(BIT, matrix.lanes, 1, 1)

    def codegen(context, builder, sig, values):
        bits = ir.IntType(matrix.lanes if WIDE else max(8, matrix.lanes))
        vector = lanes_of(builder, builder.trunc(values[1], bits), matrix)
        return build(builder, out, lambda r, c: vector)

    return out(matrix, types.int64), codegen


# ------------------------------------------------------------------------------------------------- matrices


class Matrix(types.Type):
    """A view of memory, row after row, or column after column where it is `flipped`: that is known when kernels are
    compiled, for addresses with a constant part are worked out by the loads themselves.

    `own` entries are vectors (or a gate bit a lane), `shared` ones are numbers.
    """

    def __init__(self, dtype, own, vector, flipped=False):
        self.dtype, self.own, self.vector, self.flipped = dtype, own, vector, flipped
        self.gates = dtype in GATED
        self.lanes = GATED[dtype] if self.gates else vector * 8 // dtype.bitwidth
        self.step = dtype.bitwidth // 8 * (self.lanes if own and not self.gates else 1)
        super().__init__(f"Matrix({dtype}, own={own}, {vector} bytes, flipped={flipped})")

    def tile(self, *sizes):
        rows, cols = (s.literal_value for s in sizes)
        return Tile(BIT if self.gates else self.dtype, self.lanes, rows, cols)

    @property
    def transposed(self):
        return Matrix(self.dtype, self.own, self.vector, not self.flipped)


@register_model(Matrix)
class _MatrixModel(models.StructModel):
    def __init__(self, manager, matrix):
        intp = types.intp  # `stride`: bytes from one row, or column, to the next
        super().__init__(manager, matrix, [("data", types.voidptr), ("rows", intp), ("cols", intp), ("stride", intp)])


for _name in "rows", "cols":
    make_attribute_wrapper(Matrix, _name, _name)


def _viewer(is_own, vector):
    @intrinsic
    def view(context, array, start, rows, cols):
        matrix = Matrix(array.dtype, is_own, vector)

        def codegen(context, builder, sig, values):
            out = cgutils.create_struct_proxy(matrix)(context, builder)
            data = builder.bitcast(context.make_array(array)(context, builder, values[0]).data, cgutils.voidptr_t)
            step = values[1].type(matrix.step)
            out.data = builder.gep(data, [builder.mul(values[1], step)])
            out.rows, out.cols, out.stride = values[2], values[3], builder.mul(values[3], step)
            return out._getvalue()

        return matrix(array, types.intp, types.intp, types.intp), codegen

    return view


own, shared = _viewer(True, VECTOR), _viewer(False, VECTOR)
long_own, long_shared = _viewer(True, LONG), _viewer(False, LONG)


def _transpose(context, builder, matrix, value):
    a = cgutils.create_struct_proxy(matrix)(context, builder, value)
    out = cgutils.create_struct_proxy(matrix.transposed)(context, builder)
    out.data, out.rows, out.cols, out.stride = a.data, a.cols, a.rows, a.stride
    return out._getvalue()


_attribute(Matrix, "T", lambda matrix: matrix.transposed, _transpose)
_attribute(Matrix, "is_own", lambda matrix: types.literal(int(matrix.own)), lambda context, *_: context.get_dummy_value())


def addresses(context, builder, matrix, values):
    """A function (row, col) -> pointer to the entry [i+row, j+col]."""
    m = cgutils.create_struct_proxy(matrix)(context, builder, values[0])

    def moved(data, row, col):
        far, near = (col, row) if matrix.flipped else (row, col)
        data = builder.gep(data, [builder.mul(far, m.stride)])
        return builder.gep(data, [builder.mul(near, near.type(matrix.step))])

    start = moved(m.data, values[1], values[2])
    return lambda r, c: moved(start, values[1].type(r), values[1].type(c))


@intrinsic
def part(context, matrix, start, rows):
    """The rows start, start+1, ... of a matrix, as a matrix."""

    def codegen(context, builder, sig, values):
        a, out = (cgutils.create_struct_proxy(matrix)(context, builder, v) for v in (values[0], None))
        out.data = addresses(context, builder, matrix, (values[0], values[1], values[1].type(0)))(0, 0)
        out.rows, out.cols, out.stride = values[2], a.cols, a.stride
        return out._getvalue()

    return matrix(matrix, types.intp, types.intp), codegen


def need_literal(args, first):
    """Have Numba compile the caller anew, with literal sizes, if these are not."""
    loose = {n for n, a in enumerate(args) if n >= first and not isinstance(a, types.IntegerLiteral)}
    if loose:
        raise errors.ForceLiteralArg(loose)


def hidden(builder, value, register, number):
    """A value, in a kind of register, of which LLVM does not see where it is from: so loads are neither split nor joined."""
    kind = ir.FunctionType(value.type, [value.type, INT])
    return builder.call(ir.InlineAsm(kind, "", f"={register},0,i", False), [value, INT(number)], attrs=("readnone", "nounwind"))


def loaded(builder, matrix, place, kind):
    """What stands at a place of a matrix, as a number or a vector of some kind."""
    value = builder.load(builder.bitcast(place, kind.as_pointer()))
    value.align = matrix.dtype.bitwidth // 8
    return value


def gates_beside(builder, matrix, at, r, c, rows):
    """The gates at a place, from one load of as many that lie side by side as 32 bits hold: these load as quickly as one."""
    first = r // (32 // matrix.lanes) * (32 // matrix.lanes)
    count = min(32 // matrix.lanes, rows - first)
    bits = ir.IntType(count * matrix.lanes)
    vector = builder.bitcast(loaded(builder, matrix, at(first, c), bits), ir.VectorType(SCALAR[BIT], bits.width))
    if ADDERS and count > 1:
        vector = hidden(builder, vector, "k", first)
    lanes = ir.Constant(ir.VectorType(INT, matrix.lanes), [(r - first) * matrix.lanes + lane for lane in range(matrix.lanes)])
    return builder.shuffle_vector(vector, vector, lanes)


def numbers(builder, matrix, place, tile):
    """What stands at a place, as a vector."""
    if matrix.own:
        return loaded(builder, matrix, place, tile.vector)
    return splat(builder, loaded(builder, matrix, place, SCALAR[matrix.dtype]), tile.vector)


@intrinsic(prefer_literal=True)
def load(context, matrix, i, j, rows, cols):
    """The tile matrix[i:i+rows, j:j+cols]."""
    need_literal((matrix, i, j, rows, cols), 3)
    tile = matrix.tile(rows, cols)

    def codegen(context, builder, sig, values):
        at = addresses(context, builder, matrix, values)

        def entry(r, c):
            if matrix.gates and WIDE and matrix.flipped:
                return gates_beside(builder, matrix, at, r, c, tile.rows)
            if matrix.gates:
                return lanes_of(builder, loaded(builder, matrix, at(r, c), SCALAR[matrix.dtype]), matrix)
            return numbers(builder, matrix, at(r, c), tile)

        return build(builder, tile, entry)

    return tile(matrix, types.intp, types.intp, rows, cols), codegen


@intrinsic(prefer_literal=True)
def add_products(context, total, column, matrix, i, j, anew):
    """total + column * matrix[i, j:j+cols], the last `anew` shared numbers of it loaded for each product.

    To spread a number over a vector takes up a unit that multiplies or adds, but nothing where a multiplication does it.
    """
    need_literal((total, column, matrix, i, j, anew), 5)
    first = total.cols if matrix.own else total.cols - anew.literal_value

    def codegen(context, builder, sig, values):
        at = addresses(context, builder, matrix, values[2:])
        get, factor = entries(context, builder, total, values[0], total), entries(context, builder, column, values[1], total)
        once = [numbers(builder, matrix, at(0, c), total) for c in range(first)]

        def entry(r, c):
            x = once[c] if c < first else numbers(builder, matrix, hidden(builder, at(0, c), "r", r), total)
            return call(builder, total, "fma", factor(r, 0), x, get(r, c))

        return build(builder, total, entry)

    return total(total, column, matrix, types.intp, types.intp, anew), codegen


@intrinsic
def store(context, matrix, i, j, tile):
    """matrix[i:i+rows, j:j+cols] = tile; a shared matrix takes the number of lane 0."""
    memory = tile.vector if matrix.own and not matrix.gates else SCALAR[matrix.dtype]

    def codegen(context, builder, sig, values):
        at, get = addresses(context, builder, matrix, values), entries(context, builder, tile, values[3], tile)
        for r in range(tile.rows):
            for c in range(tile.cols):
                entry = get(r, c)
                if matrix.gates:
                    value = bits_of(builder, entry, memory)
                else:
                    value = entry if matrix.own else builder.extract_element(entry, INT(0))
                builder.store(value, builder.bitcast(at(r, c), memory.as_pointer())).align = matrix.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(matrix, types.intp, types.intp, tile), codegen


@intrinsic(prefer_literal=True)
def zeros(context, matrix, rows, cols):
    """A tile of zeros, of the numbers of a matrix."""
    need_literal((matrix, rows, cols), 1)
    tile = matrix.tile(rows, cols)
    nothing = ir.Constant(ir.ArrayType(tile.vector, rows.literal_value * cols.literal_value), None)
    return tile(matrix, rows, cols), lambda *_: nothing
