"""The forward-fit experiment's data, random MLPs and their activations, and its networks (paper, section 7)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dng.methods.message_passing import DynamicMessagePassing, StaticMessagePassing
from dng.models.heads import count_parameters
from zootool.errors import UsageError

Kind = Literal["dynamic", "static-each-round", "static-last-round", "static-equal-width"]

KINDS: dict[Kind, str] = {
    "dynamic": "dynamic",
    "static-each-round": "static, each layer after its round",
    "static-last-round": "static, all layers after the last round",
    "static-equal-width": "static, each layer after its round, as wide as dynamic",
}
"""What is compared, with its name for people. All are as large as the dynamic network, but for the last: as wide."""

PARAMETER_TOLERANCE = 0.05
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
    values, activations = inputs, []
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        values = values @ weight.mT + bias[:, None]
        values = torch.relu(values) if layer < len(weights) else values
        activations.append(values)
    return MLPSamples(weights, biases, inputs, tuple(activations))


class ForwardFitModel(nn.Module):
    """Predicts every neuron's post-activation from an MLP's weights, biases and input.

    Inputs, biases and weights are scalars, each kind with a linear map of its own to vectors of width `dim`. On the
    static graph there are as many rounds as layers.
    """

    def __init__(self, kind: Kind, dim: int, hidden_dim: int, num_layers: int) -> None:
        super().__init__()
        self.kind = kind
        self.input_map, self.bias_map, self.weight_map = (nn.Linear(1, dim) for _ in range(3))
        network = DynamicMessagePassing if kind == "dynamic" else StaticMessagePassing
        self.network = network(dim, hidden_dim, num_layers)
        self.readouts = nn.ModuleList(nn.Linear(dim, 1) for _ in range(num_layers))

    def forward(self, samples: MLPSamples) -> list[Float[Tensor, "batch inputs _nodes"]]:
        # An axis for the inputs, of size 1 for what doesn't depend on them.
        nodes = [self.input_map(samples.inputs[..., None])]
        nodes += [self.bias_map(bias[:, None, :, None]) for bias in samples.biases]
        edges = [self.weight_map(weight[:, None, ..., None]) for weight in samples.weights]
        states = self._states(self.network(nodes, edges))
        return [readout(state).squeeze(-1) for readout, state in zip(self.readouts, states, strict=True)]

    def _states(self, found: list) -> list[Tensor]:
        """The nodes of the layers 1..L at the time at which they are read."""
        if self.kind == "dynamic":
            return found[1:]
        if self.kind == "static-last-round":
            return found[-1][1:]
        return [nodes[layer] for layer, nodes in enumerate(found, start=1)]


def build_model(kind: Kind, dim: int, dynamic_hidden_dim: int, num_layers: int) -> tuple[ForwardFitModel, int]:
    """The network to compare and its hidden width: the one whose number of parameters is nearest to the dynamic's.

    The control of equal width has the dynamic network's, and so more parameters.
    """
    hidden_dim = dynamic_hidden_dim
    if kind != "static-equal-width":
        with torch.device("meta"):
            wanted = count_parameters(ForwardFitModel("dynamic", dim, hidden_dim, num_layers))
            hidden_dim = matching_width(
                lambda width: count_parameters(ForwardFitModel(kind, dim, width, num_layers)), wanted
            )
    return ForwardFitModel(kind, dim, hidden_dim, num_layers), hidden_dim


def matching_width(count: Callable[[int], int], wanted: int) -> int:
    """The width for which `count`, which grows with it, comes nearest to `wanted`.

    Raises UsageError where no width comes within `PARAMETER_TOLERANCE`.
    """
    above = 1
    while count(above) < wanted:
        above += 1
    best = min((width for width in (above - 1, above) if width), key=lambda width: abs(count(width) - wanted))
    if abs(count(best) - wanted) > PARAMETER_TOLERANCE * wanted:
        raise UsageError(
            f"no width gives {wanted:,} parameters within {PARAMETER_TOLERANCE:.0%}, the nearest, {best}, gives "
            f"{count(best):,}",
            hint="give the dynamic network a larger hidden_dim",
        )
    return best
