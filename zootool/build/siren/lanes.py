"""Sixteen float32 numbers side by side, as a value that Numba code can compute with, and tiles of such values.

LLVM's own vectoriser can't keep a tile of a matrix product in registers, so the kernels say what they want: the type
`float32x16` is one AVX-512 register, two of AVX2 or four of NEON, and each operation here is one instruction on it.
Every operation is rounded as IEEE 754 says and every sum has a fixed order, so that a program gives the same bits on
any processor. (One without fused multiply-add is slow, as it computes `fma` in software.)

A tile is a tuple of lanes that stays in registers while a loop runs. That of a product has eight rows of one or two
vectors, row by row: sixteen sums that don't wait for each other keep both multipliers busy through their latency, and
leave AVX-512 half of its registers for what is multiplied. A column of vectors has any number.

Operations are for Numba-compiled code alone. Arrays are flat and contiguous, of float32; an index counts numbers, and
nobody checks it, nor that it is aligned to more than a number. Rows of a tile lie `stride` numbers apart.
"""

import operator
from collections.abc import Callable
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

NUM_LANES = 16
TILE_ROWS = 8

INT = ir.IntType(32)
INDEX = ir.IntType(tuple.__itemsize__ * 8)
VECTOR = ir.VectorType(ir.FloatType(), NUM_LANES)
INT_VECTOR = ir.VectorType(INT, NUM_LANES)

Lanes = Any
"""In signatures of compiled functions: sixteen lanes."""

Function = TypeVar("Function", bound=Callable[..., Any])

operation: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic
"""Makes an operation for compiled code from a function of its arguments' types (after the typing context)."""


class LanesType(types.Type):
    """The Numba type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{NUM_LANES}")


LANES = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: LanesType) -> None:
        super().__init__(manager, kind, VECTOR)


def jit(function: Function) -> Function:
    """Compile a function for other compiled code; division and square roots follow IEEE 754 and raise nothing."""
    # Wrappers for calls from Python and C are half of the compile time, and nobody calls these from there.
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(Function, njit(nogil=True, error_model="numpy", **options)(function))


def compile_kept(function: Callable[..., Any], digest: str) -> Callable[..., Any]:
    """Compile an entry for Python when it is first called on a machine, and keep it on disk for the next processes.

    Numba knows kept code by the entry's name and bytes alone, so `digest`, that of all files which it calls, goes into
    the name: what other versions of these files left isn't even opened, since it may name modules that are gone.
    """
    function.__qualname__ += f".{digest[:16]}"
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return njit(nogil=True, error_model="numpy")(function)


def source_digest(*folders: Path) -> str:
    """The digest of all Python files in these folders, and of their names."""
    paths = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return sha256(b"".join(path.name.encode() + path.read_bytes() for path in paths)).hexdigest()


def typed(number: int) -> int:
    """A constant for compiled code; Numba compiles a function anew for each plain int that it is called with."""
    return cast(int, np.int64(number))


def lanewise(generate: Callable[..., ir.Value]) -> Callable[..., Any]:
    """Make an operation from lanes to lanes from a function that takes an IR builder and its arguments' values."""

    @wraps(generate)  # Numba reads the parameters' names there: the first it takes for the typing context
    def define(_: Any, *kinds: types.Type) -> Any:
        return LANES(*[LANES] * len(kinds)), lambda context, builder, signature, values: generate(builder, *values)

    return intrinsic(define)


@operation
def load(_, array, index):
    """Lanes from array[index : index + 16]."""

    def generate(context, builder, signature, arguments):
        return builder.load(vector_pointer(context, builder, signature.args[0], *arguments), align=4)

    return LANES(array, types.intp), generate


@operation
def store(_, array, index, lanes):
    """Put lanes into array[index : index + 16]."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], vector_pointer(context, builder, signature.args[0], *arguments[:2]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@operation
def splat(_, number):
    """The same number in every lane."""

    def generate(context, builder, signature, arguments):
        return splat_number(builder, *arguments)

    return LANES(types.float32), generate


@lanewise
def fma(builder, a, b, c):
    """a * b + c, rounded once."""
    return fma_vectors(builder, a, b, c)


@lanewise
def sqrt(builder, a):
    """The square root of every lane."""
    return _call(builder, "sqrt", (a,))


@lanewise
def negate_where_odd(builder, a, bits):
    """`a` with its sign turned in the lanes where the lowest bit of `bits` is set."""
    a, bits = (builder.bitcast(argument, INT_VECTOR) for argument in (a, bits))
    sign = builder.shl(bits, ir.Constant(INT_VECTOR, [31] * NUM_LANES))
    return builder.bitcast(builder.xor(a, sign), VECTOR)


@operation
def total(_, a):
    """The sum of the lanes, by halves."""

    def generate(context, builder, signature, arguments):
        (lanes,) = arguments
        size = NUM_LANES // 2
        while size >= 1:
            turned = ir.Constant(INT_VECTOR, [(lane + size) % NUM_LANES for lane in range(NUM_LANES)])
            lanes = builder.fadd(lanes, builder.shuffle_vector(lanes, lanes, turned))
            size //= 2
        return builder.extract_element(lanes, ir.Constant(INT, 0))

    return types.float32(LANES), generate


@operation
def load_tile(_, tile, array, start, stride):
    """A tile of the shape of `tile`, from array[start + row * stride :]."""
    size = len(tile)

    def generate(context, builder, signature, arguments):
        _, array, start, stride = arguments
        pointers = _tile_pointers(context, builder, signature.args[1], array, start, stride, size)
        return context.make_tuple(builder, tile, [builder.load(pointer, align=4) for pointer in pointers])

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
            row = builder.load(vector_pointer(context, builder, signature.args[1], array, index), align=4)
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
            row = builder.load(vector_pointer(context, builder, signature.args[1], array, index), align=4)
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


def number_pointer(context: Any, builder: Any, kind: types.Array, array: ir.Value, index: ir.Value) -> ir.Value:
    """IR for the address of array[index]."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def vector_pointer(context: Any, builder: Any, kind: types.Array, array: ir.Value, index: ir.Value) -> ir.Value:
    """IR for the address of the lanes that begin at array[index]."""
    return builder.bitcast(number_pointer(context, builder, kind, array, index), VECTOR.as_pointer())


def splat_number(builder: Any, number: ir.Value) -> ir.Value:
    """IR for `number` in every lane."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(INT_VECTOR, [0] * NUM_LANES))


def fma_vectors(builder: Any, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """IR for a * b + c, rounded once."""
    return _call(builder, "fma", (a, b, c))


def _call(builder: Any, name: str, arguments: Any) -> ir.Value:
    kind = ir.FunctionType(VECTOR, [VECTOR] * len(arguments))
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{NUM_LANES}f32")
    return builder.call(function, arguments)


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


def _register_operator(symbol: Callable[..., Any], instruction: str) -> None:
    @lanewise
    def apply(builder, a, b):
        return getattr(builder, instruction)(a, b)

    @overload(symbol)
    def between_lanes(a, b):
        return (lambda a, b: apply(a, b)) if a is LANES and b is LANES else None


_register_operator(operator.add, "fadd")
_register_operator(operator.sub, "fsub")
_register_operator(operator.mul, "fmul")
_register_operator(operator.truediv, "fdiv")
