"""Random Fourier features of scalars: what turns a weight or a bias into a vector (method, section 2)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """g(x) = [sin(2 pi x f), cos(2 pi x f)] of a scalar x, with F fixed frequencies f ~ N(0, sigma^2).

    The frequencies are a buffer: drawn once, saved with the model, never trained. They come from torch's current
    generator; `dng.seed.seeded` makes them repeatable.
    """

    frequencies: Tensor

    def __init__(self, num_frequencies: int, sigma: float) -> None:
        super().__init__()
        if num_frequencies < 1 or sigma <= 0:
            raise ValueError(f"need at least one frequency and a positive sigma, got {num_frequencies} and {sigma}")
        self.register_buffer("frequencies", sigma * torch.randn(num_frequencies))

    @property
    def out_dim(self) -> int:
        """2 F."""
        return 2 * self.frequencies.shape[0]

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "... features"]:
        angles = (2 * math.pi) * x[..., None] * self.frequencies
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)
