"""Adam (Kingma and Ba 2015) on lanes, in the order of torch's operations."""

from typing import NamedTuple

import numpy as np

from zootool.build.siren.lanes import NUM_LANES, fma, jit, load, splat, sqrt, store
from zootool.build.siren.products import ZERO, Numbers


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
def update(
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
