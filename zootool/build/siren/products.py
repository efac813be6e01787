"""The kernels' inner loops: products of small matrices in register tiles, weighted sums, sine and cosine, and Adam.

Matrices are row-major stretches of flat float32 arrays; the columns of a product are a multiple of 16 and lie along
the lanes. Numbers are added in one fixed order: rising sum index in products, eight interleaved sums in weighted sums.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from zootool.build.siren.lanes import (
    NUM_LANES,
    TILE_ROWS,
    Lanes,
    add_up,
    fma,
    fma_outer,
    fma_weighted_rows,
    jit,
    load,
    load_tile,
    negate_where_odd,
    splat,
    sqrt,
    store,
    store_tile,
)

ZERO, ONE = np.float32(0), np.float32(1)

Numbers = Float32[np.ndarray, " numbers"]
Matrix = tuple[Numbers, int, int]
"""A flat array, where the matrix starts in it, and the step from row to row."""
StridedMatrix = tuple[Numbers, int, int, int]
"""The same, and the step from column to column."""

# Minimax on [-1/2, 1/2] by iteratively reweighted least squares in float64: sin(pi r) = r P(r^2) within 3.3e-9 and
# cos(pi r) = 1 + r^2 Q(r^2) within 5.3e-8, before the coefficients are rounded.
_S0, _S1, _S2, _S3, _S4 = map(np.float32, (3.1415925, -5.167707, 2.5500314, -0.59804517, 0.07722013))
_C1, _C2, _C3, _C4 = map(np.float32, (-4.9347954, 4.0584512, -1.3320938, 0.22008064))

# Adding 1.5 * 2^23 rounds to an integer and leaves its parity in the lowest bit.
_ROUNDER = np.float32(1.5 * 2**23)


@jit
def sine_cosine(z: Lanes, high: Lanes, low: Lanes) -> tuple[Lanes, Lanes]:
    """sin and cos of omega z, where high + low = omega / pi: z high + z low half turns, the whole ones taken off.

    Within 3e-7 while |omega z| < 1e6; one range reduction serves both. Polynomials, because a library's sine takes
    numbers one by one and has other last bits on other machines.
    """
    shifted = fma(z, high, splat(_ROUNDER))
    turns = shifted - splat(_ROUNDER)
    rest = fma(z, low, fma(z, high, splat(ZERO) - turns))
    square = rest * rest
    sine = fma(square, splat(_S4), splat(_S3))
    cosine = fma(square, splat(_C4), splat(_C3))
    sine = fma(square, sine, splat(_S2))
    cosine = fma(square, cosine, splat(_C2))
    sine = fma(square, sine, splat(_S1))
    cosine = fma(square, cosine, splat(_C1))
    sine = fma(square, sine, splat(_S0)) * rest
    cosine = fma(square, cosine, splat(ONE))
    return negate_where_odd(sine, shifted), negate_where_odd(cosine, shifted)


@jit
def multiply(
    out: Matrix, initial: Matrix, left: StridedMatrix, right: Matrix, rows: int, columns: int, count: int
) -> None:
    """out[r, c] = initial[r, c] + sum over k < count of left[r, k] right[k, c]; `rows` is a multiple of 8.

    A transposed `left` has its steps swapped; a vector that is added to every row is an `initial` with the step 0.
    """
    # Columns outside: a strip of the right side stays in the first cache while all rows go by.
    for column in range(0, columns - NUM_LANES, 2 * NUM_LANES):
        for row in range(0, rows, TILE_ROWS):
            _multiply_wide(out, initial, left, right, row, column, count)
    if columns % (2 * NUM_LANES):
        for row in range(0, rows, TILE_ROWS):
            _multiply_narrow(out, initial, left, right, row, columns - NUM_LANES, count)


@jit
def add_weighted_rows(
    out: Numbers, out_start: int, weights: Numbers, first: int, rows: Numbers, start: int, columns: int, count: int
) -> None:
    """out[c] += sum over p < count of weights[first + p] rows[start + p columns + c]; `count` is a multiple of 8."""
    z = splat(ZERO)
    for column in range(0, columns, NUM_LANES):
        tile = (z, z, z, z, z, z, z, z)
        for p in range(0, count, TILE_ROWS):
            tile = fma_weighted_rows(tile, rows, start + p * columns + column, columns, weights, first + p)
        store(out, out_start + column, load(out, out_start + column) + add_up(tile))


class Adam(NamedTuple):
    """The learning rate, both decay rates and the number that keeps the denominator from zero."""

    lr: float
    beta1: float
    beta2: float
    eps: float


class Moments(NamedTuple):
    """For each parameter: the gradient, its running mean, and the running mean of its square."""

    gradient: Numbers
    mean: Numbers
    square: Numbers


@jit
def update_by_adam(
    parameters: Numbers,
    moments: Moments,
    adam: Adam,
    start: int,
    end: int,
    gain: np.float32,
    decay1: float,
    decay2: float,
) -> None:
    """One step for parameters[start:end], their gradient times `gain`; leaves the gradient at zero.

    All in one pass over the memory, and each operation where torch has it, so that the two agree within rounding.
    `decay1` and `decay2` are the decay rates to the power of the step, counted from 1.
    """
    step_size = splat(np.float32(adam.lr / (1 - decay1)))
    root = splat(np.float32(np.sqrt(1 - decay2)))
    new_mean = splat(np.float32(1 - adam.beta1))
    old_square, new_square = splat(np.float32(adam.beta2)), splat(np.float32(1 - adam.beta2))
    eps = splat(np.float32(adam.eps))
    for index in range(start, end, NUM_LANES):
        gradient = load(moments.gradient, index) * splat(gain)
        mean = load(moments.mean, index)
        mean = fma(gradient - mean, new_mean, mean)
        square = fma(gradient * gradient, new_square, load(moments.square, index) * old_square)
        change = mean / (sqrt(square) / root + eps)
        store(parameters, index, load(parameters, index) - step_size * change)
        store(moments.mean, index, mean)
        store(moments.square, index, square)
        store(moments.gradient, index, splat(ZERO))


def aligned_zeros(size: int) -> Numbers:
    """Zeros that begin on a cache line: vectors that cross one take twice as long to load."""
    memory = np.zeros(size + NUM_LANES, np.float32)
    start = -(memory.ctypes.data // 4) % NUM_LANES
    return memory[start : start + size]


zeros = jit(aligned_zeros)
"""The same, for compiled code."""


@jit
def _multiply_wide(
    out: Matrix, initial: Matrix, left: StridedMatrix, right: Matrix, row: int, column: int, count: int
) -> None:
    a, a_index, row_step, sum_step = left
    b, b_index, b_step = right
    a_index += row * row_step
    b_index += column
    z: Any = splat(ZERO)
    tile = (z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z)
    tile = load_tile(tile, initial[0], initial[1] + row * initial[2] + column, initial[2])
    for _ in range(count):
        tile = fma_outer(tile, a, a_index, row_step, (load(b, b_index), load(b, b_index + NUM_LANES)))
        a_index += sum_step
        b_index += b_step
    store_tile(tile, out[0], out[1] + row * out[2] + column, out[2])


@jit
def _multiply_narrow(
    out: Matrix, initial: Matrix, left: StridedMatrix, right: Matrix, row: int, column: int, count: int
) -> None:
    a, a_index, row_step, sum_step = left
    b, b_index, b_step = right
    a_index += row * row_step
    b_index += column
    z: Any = splat(ZERO)
    tile = (z, z, z, z, z, z, z, z)
    tile = load_tile(tile, initial[0], initial[1] + row * initial[2] + column, initial[2])
    for _ in range(count):
        tile = fma_outer(tile, a, a_index, row_step, (load(b, b_index),))
        a_index += sum_step
        b_index += b_step
    store_tile(tile, out[0], out[1] + row * out[2] + column, out[2])
