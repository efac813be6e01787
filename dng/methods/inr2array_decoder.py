"""The decoder of INR2ARRAY: a SIREN from every cell of a latent grid, and the image that they render together.

Every SIREN computes the pixels of its own cell alone (Zhou et al. 2023, NFT, section 4).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.models.ablations import decoding_mlp
from dng.models.siren_rendering import mlp_outputs
from zootool.architecture import Architecture

_SMALL_START = 0.01


class TensorwiseDecoder(nn.Module):
    """One MLP per weight and bias tensor of the SIREN, shared by the cells.

    The last layers begin as hypernetworks of SIRENs do (Sitzmann et al. 2020): weights a hundredth of Kaiming's, biases
    uniform within 1 / fan-in of the SIREN's layer, and within 1 / `hidden_dim` where a bias is decoded.
    """

    def __init__(self, architecture: Architecture, latent_dim: int, hidden_dim: int) -> None:
        super().__init__()
        timestamps = architecture.timestamps
        self.weights = nn.ModuleList(
            _hypernetwork(latent_dim, hidden_dim, t.num_edges, 1 / t.num_sources) for t in timestamps
        )
        self.biases = nn.ModuleList(
            _hypernetwork(latent_dim, hidden_dim, t.num_nodes, 1 / hidden_dim) for t in timestamps
        )

    def forward(
        self, latents: Float[Tensor, "sirens latent"]
    ) -> tuple[Float[Tensor, "sirens edges"], Float[Tensor, "sirens nodes"]]:
        """Weights and biases, each layer by layer."""
        weights = torch.cat([decode(latents) for decode in self.weights], dim=1)
        return weights, torch.cat([decode(latents) for decode in self.biases], dim=1)


class JointDecoder(nn.Module):
    """One MLP for all weights and biases, times a learned scale per tensor, added to a learned SIREN.

    The learned SIREN begins as SIRENs are initialised, the scales as the standard deviations of its tensors (of one
    number: as its size).
    """

    tensor_of: Tensor

    def __init__(self, architecture: Architecture, latent_dim: int, hidden_dim: int) -> None:
        super().__init__()
        tensors = _siren_start(architecture)
        sizes = [tensor.numel() for tensor in tensors]
        self.num_edges = architecture.num_edges
        self.start = nn.Parameter(torch.cat(tensors))
        self.scales = nn.Parameter(torch.stack([t.std() if len(t) > 1 else t.abs()[0] for t in tensors]))
        self.offsets = decoding_mlp(latent_dim, hidden_dim, sum(sizes))
        tensor_of = [index for index, size in enumerate(sizes) for _ in range(size)]
        self.register_buffer("tensor_of", torch.tensor(tensor_of), persistent=False)

    def forward(
        self, latents: Float[Tensor, "sirens latent"]
    ) -> tuple[Float[Tensor, "sirens edges"], Float[Tensor, "sirens nodes"]]:
        """Weights and biases, each layer by layer."""
        parameters = self.start + self.scales[self.tensor_of] * self.offsets(latents)
        return parameters[:, : self.num_edges], parameters[:, self.num_edges :]


class CellRenderer(nn.Module):
    """Images of `image_side` from a grid of `latent_side` SIRENs per axis.

    The pixel at coordinate u in [-1, 1] is in cell round((latent_side - 1) (u + 1) / 2) of its axis: cells at the
    border are half as wide.
    """

    pixels: Tensor
    places: Tensor

    def __init__(self, architecture: Architecture, latent_side: int, image_side: int) -> None:
        super().__init__()
        self.architecture, self.latent_side, self.image_side = architecture, latent_side, image_side
        cells = [round((latent_side - 1) * pixel / (image_side - 1)) for pixel in range(image_side)]
        largest = max(cells.count(cell) for cell in range(latent_side))
        # Cells are rendered at one size: the smaller ones repeat their last pixel, which isn't looked at again.
        pixels = [[p for p in range(image_side) if cells[p] == cell] for cell in range(latent_side)]
        padded = [own + own[-1:] * (largest - len(own)) for own in pixels]
        places = [cell * largest + place for cell, own in enumerate(pixels) for place in range(len(own))]
        self.register_buffer("pixels", torch.tensor(padded), persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def forward(
        self, weights: Float[Tensor, "sirens edges"], biases: Float[Tensor, "sirens nodes"]
    ) -> Float[Tensor, "batch channels side side"]:
        """The images of B grids of SIRENs, whose cells are row by row in the first axis."""
        side, size = self.pixels.shape
        points = self._points(weights)
        batch = len(weights) // len(points)
        points = points.expand(batch, -1, -1, -1).flatten(0, 1)
        values = mlp_outputs(self.architecture, weights, biases, points)
        values = values.view(batch, side, side, -1, size, size).permute(0, 3, 1, 4, 2, 5)
        image = values.flatten(4).flatten(2, 3)
        return image[:, :, self.places[:, None], self.places]

    def _points(self, like: Tensor) -> Float[Tensor, "cells 2 points"]:
        axis = torch.linspace(-1, 1, self.image_side, dtype=like.dtype, device=like.device)
        coordinates = axis[self.pixels]
        rows = coordinates[:, None, :, None].expand(-1, len(coordinates), -1, coordinates.shape[1])
        columns = coordinates[None, :, None, :].expand(len(coordinates), -1, coordinates.shape[1], -1)
        return torch.stack([rows.flatten(0, 1).flatten(1), columns.flatten(0, 1).flatten(1)], dim=1)


def _hypernetwork(in_dim: int, hidden_dim: int, out_dim: int, bias_bound: float) -> nn.Sequential:
    mlp = decoding_mlp(in_dim, hidden_dim, out_dim)
    last = mlp[-1]
    assert isinstance(last, nn.Linear)
    nn.init.kaiming_normal_(last.weight, nonlinearity="relu")
    with torch.no_grad():
        last.weight.mul_(_SMALL_START)
    nn.init.uniform_(last.bias, -bias_bound, bias_bound)
    return mlp


def _siren_start(architecture: Architecture) -> list[Tensor]:
    """The weights and then the biases of a SIREN as it is initialised, flat; biases begin as torch's own do."""
    omega_0 = architecture.timestamps[0].activation.frequency
    fan_ins = [timestamp.num_sources for timestamp in architecture.timestamps]
    bounds = [1 / fan_ins[0], *(math.sqrt(6 / fan_in) / omega_0 for fan_in in fan_ins[1:])]
    bounds += [1 / math.sqrt(fan_in) for fan_in in fan_ins]
    sizes = [t.num_edges for t in architecture.timestamps] + [t.num_nodes for t in architecture.timestamps]
    return [torch.empty(size).uniform_(-bound, bound) for size, bound in zip(sizes, bounds, strict=True)]
