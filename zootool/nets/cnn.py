"""Small convolutional classifiers: those of the Small CNN Zoo and of the CNN Wild Park."""

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from zootool.architecture import Activation, Architecture, Pooling, Residual, Timestamp
from zootool.nets.lay_out import Entry, lay_out
from zootool.nets.layers import activate, add_residual


@dataclass(frozen=True)
class CnnConfig:
    """Convolutions, global average pooling and a linear layer.

    `channels` are those of the input and of every convolution; the other tuples have an entry per convolution.
    `residuals[i]` = j adds the output of convolution j (counted from 0) to convolution i before its activation, on
    the first channels that both have.
    """

    channels: tuple[int, ...] = (1, 16, 16, 16)
    kernels: tuple[int, ...] = (3, 3, 3)
    strides: tuple[int, ...] = (2, 2, 2)
    paddings: tuple[int, ...] = (0, 0, 0)
    activations: tuple[str, ...] = ("relu", "relu", "relu")
    residuals: tuple[int | None, ...] = (None, None, None)
    num_classes: int = 10

    def __post_init__(self) -> None:
        lengths = {len(self.kernels), len(self.strides), len(self.paddings), len(self.activations), len(self.residuals)}
        if lengths != {self.num_convolutions} or not self.num_convolutions:
            raise ValueError(f"{self.num_convolutions} convolutions need as many kernels, strides, ..., got {lengths}")
        for index, source in enumerate(self.residuals):
            if source is not None and not 0 <= source < index:
                raise ValueError(f"convolution {index} can't add the output of convolution {source}")

    @property
    def num_convolutions(self) -> int:
        return len(self.channels) - 1


class Cnn(nn.Module):
    """The CNN of a config, with the Wild Park's state_dict keys `layers.{i}.*` and `fc.*`."""

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.config = config
        sizes = zip(pairwise(config.channels), config.kernels, config.strides, config.paddings, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, k, s, p) for (a, b), k, s, p in sizes)
        self.fc = nn.Linear(config.channels[-1], config.num_classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        outputs: list[Tensor] = []
        for layer, name, source in zip(self.layers, self.config.activations, self.config.residuals, strict=True):
            x = layer(x)
            if source is not None:
                x = add_residual(Residual(source=source + 1), x, outputs[source])
            x = activate(Activation(name), x)
            outputs.append(x)
        return self.fc(x.mean((2, 3)))


def cnn_architecture(config: CnnConfig, family: str = "cnn") -> Architecture:
    """The architecture of `Cnn(config)`."""
    timestamps, entries = [], []
    for index, (num_sources, num_nodes) in enumerate(pairwise(config.channels)):
        kernel, source = config.kernels[index], config.residuals[index]
        timestamps.append(
            Timestamp(
                "conv",
                num_nodes,
                num_sources,
                edges_per_pair=kernel**2,
                kernel=(kernel, kernel),
                stride=config.strides[index],
                padding=config.paddings[index],
                activation=Activation(config.activations[index]),
                residuals=() if source is None else (Residual(source=source + 1),),
            )
        )
        entries += weight_and_bias(f"layers.{index}", (num_nodes, num_sources, kernel, kernel), index + 1)
    timestamps.append(Timestamp("pool_linear", config.num_classes, config.channels[-1], pooling=Pooling("mean")))
    entries += weight_and_bias("fc", (config.num_classes, config.channels[-1]), len(timestamps))
    return lay_out(config.channels[0], timestamps, entries, family=family)


def weight_and_bias(prefix: str, weight_shape: tuple[int, ...], timestamp: int) -> list[Entry]:
    """The two entries of a layer with a bias."""
    return [
        Entry(f"{prefix}.weight", weight_shape, "weight", timestamp),
        Entry(f"{prefix}.bias", weight_shape[:1], "bias", timestamp),
    ]
