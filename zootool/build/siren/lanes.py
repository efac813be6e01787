"""Sixteen float32 numbers side by side, as a value that Numba code can compute with.

LLVM's own vectoriser can't keep a tile of a matrix product in registers, so the fitting kernel says what it wants: a
`float32x16` is one AVX-512 register, two AVX2 registers or four NEON registers, and each function here is one
instruction on it. Every operation is exactly rounded and every sum has a fixed order, so that the same program gives
the same bits on any processor.

The functions are for Numba-compiled code. Arrays are one-dimensional, contiguous float32; an index counts numbers and
is not checked.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

NUM_LANES = 16
TILE_ROWS = 8

_INT = ir.IntType(32)
_VECTOR = ir.VectorType(ir.FloatType(), NUM_LANES)
_INT_VECTOR = ir.VectorType(_INT, NUM_LANES)


class LanesType(types.Type):
    """The Numba type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{NUM_LANES}")


LANES = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: LanesType) -> None:
        super().__init__(manager, kind, _VECTOR)


@intrinsic
def load(_, array, index):
    """Lanes from array[index : index + 16]."""

    def generate(context, builder, signature, arguments):
        return _load(builder, _pointer(context, builder, signature.args[0], *arguments))

    return LANES(array, types.intp), generate


@intrinsic
def store(_, array, index, lanes):
    """Put lanes into array[index : index + 16]."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), generate


@intrinsic
def splat(_, number):
    """The same number in every lane."""

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0])

    return LANES(types.float32), generate


@intrinsic
def fma(_, a, b, c):
    """a * b + c, rounded once."""

    def generate(context, builder, signature, arguments):
        return _fma(builder, *arguments)

    return LANES(LANES, LANES, LANES), generate


@intrinsic
def sqrt(_, a):
    """The square root of every lane."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{NUM_LANES}f32")
        return builder.call(function, arguments)

    return LANES(LANES), generate


@intrinsic
def negate_where_odd(_, a, bits):
    """`a` with its sign turned in the lanes where the lowest bit of `bits` is set."""

    def generate(context, builder, signature, arguments):
        a, bits = (builder.bitcast(argument, _INT_VECTOR) for argument in arguments)
        sign = builder.shl(bits, ir.Constant(_INT_VECTOR, [31] * NUM_LANES))
        return builder.bitcast(builder.xor(a, sign), _VECTOR)

    return LANES(LANES, LANES), generate


@intrinsic
def load_tile(_, tile, array, start, stride):
    """A tile of the shape of `tile` from array[start + row * stride :]."""
    num_vectors = len(tile)

    def generate(context, builder, signature, arguments):
        _, array, start, stride = arguments
        loaded = []
        for index in _tile_indices(builder, start, stride, num_vectors):
            loaded.append(_load(builder, _pointer(context, builder, signature.args[1], array, index)))
        return context.make_tuple(builder, signature.return_type, loaded)

    return tile(tile, array, types.intp, types.intp), generate


@intrinsic
def store_tile(_, tile, array, start, stride):
    """Put the rows of a tile into array[start + row * stride :]."""
    num_vectors = len(tile)

    def generate(context, builder, signature, arguments):
        tile, array, start, stride = arguments
        lanes = cgutils.unpack_tuple(builder, tile, num_vectors)
        for value, index in zip(lanes, _tile_indices(builder, start, stride, num_vectors), strict=True):
            builder.store(value, _pointer(context, builder, signature.args[1], array, index), align=4)
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp), generate


@intrinsic
def fma_outer(_, tile, array, start, stride, columns):
    """The tile plus an outer product: tile[row, v] + array[start + row * stride] * columns[v]."""
    width = len(columns)
    num_rows = len(tile) // width

    def generate(context, builder, signature, arguments):
        tile, array, start, stride, columns = arguments
        lanes = cgutils.unpack_tuple(builder, tile, num_rows * width)
        columns = cgutils.unpack_tuple(builder, columns, width)
        index, result = start, []
        for row in range(num_rows):
            factor = _splat(builder, builder.load(_scalar_pointer(context, builder, signature.args[1], array, index)))
            result += [_fma(builder, factor, columns[v], lanes[row * width + v]) for v in range(width)]
            index = builder.add(index, stride)
        return context.make_tuple(builder, signature.return_type, result)

    return tile(tile, array, types.intp, types.intp, columns), generate


