"""All that is random about a classifier, drawn from (seed, run) alone: hyper-parameters, initial numbers, orders."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Float64, Int64

from zootool.build.philox import stream_words, uniform
from zootool.build.recipe import CnnRecipe
from zootool.errors import UsageError
from zootool.nets.cnn import CnnConfig, Head

_TRUNCATED_STD = 0.8796256610342398
"""The deviation of a normal distribution that is cut at two deviations."""

Choice = TypeVar("Choice")

HYPER_PARAMETERS, INITIAL, ORDER, DROPOUT, SUBSET, AUGMENTATION = range(1, 7)
"""What random numbers are for: the last word of the Philox streams (run, part, purpose)."""

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


def initial_weight(
    kind: str, std: float, shape: tuple[int, ...], seed: int, run: int, part: int
) -> Float32[np.ndarray, "..."]:
    """A weight (targets, sources, *kernel) of tensor `part` of a network.

    "normal" and "truncated_normal" (cut at two deviations) have the deviation `std`, "glorot_normal" and "he_normal"
    that of Glorot and Bengio (2010) and of He et al. (2015), "orthogonal" orthonormal rows or columns (Saxe et al.
    2014).
    """
    targets, fan_in = shape[0], math.prod(shape[1:])
    count, fan_out = targets * fan_in, targets * math.prod(shape[2:])
    if kind == "orthogonal":
        flat = _orthonormal(_normals(count, seed, run, part).reshape(targets, fan_in))
    elif kind == "truncated_normal":
        # Cut at two deviations, which about one number in twenty is beyond; then scaled so that `std` is what is left.
        numbers = _normals(2 * count + 64, seed, run, part)
        flat = std * (numbers[np.abs(numbers) < 2][:count] / _TRUNCATED_STD)
    else:
        deviations = {"normal": std, "glorot_normal": (2 / (fan_in + fan_out)) ** 0.5, "he_normal": (2 / fan_in) ** 0.5}
        flat = deviations[kind] * _normals(count, seed, run, part)
    return flat.reshape(shape).astype(np.float32)


def uniform_numbers(bound: float, shape: tuple[int, ...], seed: int, run: int, part: int) -> Float32[np.ndarray, "..."]:
    """Numbers of [-bound, bound) for tensor `part` of a network."""
    words = stream_words(seed, (run, part, INITIAL), math.prod(shape))
    return uniform(words).reshape(shape) * np.float32(bound)


def shuffled(count: int, seed: int, run: int, epoch: int, purpose: int = ORDER) -> Int64[np.ndarray, " count"]:
    """The numbers below `count` in a network's own order for an epoch."""
    return np.argsort(stream_words(seed, (run, epoch, purpose), count), kind="stable")


class _Draws:
    """The words of one part of a network's description, taken one by one."""

    def __init__(self, seed: int, run: int, part: int) -> None:
        self._words = iter(stream_words(seed, (run, part, HYPER_PARAMETERS), _WORDS).tolist())

    def uniform(self, low: float, high: float) -> float:
        """A number of [low, high)."""
        return low + (high - low) * next(self._words) / 2**32

    def log_uniform(self, low: float, high: float) -> float:
        """A number between low and high whose logarithm is uniform."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def choose(self, options: Sequence[Choice]) -> Choice:
        """One of the options."""
        return options[next(self._words) * len(options) >> 32]


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
    head = _possible(recipe, plain, head)
    return replace(plain, residuals=residuals if recipe.residuals else plain.residuals, head=head)


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


def _normals(count: int, seed: int, run: int, part: int) -> Float64[np.ndarray, " numbers"]:
    """Standard normal numbers, by Box and Muller."""
    half = -(-count // 2)
    words = stream_words(seed, (run, part, INITIAL), 2 * half).astype(np.float64)
    # Counted from 1, since there is no logarithm of 0.
    radius, angle = np.sqrt(-2 * np.log((words[:half] + 1) / 2**32)), 2 * np.pi * words[half:] / 2**32
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def _orthonormal(matrix: Float64[np.ndarray, "rows columns"]) -> Float64[np.ndarray, "rows columns"]:
    """Gram and Schmidt's orthonormal rows, or columns where those are fewer; no LAPACK decides about the bits."""
    if matrix.shape[0] > matrix.shape[1]:
        return _orthonormal(matrix.T).T
    rows: list[np.ndarray] = []
    for row in matrix:
        for _ in range(2):  # once more, for what rounding has left
            for other in rows:
                row = row - (row * other).sum() * other
        rows.append(row / np.sqrt((row * row).sum()))
    return np.stack(rows)
