"""Random MLPs with inputs and the activations they cause: the data of the forward-fit experiment (paper, section 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_BIAS_STD = 0.5


@dataclass(frozen=True)
class MLPSamples:
    """B MLPs with X inputs each, and what every layer l = 1..L makes of them.

    `weights[l-1]` is (B, n_l, n_{l-1}), `biases[l-1]` (B, n_l), `activations[l-1]` the layer's post-activation.
    """

    weights: tuple[Float[Tensor, "batch _targets _sources"], ...]
    biases: tuple[Float[Tensor, "batch _targets"], ...]
    inputs: Float[Tensor, "batch inputs sources"]
    activations: tuple[Float[Tensor, "batch inputs _targets"], ...]

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Int64[Tensor, " rows"]) -> "MLPSamples":
        """The MLPs in these rows."""
        lists = (tuple(values[rows] for values in field) for field in (self.weights, self.biases, self.activations))
        weights, biases, activations = lists
        return MLPSamples(weights, biases, self.inputs[rows], activations)


def sample_mlps(widths: Sequence[int], num_mlps: int, num_inputs: int, generator: torch.Generator) -> MLPSamples:
    """MLPs of `widths` n_0..n_L with W ~ N(0, 2 / fan_in) and b ~ N(0, 0.25), on inputs ~ N(0, 1)."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    weights = tuple((2 / sources) ** 0.5 * draw(num_mlps, targets, sources) for sources, targets in pairwise(widths))
    biases = tuple(_BIAS_STD * draw(num_mlps, targets) for targets in widths[1:])
    inputs = draw(num_mlps, num_inputs, widths[0])
    return MLPSamples(weights, biases, inputs, post_activations(weights, biases, inputs))


def post_activations(
    weights: Sequence[Float[Tensor, "batch _targets _sources"]],
    biases: Sequence[Float[Tensor, "batch _targets"]],
    inputs: Float[Tensor, "batch inputs sources"],
) -> tuple[Float[Tensor, "batch inputs _targets"], ...]:
    """The forward pass of every MLP on its own inputs: ReLU after the hidden layers, none after the last."""
    values, found = inputs, []
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        values = values @ weight.mT + bias[:, None]
        values = torch.relu(values) if layer < len(weights) else values
        found.append(values)
    return tuple(found)