@intrinsic
def fma_rows(_, tile, array, start, stride, factors):
    """The tile plus scaled rows: tile[row] + array[start + row * stride :] * factors, one vector per row."""
    num_rows = len(tile)

    def generate(context, builder, signature, arguments):
        tile, array, start, stride, factors = arguments
        lanes = cgutils.unpack_tuple(builder, tile, num_rows)
        index, result = start, []
        for row in range(num_rows):
            value = _load(builder, _pointer(context, builder, signature.args[1], array, index))
            result.append(_fma(builder, value, factors, lanes[row]))
            index = builder.add(index, stride)
        return context.make_tuple(builder, signature.return_type, result)

    return tile(tile, array, types.intp, types.intp, LANES), generate


@intrinsic
def fma_weighted_rows(_, tile, array, start, stride, weights, first):
    """The tile plus weighted rows: tile[row] + array[start + row * stride :] * weights[first + row]."""
    num_rows = len(tile)

    def generate(context, builder, signature, arguments):
        tile, array, start, stride, weights, first = arguments
        lanes = cgutils.unpack_tuple(builder, tile, num_rows)
        index, result = start, []
        for row in range(num_rows):
            value = _load(builder, _pointer(context, builder, signature.args[1], array, index))
            position = builder.add(first, ir.Constant(first.type, row))
            weight = builder.load(_scalar_pointer(context, builder, signature.args[4], weights, position))
            result.append(_fma(builder, value, _splat(builder, weight), lanes[row]))
            index = builder.add(index, stride)
        return context.make_tuple(builder, signature.return_type, result)

    return tile(tile, array, types.intp, types.intp, weights, types.intp), generate


@intrinsic
def add_up(_, tile):
    """The sum of a tile's vectors (a power of two of them), by halves."""
    num_rows = len(tile)

    def generate(context, builder, signature, arguments):
        lanes = cgutils.unpack_tuple(builder, arguments[0], num_rows)
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [builder.fadd(lanes[i], lanes[i + half]) for i in range(half)]
        return lanes[0]

    return LANES(tile), generate


@intrinsic
def sum_lanes(_, tile):
    """Lanes that hold the sums of sixteen vectors: lane i is the sum over the lanes of tile[i]."""

    def generate(context, builder, signature, arguments):
        lanes = cgutils.unpack_tuple(builder, arguments[0], NUM_LANES)
        size = NUM_LANES // 2
        while size >= 1:
            half = len(lanes) // 2
            lanes = [_fold(builder, lanes[i], lanes[i + half], size) for i in range(half)]
            size //= 2
        return lanes[0]

    return LANES(tile), generate


def _fold(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, size: int) -> ir.Value:
    """In each group of 2 * size lanes: the group's halves added, those of `a` before those of `b`."""
    low, high = [], []
    for group in range(0, NUM_LANES, 2 * size):
        for source in (group, NUM_LANES + group):
            low += range(source, source + size)
            high += range(source + size, source + 2 * size)
    return builder.fadd(
        builder.shuffle_vector(a, b, ir.Constant(_INT_VECTOR, low)),
        builder.shuffle_vector(a, b, ir.Constant(_INT_VECTOR, high)),
    )


def _tile_indices(builder: ir.IRBuilder, start: ir.Value, stride: ir.Value, num_vectors: int) -> list[ir.Value]:
    indices, row, width = [], start, num_vectors // TILE_ROWS
    for _ in range(TILE_ROWS):
        indices += [builder.add(row, ir.Constant(row.type, NUM_LANES * v)) for v in range(width)]
        row = builder.add(row, stride)
    return indices


def _scalar_pointer(
    context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, index: ir.Value
) -> ir.Value:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def _pointer(context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, index: ir.Value) -> ir.Value:
    return builder.bitcast(_scalar_pointer(context, builder, kind, array, index), _VECTOR.as_pointer())


def _load(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    return builder.load(pointer, align=4)


def _splat(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_INT_VECTOR, [0] * NUM_LANES))


def _fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{NUM_LANES}f32")
    return builder.call(function, [a, b, c])


def _register_operator(symbol: Any, instruction: str) -> None:
    @intrinsic
    def apply(_, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        return LANES(LANES, LANES), generate

    @overload(symbol)
    def lanes_operator(a, b):
        return (lambda a, b: apply(a, b)) if a is LANES and b is LANES else None


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register_operator(_symbol, _instruction)
