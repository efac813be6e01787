"""The published end of NFN classifiers: features of weights and biases pooled over neurons, then an MLP.

Features are given per layer l = 1..L: weights (B, C_l, n_l, n_{l-1}) and biases (B, C, n_l). A convolution's k edges
per pair are folded into the channels, C_l = C k_l. Zhou et al. (2023), "Permutation Equivariant Neural Functionals".
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.models.heads import mlp_head
from zootool.architecture import Architecture

Weights = Sequence[Float[Tensor, "batch _channels _targets _sources"]]
Biases = Sequence[Float[Tensor, "batch channels _targets"]]


class NPPool(nn.Module):
    """The means of every W^l and b^l. Invariant to permutations of all neurons, inputs and outputs included."""

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        self.out_dim = channels * (sum(architecture.edges_per_pair) + architecture.num_layers)

    def forward(self, weights: Weights, biases: Biases) -> Float[Tensor, "batch features"]:
        means = [weight.mean(dim=(2, 3)) for weight in weights] + [bias.mean(dim=2) for bias in biases]
        return torch.cat(means, dim=1)


class HNPPool(nn.Module):
    """The means of every W^l and b^l, but W^1 keeps its inputs, W^L its outputs and b^L is whole.

    Invariant to permutations of hidden neurons only.
    """

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        counts, kernels = architecture.node_counts, architecture.edges_per_pair
        ends = counts[0] * kernels[0] + counts[-1] * (kernels[-1] + 1)
        self.out_dim = channels * (ends + sum(kernels[1:-1]) + architecture.num_layers - 1)

    def forward(self, weights: Weights, biases: Biases) -> Float[Tensor, "batch features"]:
        ends = [weights[0].mean(dim=2), weights[-1].mean(dim=3), biases[-1]]
        means = [weight.mean(dim=(2, 3)) for weight in weights[1:-1]] + [bias.mean(dim=2) for bias in biases[:-1]]
        return torch.cat([end.flatten(1) for end in ends] + means, dim=1)


def nfn_head(in_dim: int, num_outputs: int, hidden_dim: int = 1000, dropout: float = 0.5) -> nn.Sequential:
    """The published head: two of (Linear, ReLU, dropout), then Linear."""
    return mlp_head(in_dim, hidden_dim, num_outputs, dropout)
