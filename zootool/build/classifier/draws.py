"""What a CNN is to be: architecture and hyper-parameters, drawn from (seed, run) alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from zootool.build.classifier.streams import HYPER_PARAMETERS
from zootool.build.cnn_recipe import CnnRecipe
from zootool.build.philox import random_words
from zootool.errors import UsageError
from zootool.nets.cnn import CnnConfig, Head

Choice = TypeVar("Choice")

_WORDS = 8
"""Words per part: a part's words stay its own when another part comes to need more."""


@dataclass(frozen=True)
class CnnRun:
    """One network to train: its architecture, its hyper-parameters and the number that its randomness comes from."""

    run: int
    config: CnnConfig
    optimiser: str
    lr: float
    l2: float
    dropout: float
    init_kind: str
    init_std: float
    train_fraction: float


class _Draws:
    """The words of one part of a network's description, taken one by one."""

    def __init__(self, seed: int, run: int, part: int) -> None:
        stream = np.array([[run, part, HYPER_PARAMETERS]], np.uint32)
        self._words = iter(random_words(seed, stream, _WORDS)[0].tolist())

    def uniform(self, low: float, high: float) -> float:
        """A number of [low, high)."""
        return low + (high - low) * next(self._words) / 2**32

    def log_uniform(self, low: float, high: float) -> float:
        """A number between low and high whose logarithm is uniform."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def choose(self, options: Sequence[Choice]) -> Choice:
        """One of the options."""
        return options[next(self._words) * len(options) >> 32]


def draw_run(recipe: CnnRecipe, run: int, image_shape: tuple[int, int, int], num_classes: int) -> CnnRun:
    """Run `run` of a recipe, for images of (height, width, channels).

    Raises UsageError where what is drawn doesn't fit the images or has more edges per pair than encoders take.
    """
    try:
        config = _draw_config(recipe, run, image_shape, num_classes)
    except ValueError as error:
        height, width = image_shape[:2]
        raise UsageError(
            f"recipe {recipe.name} doesn't fit images of {height} x {width}: run {run}'s {error}",
            hint="choose smaller kernels or strides, fewer convolutions, or --set padding=same",
        ) from error
    draws = _Draws(recipe.seed, run, 0)
    return CnnRun(
        run=run,
        config=config,
        optimiser=draws.choose(recipe.optimisers),
        lr=draws.log_uniform(*recipe.lr),
        l2=draws.log_uniform(*recipe.l2),
        dropout=draws.uniform(*recipe.dropout),
        init_kind=draws.choose(recipe.init_kinds),
        init_std=draws.log_uniform(*recipe.init_std),
        train_fraction=draws.choose(recipe.train_fractions),
    )


def _draw_config(recipe: CnnRecipe, run: int, image_shape: tuple[int, int, int], num_classes: int) -> CnnConfig:
    draws = _Draws(recipe.seed, run, 1)
    least, most = recipe.num_convolutions
    count = draws.choose(range(least, most + 1))
    common, head = draws.choose(recipe.activations), draws.choose(recipe.heads)
    layers = [_Draws(recipe.seed, run, 2 + index) for index in range(count)]
    channels = tuple(layer.choose(recipe.channels) for layer in layers)
    kernels = tuple(layer.choose(recipe.kernels) for layer in layers)
    activations = tuple(layer.choose(recipe.activations) for layer in layers)
    height, width, colours = image_shape
    plain = CnnConfig(
        channels=(1 if recipe.grey else colours, *channels),
        kernels=kernels,
        strides=tuple(layer.choose(recipe.strides) for layer in layers),
        paddings=tuple(kernel // 2 if recipe.padding == "same" else 0 for kernel in kernels),
        activations=activations if recipe.activation_per == "layer" else (common,) * count,
        residuals=(None,) * count,
        num_classes=num_classes,
        image_shape=(height, width),
    )
    residuals = tuple(_draw_residual(plain, index, layer) for index, layer in enumerate(layers))
    return _finished(plain, residuals if recipe.residuals else plain.residuals, _possible(recipe, plain, head))


def _draw_residual(config: CnnConfig, index: int, draws: _Draws) -> int | None:
    """One of the outputs before the preceding convolution's that have the size of this one's, or none."""
    sides = config.sides
    possible = [source for source in range(index - 1) if sides[source + 1] == sides[index + 1]]
    adds = draws.choose((True, False))
    return draws.choose(possible) if adds and possible else None


def _possible(recipe: CnnRecipe, config: CnnConfig, head: Head) -> Head:
    positions = math.prod(config.sides[-1])
    if head == "pool" or positions <= recipe.max_edges_per_pair:
        return head
    if "pool" in recipe.heads:
        return "pool"
    raise ValueError(
        f"flatten head has {positions} edges per pair, encoders take up to max_edges_per_pair = "
        f"{recipe.max_edges_per_pair}"
    )


def _finished(config: CnnConfig, residuals: tuple[int | None, ...], head: Head) -> CnnConfig:
    return CnnConfig(
        config.channels,
        config.kernels,
        config.strides,
        config.paddings,
        config.activations,
        residuals,
        config.num_classes,
        head,
        config.image_shape,
    )
