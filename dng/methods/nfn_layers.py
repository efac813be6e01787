"""NFN's equivariant linear layers: NP for networks all of whose neurons permute, HNP where only hidden ones do.

Features of layer l = 1..L are weights (B, n_l, n_{l-1}, C k_l) and biases (B, n_l, C), a convolution's k edges per
pair folded into the channels. Channels are last, so that every map is one matrix product. Of their means, r^l_j is
that of W^l over its targets, c^l_i over its sources, and g all means of whole tensors. The letters in the docstrings
are learned affine maps with weights of their own in every layer l; terms beyond the first and the last layer are left
out. Zhou et al. (2023), "Permutation Equivariant Neural Functionals", with the published code's initialisation.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zootool.architecture import Architecture

Weights = Sequence[Float[Tensor, "batch _targets _sources _channels"]]
Biases = Sequence[Float[Tensor, "batch _targets channels"]]
Features = tuple[list[Tensor], list[Tensor]]
"""Weights and biases."""

Variant = Literal["hnp", "np"]


def nfn_refusal(architectures: Collection[Architecture]) -> str | None:
    """Why maps between the layers of fixed networks can't take these, and what can; None where they can."""
    if not architectures:
        return "it has no networks"
    timestamps = [timestamp for architecture in architectures for timestamp in architecture.timestamps]
    reasons = {
        "differ in depth": len({architecture.num_layers for architecture in architectures}) > 1,
        "differ in width": len({architecture.node_counts for architecture in architectures}) > 1,
        "differ in kernel size": len({architecture.edges_per_pair for architecture in architectures}) > 1,
        "have attention": any(timestamp.traits.is_coupled for timestamp in timestamps),
        "have residual connections": any(timestamp.residuals for timestamp in timestamps),
        "have no hidden layer": len(timestamps) == len(architectures),
    }
    for reason, holds in reasons.items():
        if holds:
            return f"its networks {reason}; the DNG-Encoder and the neural-graph methods (ng-gnn, ng-t) can"
    if any(timestamp.norm or timestamp.source_norm for timestamp in timestamps):
        return "its networks have norm layers; the DNG-Encoder can"
    return None


class NPLayer(nn.Module):
    """The linear layer that is equivariant to permutations of all neurons, inputs and outputs included.

    W'^l_ij = A W^l_ij + G g + R [r^l_j, c^(l-1)_j, b^(l-1)_j] + S [c^l_i, b^l_i, r^(l+1)_i]
    b'^l_i = D [c^l_i, b^l_i, r^(l+1)_i] + E g
    """

    def __init__(self, architecture: Architecture, in_channels: int, out_channels: int) -> None:
        super().__init__()
        kernels = architecture.edges_per_pair
        overall = in_channels * (sum(kernels) + len(kernels))
        self.weight_maps, self.bias_maps = nn.ModuleList(), nn.ModuleList()
        for index, kernel in enumerate(kernels):
            rows = in_channels * (kernel + (kernels[index - 1] + 1 if index > 0 else 0))
            columns = in_channels * (kernel + 1 + sum(kernels[index + 1 : index + 2]))
            own, out = in_channels * kernel, out_channels * kernel
            self.weight_maps.append(_WeightMap(own, overall, rows, columns, out))
            self.bias_maps.append(_NeuronMap(columns, overall, out_channels))

    def forward(self, weights: Weights, biases: Biases) -> Features:
        means = _Means.of(weights, biases)
        new_weights, new_biases = [], []
        for index, weight in enumerate(weights):
            rows, columns = means.row_parts(index, biases), means.column_parts(index, biases)
            columns = torch.cat(columns, dim=-1)
            new_weights.append(self.weight_maps[index](weight, means.overall, torch.cat(rows, dim=-1), columns))
            new_biases.append(self.bias_maps[index](columns, means.overall))
        return new_weights, new_biases


