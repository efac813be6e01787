"""The published end of NFN classifiers: features of weights and biases pooled over neurons, then an MLP (NFN, 2023).

Features are given per layer l = 1..L: weights (B, C_l, n_l, n_{l-1}) and biases (B, C, n_l). A convolution's k edges
per pair are folded into the channels, C_l = C k_l. Zhou et al., "Permutation Equivariant Neural Functionals".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zootool.architecture import Architecture

Weights = Sequence[Float[Tensor, "batch _channels _targets _sources"]]
Biases = Sequence[Float[Tensor, "batch channels _targets"]]


@dataclass(frozen=True)
class Means:
    """The means that maps of layer l = 1..L read from their own layer and its neighbours; indices begin at 0.

    `rows[l-1]` is r^l, the mean of W^l over its targets (B, C_l, n_{l-1}); `columns[l-1]` is c^l, the mean over its
    sources (B, C_l, n_l). `weights[l-1]` (B, C_l) and `biases[l-1]` (B, C) are the means of all of W^l and b^l.
    """

    rows: tuple[Float[Tensor, "batch _channels _sources"], ...]
    columns: tuple[Float[Tensor, "batch _channels _targets"], ...]
    weights: tuple[Float[Tensor, "batch _channels"], ...]
    biases: tuple[Float[Tensor, "batch channels"], ...]

    @classmethod
    def of(cls, weights: Weights, biases: Biases) -> "Means":
        """All of them, each weight being read twice."""
        rows = tuple(weight.mean(dim=2) for weight in weights)
        return cls(
            rows=rows,
            columns=tuple(weight.mean(dim=3) for weight in weights),
            weights=tuple(row.mean(dim=2) for row in rows),
            biases=tuple(bias.mean(dim=2) for bias in biases),
        )


class NPPool(nn.Module):
    """g: the means of every W^l and b^l. Invariant to permutations of all neurons, inputs and outputs included."""

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        self.out_dim = channels * (sum(architecture.edges_per_pair) + architecture.num_layers)

    def forward(self, weights: Weights, biases: Biases) -> Float[Tensor, "batch features"]:
        means = Means.of(weights, biases)
        return torch.cat([*means.weights, *means.biases], dim=1)


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
        means = Means.of(weights, biases)
        ends = (means.rows[0], means.columns[-1], biases[-1])
        parts = [end.flatten(1) for end in ends]
        return torch.cat([*parts, *means.weights[1:-1], *means.biases[:-1]], dim=1)


def nfn_head(in_dim: int, num_outputs: int, hidden_dim: int = 1000, dropout: float = 0.5) -> nn.Sequential:
    """The published head: two of (Linear, ReLU, dropout), then Linear."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden_dim, hidden_dim),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden_dim, num_outputs),
    )
