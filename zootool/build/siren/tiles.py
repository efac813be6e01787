"""Tiles: tuples of lanes that stay in registers while a loop runs. Like `lanes`, for Numba-compiled code alone.

A tile of a product has eight rows of one or two vectors, row by row; a column of vectors has any number. Rows lie
`stride` numbers apart in a flat array.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from zootool.build.siren.lanes import (
    INDEX,
    INT_VECTOR,
    LANES,
    NUM_LANES,
    fma_vectors,
    load_vector,
    number_pointer,
    operation,
    splat_number,
    vector_pointer,
)

TILE_ROWS = 8


@operation
def load_tile(_, tile, array, start, stride):
    """A tile of the shape of `tile`, from array[start + row * stride :]."""
    size = len(tile)

    def generate(context, builder, signature, arguments):
        _, array, start, stride = arguments
        pointers = _tile_pointers(context, builder, signature.args[1], array, start, stride, size)
        return context.make_tuple(builder, tile, [load_vector(builder, pointer) for pointer in pointers])

    return tile(tile, array, types.intp, types.intp), generate


@operation
def store_tile(_, tile, array, start, stride):
    """Put a tile's rows into array[start + row * stride :]."""
    size = len(tile)

    def generate(context, builder, signature, arguments):
        tile, array, start, stride = arguments
        pointers = _tile_pointers(context, builder, signature.args[1], array, start, stride, size)
        for vector, pointer in zip(cgutils.unpack_tuple(builder, tile, size), pointers, strict=True):
            builder.store(vector, pointer, align=4)
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp), generate


@operation
def fma_outer(_, tile, array, start, stride, columns):
    """The tile plus an outer product: tile[row, v] + array[start + row * stride] * columns[v]."""
    size, width = len(tile), len(columns)

    def generate(context, builder, signature, arguments):
        values, array, index, stride, columns = arguments
        vectors = cgutils.unpack_tuple(builder, values, size)
        columns = cgutils.unpack_tuple(builder, columns, width)
        result = []
        for row in range(size // width):
            number = builder.load(number_pointer(context, builder, signature.args[1], array, index))
            factor = splat_number(builder, number)
            result += [fma_vectors(builder, factor, columns[v], vectors[row * width + v]) for v in range(width)]
            index = builder.add(index, stride)
        return context.make_tuple(builder, tile, result)

    return tile(tile, array, types.intp, types.intp, columns), generate


@operation
def fma_rows(_, tile, array, start, stride, factors):
    """A column plus scaled rows: tile[row] + array[start + row * stride :] * factors."""
    size = len(tile)

    def generate(context, builder, signature, arguments):
        values, array, index, stride, factors = arguments
        result = []
        for vector in cgutils.unpack_tuple(builder, values, size):
            row = load_vector(builder, vector_pointer(context, builder, signature.args[1], array, index))
            result.append(fma_vectors(builder, row, factors, vector))
            index = builder.add(index, stride)
        return context.make_tuple(builder, tile, result)

    return tile(tile, array, types.intp, types.intp, LANES), generate


@operation
def fma_weighted_rows(_, tile, array, start, stride, weights, first):
    """A column plus weighted rows: tile[row] + array[start + row * stride :] * weights[first + row]."""
    size = len(tile)

    def generate(context, builder, signature, arguments):
        values, array, index, stride, weights, place = arguments
        result = []
        for vector in cgutils.unpack_tuple(builder, values, size):
            row = load_vector(builder, vector_pointer(context, builder, signature.args[1], array, index))
            number = builder.load(number_pointer(context, builder, signature.args[4], weights, place))
            result.append(fma_vectors(builder, row, splat_number(builder, number), vector))
            index, place = builder.add(index, stride), builder.add(place, ir.Constant(INDEX, 1))
        return context.make_tuple(builder, tile, result)

    return tile(tile, array, types.intp, types.intp, weights, types.intp), generate


@operation
def add_up(_, tile):
    """The sum of a column's vectors (a power of two of them), by halves."""
    size = len(tile)

    def generate(context, builder, signature, arguments):
        vectors = cgutils.unpack_tuple(builder, arguments[0], size)
        while len(vectors) > 1:
            half = len(vectors) // 2
            vectors = [builder.fadd(vectors[i], vectors[i + half]) for i in range(half)]
        return vectors[0]

    return LANES(tile), generate


@operation
def sum_lanes(_, tile):
    """Lanes that hold the sums of a column's sixteen vectors: lane i is the sum over the lanes of tile[i]."""

    def generate(context, builder, signature, arguments):
        vectors = cgutils.unpack_tuple(builder, arguments[0], NUM_LANES)
        size = NUM_LANES // 2
        while size >= 1:
            half = len(vectors) // 2
            vectors = [_fold(builder, vectors[i], vectors[i + half], size) for i in range(half)]
            size //= 2
        return vectors[0]

    return LANES(tile), generate


def _fold(builder: Any, a: ir.Value, b: ir.Value, size: int) -> ir.Value:
    """In each group of 2 * size lanes: the group's halves added, those of `a` before those of `b`."""
    low, high = [], []
    for group in range(0, NUM_LANES, 2 * size):
        for source in (group, NUM_LANES + group):
            low += range(source, source + size)
            high += range(source + size, source + 2 * size)
    return builder.fadd(
        builder.shuffle_vector(a, b, ir.Constant(INT_VECTOR, low)),
        builder.shuffle_vector(a, b, ir.Constant(INT_VECTOR, high)),
    )


def _tile_pointers(
    context: Any, builder: Any, kind: types.Array, array: ir.Value, start: ir.Value, stride: ir.Value, size: int
) -> list[ir.Value]:
    pointers, row = [], start
    for _ in range(TILE_ROWS):
        for v in range(size // TILE_ROWS):
            index = builder.add(row, ir.Constant(INDEX, NUM_LANES * v))
            pointers.append(vector_pointer(context, builder, kind, array, index))
        row = builder.add(row, stride)
    return pointers
