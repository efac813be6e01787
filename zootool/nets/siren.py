"""SIREN: the sinusoidal MLP that stands for one image (Sitzmann et al. 2020)."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zootool.nets.siren_architecture import siren_architecture

__all__ = ["Sine", "Siren", "siren_architecture"]


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