class HNPLayer(nn.Module):
    """The linear layer that is equivariant to permutations of hidden neurons; inputs and outputs keep their places.

    Its h is g with r^1, c^L and b^L. Layers between the first and the last are as in NP, with h for g; R reads
    W^1_j,: too in layer 2, and S and D read W^L_:,i in layer L-1.
    W'^1_i,: = P [W^1_i,:, r^2_i, b^1_i] + Q h, b'^1_i = D [the same] + E h
    W'^L_:,j = P [W^L_:,j, c^(L-1)_j] + Q h, b'^L = E h
    With L = 2 the first layer reads W^2_:,i too, and the last W^1_j,:. Two or more layers are needed.
    """

    def __init__(self, architecture: Architecture, in_channels: int, out_channels: int) -> None:
        super().__init__()
        counts, kernels = architecture.node_counts, architecture.edges_per_pair
        self._ends = counts[0], counts[-1]
        first, last = counts[0] * kernels[0], counts[-1] * kernels[-1]
        overall = in_channels * (sum(kernels) + len(kernels) + first + last + counts[-1])
        self.middle_weights, self.middle_biases = nn.ModuleList(), nn.ModuleList()
        for index, (before, kernel, behind) in enumerate(zip(kernels, kernels[1:], kernels[2:], strict=False), start=1):
            rows = in_channels * (kernel + before + 1 + (first if index == 1 else 0))
            columns = in_channels * (kernel + 1 + behind + (last if index == len(kernels) - 2 else 0))
            self.middle_weights.append(_WeightMap(in_channels * kernel, overall, rows, columns, kernel * out_channels))
            self.middle_biases.append(_NeuronMap(columns, overall, out_channels))
        neighbours = (last, first) if len(kernels) == 2 else (0, 0)
        into_first = in_channels * (first + kernels[1] + 1 + neighbours[0])
        into_last = in_channels * (last + kernels[-2] + neighbours[1])
        self.first_weight = _NeuronMap(into_first, overall, first * out_channels, joint_init=False)
        self.first_bias = _NeuronMap(into_first, overall, out_channels)
        self.last_weight = _NeuronMap(into_last, overall, last * out_channels)
        self.last_bias = nn.Linear(overall, counts[-1] * out_channels)

    def forward(self, weights: Weights, biases: Biases) -> Features:
        means = _Means.of(weights, biases)
        overall = [means.overall, means.rows[0].flatten(1), means.columns[-1].flatten(1), biases[-1].flatten(1)]
        overall = torch.cat(overall, dim=-1)
        # What hidden neurons have of the ends: every neuron of layer 1 its inputs, of layer L-1 its outputs.
        first, last = weights[0].flatten(2), weights[-1].transpose(1, 2).flatten(2)
        middle = self._middle(weights, biases, means, overall, (first, last))
        ends = self._both_ends(biases, means, overall, (first, last))
        return [ends[0], *middle[0], ends[1]], [ends[2], *middle[1], ends[3]]

    def _middle(
        self, weights: Weights, biases: Biases, means: "_Means", overall: Tensor, ends: tuple[Tensor, Tensor]
    ) -> Features:
        new_weights, new_biases = [], []
        maps = zip(self.middle_weights, self.middle_biases, strict=True)
        for index, (weight_map, bias_map) in enumerate(maps, start=1):
            rows = means.row_parts(index, biases) + ([ends[0]] if index == 1 else [])
            columns = means.column_parts(index, biases) + ([ends[1]] if index == len(weights) - 2 else [])
            columns = torch.cat(columns, dim=-1)
            new_weights.append(weight_map(weights[index], overall, torch.cat(rows, dim=-1), columns))
            new_biases.append(bias_map(columns, overall))
        return new_weights, new_biases

    def _both_ends(
        self, biases: Biases, means: "_Means", overall: Tensor, ends: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W'^1, W'^L, b'^1 and b'^L."""
        first, last = ends
        touching = len(biases) == 2
        into_first = torch.cat([first, means.rows[1], biases[0], *([last] if touching else [])], dim=-1)
        into_last = torch.cat([last, means.columns[-2], *([first] if touching else [])], dim=-1)
        num_inputs, num_outputs = self._ends
        return (
            self.first_weight(into_first, overall).unflatten(-1, (num_inputs, -1)),
            self.last_weight(into_last, overall).unflatten(-1, (num_outputs, -1)).transpose(1, 2),
            self.first_bias(into_first, overall),
            self.last_bias(overall).unflatten(-1, (num_outputs, -1)),
        )


class IOEmbedding(nn.Module):
    """A learned vector added to the weights of every input, to those of every output and to the output's bias.

    They tell apart the inputs, and the outputs, that NP layers would confuse.
    """

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        counts, kernels = architecture.node_counts, architecture.edges_per_pair
        self.inputs = nn.Parameter(torch.randn(counts[0], channels * kernels[0]))
        self.outputs = nn.Parameter(torch.randn(counts[-1], channels * kernels[-1]))
        self.output_biases = nn.Parameter(torch.randn(counts[-1], channels))

    def forward(self, weights: Weights, biases: Biases) -> Features:
        ends = weights[0] + self.inputs, weights[-1] + self.outputs[:, None]
        return [ends[0], *weights[1:-1], ends[1]], [*biases[:-1], biases[-1] + self.output_biases]


LAYERS: dict[str, type[HNPLayer] | type[NPLayer]] = {"hnp": HNPLayer, "np": NPLayer}


def rectified(weights: Weights, biases: Biases) -> Features:
    """ReLU, in place."""
    return [weight.relu_() for weight in weights], [bias.relu_() for bias in biases]


@dataclass(frozen=True)
class _Means:
    """r^l (B, n_{l-1}, C_l) and c^l (B, n_l, C_l) of the layers, and g (B, features). Indices begin at 0."""

    rows: list[Tensor]
    columns: list[Tensor]
    overall: Tensor

    @classmethod
    def of(cls, weights: Weights, biases: Biases) -> "_Means":
        rows, columns = [weight.mean(dim=1) for weight in weights], [weight.mean(dim=2) for weight in weights]
        parts = [row.mean(dim=1) for row in rows] + [bias.mean(dim=1) for bias in biases]
        return cls(rows, columns, torch.cat(parts, dim=-1))

    def row_parts(self, index: int, biases: Biases) -> list[Tensor]:
        """What R reads: the means that each source of a layer knows."""
        before = [self.columns[index - 1], biases[index - 1]] if index > 0 else []
        return [self.rows[index], *before]

    def column_parts(self, index: int, biases: Biases) -> list[Tensor]:
        """What S and D read: the means that each target of a layer knows."""
        return [self.columns[index], biases[index], *self.rows[index + 1 : index + 2]]


class _WeightMap(nn.Module):
    """A of every weight + G of the whole network + R of every source + S of every target."""

    def __init__(self, own: int, overall: int, rows: int, columns: int, out: int) -> None:
        super().__init__()
        self.own, self.overall = nn.Linear(own, out), nn.Linear(overall, out)
        self.rows, self.columns = nn.Linear(rows, out), nn.Linear(columns, out)
        _init_together(self.own, self.overall, self.rows, self.columns)

    def forward(
        self,
        weight: Float[Tensor, "batch targets sources own"],
        overall: Float[Tensor, "batch overall"],
        rows: Float[Tensor, "batch sources rows"],
        columns: Float[Tensor, "batch targets columns"],
    ) -> Float[Tensor, "batch targets sources out"]:
        by_source = self.rows(rows) + self.overall(overall)[:, None]
        # In place: what is as large as the weights is made only once.
        return self.own(weight).add_(by_source[:, None]).add_(self.columns(columns)[:, :, None])


class _NeuronMap(nn.Module):
    """P of every neuron + Q of the whole network."""

    def __init__(self, neurons: int, overall: int, out: int, joint_init: bool = True) -> None:
        super().__init__()
        self.neurons, self.overall = nn.Linear(neurons, out), nn.Linear(overall, out)
        if joint_init:
            _init_together(self.neurons, self.overall)

    def forward(
        self, neurons: Float[Tensor, "batch neurons features"], overall: Float[Tensor, "batch overall"]
    ) -> Float[Tensor, "batch neurons out"]:
        return self.neurons(neurons) + self.overall(overall)[:, None]


def _init_together(*maps: nn.Linear) -> None:
    """The maps that are summed into one output, as if they were one nn.Linear of all their inputs."""
    bound = 1 / math.sqrt(sum(linear.in_features for linear in maps))
    for linear in maps:
        nn.init.uniform_(linear.weight, -bound, bound)
        nn.init.uniform_(linear.bias, -bound, bound)
