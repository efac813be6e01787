"""Small convolutional classifiers and their Architecture, apart from the module: training them needs no torch."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Literal

from zootool.architecture import Activation, Architecture, Pooling, Residual, Timestamp
from zootool.nets.lay_out import lay_out, weight_and_bias

Head = Literal["pool", "flatten"]


@dataclass(frozen=True)
class CnnConfig:
    """Convolutions, then global average pooling (`head` "pool") or a flatten, and a linear layer.

    `channels` are those of the input and of every convolution; the other tuples have an entry per convolution.
    `residuals[i]` = j adds the output of convolution j (counted from 0) to convolution i before its activation, on
    the first channels that both have. `image_shape` is (height, width); a flatten needs to know it.

    Raises ValueError where the parts don't fit together, or a kernel doesn't fit what it is applied to.
    """

    channels: tuple[int, ...] = (1, 16, 16, 16)
    kernels: tuple[int, ...] = (3, 3, 3)
    strides: tuple[int, ...] = (2, 2, 2)
    paddings: tuple[int, ...] = (0, 0, 0)
    activations: tuple[str, ...] = ("relu", "relu", "relu")
    residuals: tuple[int | None, ...] = (None, None, None)
    num_classes: int = 10
    head: Head = "pool"
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.kernels), len(self.strides), len(self.paddings), len(self.activations), len(self.residuals)}
        if lengths != {self.num_convolutions} or not self.num_convolutions:
            raise ValueError(f"{self.num_convolutions} convolutions need as many kernels, strides, ..., got {lengths}")
        for index, source in enumerate(self.residuals):
            if source is not None and not 0 <= source < index:
                raise ValueError(f"convolution {index} can't add the output of convolution {source}")
        if self.image_shape is not None:
            self._check_sides()
        elif self.head == "flatten":
            raise ValueError("a flatten head needs the image_shape")

    @property
    def num_convolutions(self) -> int:
        return len(self.channels) - 1

    @property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the images and behind every convolution. Raises ValueError without an image_shape."""
        if self.image_shape is None:
            raise ValueError("the sizes of feature maps follow from an image_shape, and there is none")
        sides = [self.image_shape]
        for kernel, stride, padding in zip(self.kernels, self.strides, self.paddings, strict=True):
            height, width = ((side + 2 * padding - kernel) // stride + 1 for side in sides[-1])
            sides.append((height, width))
        return tuple(sides)

    def _check_sides(self) -> None:
        for index, (height, width) in enumerate(self.sides[1:]):
            if min(height, width) < 1:
                shown = " x ".join(map(str, self.sides[index]))
                raise ValueError(f"convolution {index} has a kernel of {self.kernels[index]} for a map of {shown}")
        for index, source in enumerate(self.residuals):
            if source is not None and self.sides[source + 1] != self.sides[index + 1]:
                raise ValueError(f"convolution {index} can't add the output of convolution {source} of another size")


def cnn_architecture(config: CnnConfig, family: str = "cnn") -> Architecture:
    """The architecture of `Cnn(config)`."""
    timestamps, entries = [], []
    for index, (num_sources, num_nodes) in enumerate(pairwise(config.channels)):
        kernel, source = config.kernels[index], config.residuals[index]
        window: dict[str, Any] = {"edges_per_pair": kernel**2, "kernel": (kernel, kernel)}
        window |= {"stride": config.strides[index], "padding": config.paddings[index]}
        activation, residuals = Activation(config.activations[index]), () if source is None else (Residual(source + 1),)
        timestamps.append(
            Timestamp("conv", num_nodes, num_sources, activation=activation, residuals=residuals, **window)
        )
        entries += weight_and_bias(f"layers.{index}", (num_nodes, num_sources, kernel, kernel), index + 1)
    positions = 1 if config.head == "pool" else prod(config.sides[-1])
    sources = config.channels[-1]
    if config.head == "pool":
        timestamps.append(Timestamp("pool_linear", config.num_classes, sources, pooling=Pooling("mean")))
    else:
        timestamps.append(Timestamp("flatten_linear", config.num_classes, sources, edges_per_pair=positions))
    entries += weight_and_bias("fc", (config.num_classes, sources * positions), len(timestamps))
    return lay_out(config.channels[0], timestamps, entries, family=family)
