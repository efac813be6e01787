"""What the CNN kernel does number by number: activations with their slopes, dropout's words, and optimisers.

Activations are within 3e-7 of torch's, optimisers follow the order of torch's operations. No library's function is
called on the way, because its last bits differ between machines. For Numba-compiled code alone.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt64
from llvmlite import ir

from zootool.build.classifier.draws import DROPOUT
from zootool.build.siren.lanes import (
    INT,
    INT_VECTOR,
    NUM_LANES,
    VECTOR,
    Lanes,
    fma,
    jit,
    lanewise,
    load,
    splat,
    sqrt,
    store,
)
from zootool.build.siren.products import ONE, ZERO, Adam, Moments, Numbers, update_by_adam

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
_HALF, _TWO = np.float32(0.5), np.float32(2)
_LEAK = np.float32(0.01)
_SQRT_HALF = np.float32(0.5**0.5)
_DENSITY = np.float32((2 * np.pi) ** -0.5)

OPTIMISER_CODES = {"sgd": 0, "adam": 1, "rmsprop": 2}

BETA_1, BETA_2, RMSPROP_DECAY, EPS = 0.9, 0.999, 0.99, 1e-8
"""torch's own defaults."""

_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEP_0, _STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


class Optimiser(NamedTuple):
    """Which one (see OPTIMISER_CODES), its learning rate and L2 penalty."""

    code: int
    lr: float
    l2: float


class State(NamedTuple):
    """For each parameter the gradient and two running means, and Adam's decay rates to the power of the steps made."""

    gradient: Numbers
    mean: Numbers
    square: Numbers
    decays: np.ndarray


@jit
def activate_lanes(code: int, x: Lanes) -> tuple[Lanes, Lanes]:
    """The activation called `code` (see ACTIVATION_CODES) at x, and its slope there."""
    one, zero = splat(ONE), splat(ZERO)
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


@jit
def keep_mask(mask: Numbers, dropout: float, seed: int, run: int, epoch: int, block: int) -> None:
    """Zeros where a number is dropped, else 1 / (1 - dropout), for the images from place `block` of an epoch's order.

    Word i of the stream (run, epoch, DROPOUT + 256 block) decides about number i.
    """
    kept = np.float32(1 / (1 - dropout))
    threshold = np.uint64(dropout * 2.0**32)
    counter = np.zeros(4, np.uint64)
    for i in range(0, len(mask), 4):
        counter[0], counter[1] = np.uint64(i // 4), np.uint64(run)
        counter[2], counter[3] = np.uint64(epoch), np.uint64(DROPOUT + 256 * block)
        philox_words(seed, counter)
        for j in range(4):
            mask[i + j] = ZERO if counter[j] < threshold else kept


@jit
def update(parameters: Numbers, state: State, optimiser: Optimiser) -> None:
    """One step; leaves the gradient at zero."""
    penalty = splat(np.float32(optimiser.l2))
    for index in range(0, len(parameters), NUM_LANES):
        gradient = fma(load(parameters, index), penalty, load(state.gradient, index))
        store(state.gradient, index, gradient)
    if optimiser.code == 1:
        # Multiplied up, so that no library's pow decides about the last bit.
        state.decays[0] *= BETA_1
        state.decays[1] *= BETA_2
        adam = Adam(optimiser.lr, BETA_1, BETA_2, EPS)
        moments = Moments(state.gradient, state.mean, state.square)
        update_by_adam(parameters, moments, adam, 0, len(parameters), ONE, state.decays[0], state.decays[1])
        return
    lr, eps = splat(np.float32(optimiser.lr)), splat(np.float32(EPS))
    old, new = splat(np.float32(RMSPROP_DECAY)), splat(np.float32(1 - RMSPROP_DECAY))
    for index in range(0, len(parameters), NUM_LANES):
        change = load(state.gradient, index)
        if optimiser.code == 2:
            square = fma(change * change, new, load(state.square, index) * old)
            store(state.square, index, square)
            change = change / (sqrt(square) + eps)
        store(parameters, index, load(parameters, index) - lr * change)
        store(state.gradient, index, splat(ZERO))


@jit
def philox_words(seed: int, counter: UInt64[np.ndarray, " 4"]) -> None:
    """Replace a counter by its four words."""
    key0, key1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _SHIFT
    c0, c1, c2, c3 = counter[0], counter[1], counter[2], counter[3]
    for _ in range(10):
        product0, product1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1 = (product1 >> _SHIFT) ^ c1 ^ key0, product1 & _LOW
        c2, c3 = (product0 >> _SHIFT) ^ c3 ^ key1, product0 & _LOW
        key0, key1 = (key0 + _STEP_0) & _LOW, (key1 + _STEP_1) & _LOW
    counter[0], counter[1], counter[2], counter[3] = c0, c1, c2, c3


@lanewise
def clamp(builder, a, low, high):
    """`a`, no less than `low` and no more than `high`; NaN stays NaN."""
    a = builder.select(builder.fcmp_ordered("<", a, low), low, a)
    return builder.select(builder.fcmp_ordered(">", a, high), high, a)


@lanewise
def where_positive(builder, a, then, other):
    """`then` in the lanes where `a` is above zero or NaN, `other` elsewhere."""
    return builder.select(builder.fcmp_unordered(">", a, ir.Constant(VECTOR, [0.0] * NUM_LANES)), then, other)


@lanewise
def times_power_of_two(builder, a, bits):
    """`a` times 2^n, where n is in the lowest bits of `bits`: they are added to the exponent's."""
    a, bits = (builder.bitcast(argument, INT_VECTOR) for argument in (a, bits))
    exponent = builder.shl(bits, ir.Constant(INT_VECTOR, [ir.Constant(INT, 23)] * NUM_LANES))
    return builder.bitcast(builder.add(a, exponent), VECTOR)


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
    scale = times_power_of_two(splat(ONE), shifted)
    result = fma(less_one, scale, scale - splat(ONE))
    return result, result + splat(ONE)


@jit
def tanh(x: Lanes) -> Lanes:
    """The hyperbolic tangent."""
    y, _ = exp_less_one(clamp(x, splat(np.float32(-20)), splat(np.float32(20))) * splat(_TWO))
    return y / (y + splat(_TWO))


@jit
def sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + exp(-x))."""
    _, y = exp_less_one(splat(ZERO) - x)
    return splat(ONE) / (splat(ONE) + y)


@jit
def gelu(x: Lanes) -> tuple[Lanes, Lanes]:
    """x times the normal distribution function at x, and the slope."""
    scaled = where_positive(x, x, splat(ZERO) - x) * splat(_SQRT_HALF)
    t = splat(ONE) / fma(splat(_ERF_P), scaled, splat(ONE))
    series = fma(t, splat(_ERF[4]), splat(_ERF[3]))
    series = fma(t, series, splat(_ERF[2]))
    series = fma(t, series, splat(_ERF[1]))
    series = fma(t, series, splat(_ERF[0]))
    _, density = exp_less_one(splat(ZERO) - scaled * scaled)
    tail = series * t * density * splat(_HALF)
    below = where_positive(x, splat(ONE) - tail, tail)
    return x * below, fma(x * splat(_DENSITY), density, below)
