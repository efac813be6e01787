"""What every fitting backend is told: the network's shape, the grid of pixels, the optimiser, and where it starts."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt

import numpy as np
from jaxtyping import Float32, Int64

from zootool.build.philox import random_words, uniform

NUM_INPUTS = 2
_SHARED = 0xFFFFFFFF


@dataclass(frozen=True)
class FitSettings:
    """One SIREN per image of `grid` = (height, width), trained on all pixels by `steps` full-batch steps of Adam.

    A network's parameters are flat here: weight (targets, sources) then bias of each layer, from input to output.
    """

    grid: tuple[int, int]
    num_channels: int
    hidden: tuple[int, ...] = (32, 32)
    omega_0: float = 30.0
    steps: int = 5000
    lr: float = 5e-5
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    @property
    def widths(self) -> tuple[int, ...]:
        """Neurons of every layer, from the two coordinates to the channels."""
        return (NUM_INPUTS, *self.hidden, self.num_channels)

    @property
    def num_pixels(self) -> int:
        """Pixels of one image."""
        return prod(self.grid)

    @property
    def parameter_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of weight and bias of each layer, in the order of the flat parameters."""
        return tuple(shape for a, b in pairwise(self.widths) for shape in ((b, a), (b,)))

    @property
    def num_parameters(self) -> int:
        """Parameters of one network."""
        return sum(map(prod, self.parameter_shapes))

    def coordinates(self) -> Float32[np.ndarray, "pixels 2"]:
        """(row, column) of every pixel in row-major order, each axis linspace(-1, 1)."""
        return np.stack(np.meshgrid(*self.axes(), indexing="ij"), axis=-1).reshape(-1, NUM_INPUTS)

    def axes(self) -> tuple[Float32[np.ndarray, " rows"], Float32[np.ndarray, " columns"]]:
        """The coordinates along each axis of the grid, linspace(-1, 1)."""
        rows, columns = (np.linspace(-1, 1, size).astype(np.float32) for size in self.grid)
        return rows, columns

    def split(self, parameters: Float32[np.ndarray, "networks parameters"]) -> list[np.ndarray]:
        """The layers' weights and biases, each with the leading network axis, as views of the flat parameters."""
        pieces, start = [], 0
        for shape in self.parameter_shapes:
            pieces.append(parameters[:, start : start + prod(shape)].reshape(-1, *shape))
            start += prod(shape)
        return pieces


def initial_weights(
    settings: FitSettings, seed: int, source_index: Int64[np.ndarray, " networks"], copy: Int64[np.ndarray, " networks"]
) -> Float32[np.ndarray, "networks parameters"]:
    """Parameters as in Sitzmann et al. (2020, section 3.2), each network's from (seed, source_index, copy) alone."""
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
