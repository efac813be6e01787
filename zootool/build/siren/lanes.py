"""Sixteen float32 numbers side by side, as a value that Numba code can compute with.

LLVM's own vectoriser can't keep a tile of a matrix product in registers, so the fitting kernel says what it wants: the
type `float32x16` is one AVX-512 register, two of AVX2 or four of NEON, and each operation here is one instruction on
it. Every operation is rounded as IEEE 754 says and every sum has a fixed order, so that a program gives the same bits
on any processor. (One without fused multiply-add is slow, as it computes `fma` in software.)

Operations are for Numba-compiled code alone. Arrays are flat and contiguous, of float32; an index counts numbers, and
nobody checks it.
"""

import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

NUM_LANES = 16

INT = ir.IntType(32)
INDEX = ir.IntType(tuple.__itemsize__ * 8)
VECTOR = ir.VectorType(ir.FloatType(), NUM_LANES)
INT_VECTOR = ir.VectorType(INT, NUM_LANES)

Lanes = Any
"""In signatures of compiled functions: sixteen lanes."""

Function = TypeVar("Function", bound=Callable[..., Any])


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


def typed(number: int) -> int:
    """A constant for compiled code; Numba compiles a function anew for each plain int that it is called with."""
    return cast(int, np.int64(number))


def operation(define: Callable[..., Any]) -> Callable[..., Any]:
    """Make an operation for compiled code from a function of its arguments' types (after the typing context)."""
    return intrinsic(define)


@operation
def load(_, array, index):
    """Lanes from array[index : index + 16]."""

    def generate(context, builder, signature, arguments):
        return load_vector(builder, vector_pointer(context, builder, signature.args[0], *arguments))

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


@operation
def fma(_, a, b, c):
    """a * b + c, rounded once."""

    def generate(context, builder, signature, arguments):
        return fma_vectors(builder, *arguments)

    return LANES(LANES, LANES, LANES), generate


@operation
def sqrt(_, a):
    """The square root of every lane."""

    def generate(context, builder, signature, arguments):
        return _call(builder, "sqrt", arguments)

    return LANES(LANES), generate


@operation
def negate_where_odd(_, a, bits):
    """`a` with its sign turned in the lanes where the lowest bit of `bits` is set."""

    def generate(context, builder, signature, arguments):
        a, bits = (builder.bitcast(argument, INT_VECTOR) for argument in arguments)
        sign = builder.shl(bits, ir.Constant(INT_VECTOR, [31] * NUM_LANES))
        return builder.bitcast(builder.xor(a, sign), VECTOR)

    return LANES(LANES, LANES), generate


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


def number_pointer(context: Any, builder: Any, kind: types.Array, array: ir.Value, index: ir.Value) -> ir.Value:
    """IR for the address of array[index]."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def vector_pointer(context: Any, builder: Any, kind: types.Array, array: ir.Value, index: ir.Value) -> ir.Value:
    """IR for the address of the lanes that begin at array[index]."""
    return builder.bitcast(number_pointer(context, builder, kind, array, index), VECTOR.as_pointer())


def load_vector(builder: Any, pointer: ir.Value) -> ir.Value:
    """IR for the lanes at `pointer`, aligned to a number only."""
    return builder.load(pointer, align=4)


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


def _register_operator(symbol: Callable[..., Any], instruction: str) -> None:
    @operation
    def apply(_, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        return LANES(LANES, LANES), generate

    @overload(symbol)
    def between_lanes(a, b):
        return (lambda a, b: apply(a, b)) if a is LANES and b is LANES else None


_register_operator(operator.add, "fadd")
_register_operator(operator.sub, "fsub")
_register_operator(operator.mul, "fmul")
_register_operator(operator.truediv, "fdiv")
