"""Activations on sixteen lanes: the function and its slope, within 3e-7 of torch's.

Like `zootool.build.siren.lanes`, for Numba-compiled code alone.
"""

from typing import Any

import numpy as np
from llvmlite import ir

from zootool.build.siren.lanes import INT, INT_VECTOR, LANES, NUM_LANES, VECTOR, Lanes, fma, jit, operation, splat

ACTIVATION_CODES = {"none": 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4, "gelu": 5}
"""What the kernel calls an activation. leaky_relu falls by 0.01, gelu is the exact one."""

_ROUNDER = np.float32(1.5 * 2**23)
_LOG2_E = np.float32(1.4426950408889634)
# ln 2 as a number with few bits, whose product with an exponent is exact, and the rest.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_EXP_BOUND = np.float32(87.0)
# (exp(r) - 1 - r) / r^2 on [-ln(2) / 2, ln(2) / 2]: Cephes' expf (Moshier 1989).
_E2, _E3, _E4, _E5, _E6, _E7 = map(
    np.float32, (5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4)
)
# erf(x) = 1 - t P(t) exp(-x^2) with t = 1 / (1 + p x): Abramowitz and Stegun 7.1.26, within 1.5e-7.
_ERF_P = np.float32(0.3275911)
_ERF = tuple(map(np.float32, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)))
_HALF, _ONE, _TWO, _ZERO = np.float32(0.5), np.float32(1), np.float32(2), np.float32(0)
_LEAK = np.float32(0.01)
_SQRT_HALF = np.float32(0.5**0.5)
_DENSITY = np.float32((2 * np.pi) ** -0.5)


@operation
def clamp(_, a, low, high):
    """`a`, no less than `low` and no more than `high`; NaN stays NaN."""

    def generate(context, builder, signature, arguments):
        a, low, high = arguments
        a = builder.select(builder.fcmp_ordered("<", a, low), low, a)
        return builder.select(builder.fcmp_ordered(">", a, high), high, a)

    return LANES(LANES, LANES, LANES), generate


@operation
def where_positive(_, a, then, other):
    """`then` in the lanes where `a` is above zero or NaN, `other` elsewhere."""

    def generate(context, builder, signature, arguments):
        a, then, other = arguments
        return builder.select(builder.fcmp_unordered(">", a, ir.Constant(VECTOR, [0.0] * NUM_LANES)), then, other)

    return LANES(LANES, LANES, LANES), generate


@operation
def times_power_of_two(_, a, bits):
    """`a` times 2^n, where n is in the lowest bits of `bits`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, bits = (builder.bitcast(argument, INT_VECTOR) for argument in arguments)
        exponent = builder.shl(bits, ir.Constant(INT_VECTOR, [ir.Constant(INT, 23)] * NUM_LANES))
        return builder.bitcast(builder.add(a, exponent), VECTOR)

    return LANES(LANES, LANES), generate


@jit
def exp_less_one(x: Lanes) -> tuple[Lanes, Lanes]:
    """exp(x) - 1, precise for small x too, and exp(x); |x| is cut at 87."""
    x = clamp(x, splat(-_EXP_BOUND), splat(_EXP_BOUND))
    shifted = fma(x, splat(_LOG2_E), splat(_ROUNDER))
    power = shifted - splat(_ROUNDER)
    rest = fma(power, splat(-_LN2_LOW), fma(power, splat(-_LN2_HIGH), x))
    series = fma(rest, splat(_E7), splat(_E6))
    series = fma(rest, series, splat(_E5))
    series = fma(rest, series, splat(_E4))
    series = fma(rest, series, splat(_E3))
    series = fma(rest, series, splat(_E2))
    less_one = fma(rest * rest, series, rest)
    scale = times_power_of_two(splat(_ONE), shifted)
    result = fma(less_one, scale, scale - splat(_ONE))
    return result, result + splat(_ONE)


@jit
def tanh(x: Lanes) -> Lanes:
    """The hyperbolic tangent."""
    y, _ = exp_less_one(clamp(x, splat(np.float32(-20)), splat(np.float32(20))) * splat(_TWO))
    return y / (y + splat(_TWO))


@jit
def sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + exp(-x))."""
    _, y = exp_less_one(splat(_ZERO) - x)
    return splat(_ONE) / (splat(_ONE) + y)


@jit
def gelu(x: Lanes) -> tuple[Lanes, Lanes]:
    """x times the normal distribution function at x, and the slope."""
    scaled = where_positive(x, x, splat(_ZERO) - x) * splat(_SQRT_HALF)
    t = splat(_ONE) / fma(splat(_ERF_P), scaled, splat(_ONE))
    series = fma(t, splat(_ERF[4]), splat(_ERF[3]))
    series = fma(t, series, splat(_ERF[2]))
    series = fma(t, series, splat(_ERF[1]))
    series = fma(t, series, splat(_ERF[0]))
    _, density = exp_less_one(splat(_ZERO) - scaled * scaled)
    tail = series * t * density * splat(_HALF)
    below = where_positive(x, splat(_ONE) - tail, tail)
    return x * below, fma(x * splat(_DENSITY), density, below)


@jit
def activate_lanes(code: int, x: Lanes) -> tuple[Lanes, Lanes]:
    """The activation called `code` (see ACTIVATION_CODES) at x, and its slope there."""
    one, zero = splat(_ONE), splat(_ZERO)
    if code == 1:
        return where_positive(x, x, zero), where_positive(x, one, zero)
    if code == 2:
        return where_positive(x, x, x * splat(_LEAK)), where_positive(x, one, splat(_LEAK))
    if code == 3:
        y = tanh(x)
        return y, one - y * y
    if code == 4:
        y = sigmoid(x)
        return y, y * (one - y)
    if code == 5:
        return gelu(x)
    return x, one
