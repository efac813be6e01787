"""SIREN: the sinusoidal MLP that stands for one image (Sitzmann et al. 2020)."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zootool.architecture import Activation, Architecture, ParameterSlot, Timestamp


def siren_architecture(
    num_inputs: int, hidden: tuple[int, ...], num_outputs: int, omega_0: float = 30.0, output_offset: float = 0.0
) -> Architecture:
    """A SIREN with sine layers of the widths `hidden` and a linear output.

    The state_dict keys are those of the neural-functional papers' sets: `net.{l}.linear.*` for the sine layers and
    `net.{L-1}.*` for the output.
    """
    widths = (num_inputs, *hidden, num_outputs)
    timestamps, slots = [], []
    edge_start = node_start = 0
    for layer, (num_sources, num_nodes) in enumerate(pairwise(widths)):
        is_output = layer == len(hidden)
        prefix = siren_key_prefix(layer, len(hidden))
        activation = Activation() if is_output else Activation("sine", omega_0=float(omega_0))
        timestamps.append(Timestamp("linear", num_nodes, num_sources, activation=activation))
        weight_shape = (num_nodes, num_sources)
        slots.append(ParameterSlot(f"{prefix}.weight", "edges", edge_start, weight_shape, timestamp=layer + 1))
        slots.append(
            ParameterSlot(f"{prefix}.bias", "nodes", node_start, (num_nodes,), role="bias", timestamp=layer + 1)
        )
        edge_start += num_nodes * num_sources
        node_start += num_nodes
    return Architecture(num_inputs, tuple(timestamps), tuple(slots), family="siren", output_offset=output_offset)


def siren_key_prefix(layer: int, num_hidden: int) -> str:
    """The state_dict prefix of layer 0..num_hidden."""
    return f"net.{layer}" if layer == num_hidden else f"net.{layer}.linear"


class Sine(nn.Module):
    """sin(omega_0 (W x + b)), with the linear map as the submodule `linear`."""

    def __init__(self, num_inputs: int, num_outputs: int, omega_0: float) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, num_outputs)
        self.omega_0 = omega_0

    def forward(self, x: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        return torch.sin(self.omega_0 * self.linear(x))


class Siren(nn.Module):
    """One SIREN as a live module whose state_dict matches `siren_architecture`. Initialisation is torch's own."""

    def __init__(
        self,
        num_inputs: int,
        hidden: tuple[int, ...],
        num_outputs: int,
        omega_0: float = 30.0,
        output_offset: float = 0.0,
    ) -> None:
        super().__init__()
        widths = (num_inputs, *hidden)
        sines = [Sine(a, b, omega_0) for a, b in pairwise(widths)]
        self.net = nn.Sequential(*sines, nn.Linear(widths[-1], num_outputs))
        self.output_offset = output_offset

    def forward(self, x: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        return self.net(x) + self.output_offset
