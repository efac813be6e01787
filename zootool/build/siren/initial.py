"""The weights that a SIREN starts from (Sitzmann et al. 2020, section 3.2)."""

from math import sqrt

import numpy as np
from jaxtyping import Float32, Int64

from zootool.build.philox import random_words, uniform
from zootool.build.siren.settings import FitSettings

INIT_SCHEME = "siren: first layer U(+-1/fan_in), others U(+-sqrt(6/fan_in)/omega_0), biases U(+-1/sqrt(fan_in))"

_SHARED = 0xFFFFFFFF


def initial_weights(
    settings: FitSettings, seed: int, source_index: Int64[np.ndarray, " networks"], copy: Int64[np.ndarray, " networks"]
) -> Float32[np.ndarray, "networks parameters"]:
    """The initial parameters of networks, each from (seed, source_index, copy) alone."""
    streams = np.zeros((len(source_index), 3), np.uint32)
    streams[:, 0], streams[:, 1] = source_index, copy
    words = random_words(seed, streams, settings.num_parameters)
    return uniform(words) * _bounds(settings)


def shared_weights(settings: FitSettings, seed: int, num_networks: int) -> Float32[np.ndarray, "networks parameters"]:
    """The same initial parameters for every network, from the seed alone."""
    shared = np.array([_SHARED])
    return np.repeat(initial_weights(settings, seed, shared, shared), num_networks, axis=0)


def _bounds(settings: FitSettings) -> Float32[np.ndarray, " parameters"]:
    bounds = []
    for layer, fan_in in enumerate(settings.widths[:-1]):
        targets = settings.widths[layer + 1]
        weight_bound = 1 / fan_in if layer == 0 else sqrt(6 / fan_in) / settings.omega_0
        bounds += [weight_bound] * (targets * fan_in) + [1 / sqrt(fan_in)] * targets
    return np.array(bounds, np.float32)
