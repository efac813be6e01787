"""SGD, Adam and RMSprop on lanes, in the order of torch's operations; L2 is added to the gradient as torch does."""

from typing import NamedTuple

import numpy as np

from zootool.build.siren.adam import Adam, Moments
from zootool.build.siren.adam import update as adam_update
from zootool.build.siren.lanes import NUM_LANES, fma, jit, load, splat, sqrt, store
from zootool.build.siren.products import ONE, ZERO, Numbers

OPTIMISER_CODES = {"sgd": 0, "adam": 1, "rmsprop": 2}

BETA_1, BETA_2, RMSPROP_DECAY, EPS = 0.9, 0.999, 0.99, 1e-8
"""torch's own defaults."""


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
        adam_update(parameters, moments, adam, 0, len(parameters), ONE, state.decays[0], state.decays[1])
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
