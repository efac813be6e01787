"""Small convolutional classifiers: those of the Small CNN Zoo and of the CNN Wild Park."""

from itertools import pairwise
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from zootool.architecture import Activation, Residual
from zootool.nets.cnn_architecture import CnnConfig, cnn_architecture, weight_and_bias
from zootool.nets.layers import activate, add_residual

__all__ = ["Cnn", "CnnConfig", "cnn_architecture", "weight_and_bias"]


class Cnn(nn.Module):
    """The CNN of a config, with the Wild Park's state_dict keys `layers.{i}.*` and `fc.*`."""

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.config = config
        sizes = zip(pairwise(config.channels), config.kernels, config.strides, config.paddings, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, k, s, p) for (a, b), k, s, p in sizes)
        positions = 1 if config.head == "pool" else prod(config.sides[-1])
        self.fc = nn.Linear(config.channels[-1] * positions, config.num_classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        outputs: list[Tensor] = []
        for layer, name, source in zip(self.layers, self.config.activations, self.config.residuals, strict=True):
            x = layer(x)
            if source is not None:
                x = add_residual(Residual(source=source + 1), x, outputs[source])
            x = activate(Activation(name), x)
            outputs.append(x)
        return self.fc(x.mean((2, 3)) if self.config.head == "pool" else x.flatten(1))
