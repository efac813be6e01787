"""NG-GNN: a graph neural network on neural graphs (Kofinas et al. 2024).

Deviations from the published code, both of them its mistakes: LayerNorm is each node's own, where the code has one for
all nodes of a batch (`norm="minibatch"`), and noise in training is Gaussian, where the code adds a constant
(`NeuralGraphConfig.constant_noise`). Its unused parameters, 67,584 of the Small CNN Zoo's 5,587,969, are left out.
Published runs on INRs and on the Small CNN Zoo augment networks in training, which benchmarks at equal budgets don't:
the presets called -augmented do (`dng.methods.neural_graph_statistics`).

Messages are those of principal neighbourhood aggregation (Corso et al. 2020), computed densely per pair of layers. What
arrives at a node from several layers, over reverse edges and over residual connections is aggregated as one
neighbourhood. That of a node at which nothing arrives has mean, minimum, maximum and variance 0, and so a deviation of
sqrt(1e-5): no variance counts as less than 1e-5.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.methods.neural_graph import NeuralGraph, NeuralGraphEmbedding, NeuralGraphReader
from dng.methods.neural_graph_config import (
    ACTIVATIONS,
    NeuralGraphConfig,
    NeuralGraphSettings,
    with_cnn_augmentation,
    with_inr_augmentation,
)
from dng.methods.neural_graph_raw import EdgeBlock
from dng.methods.neural_graph_statistics import LogDegrees
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

INR_GRAPH = NeuralGraphConfig(standardise=True, reverse=True)
SMALL_CNN_GRAPH = NeuralGraphConfig(kernel_size=3, hidden_layers=3)
WILD_PARK_GRAPH = NeuralGraphConfig(kernel_size=7, hidden_layers=5, activations=ACTIVATIONS)
VIT_GRAPH = NeuralGraphConfig(attention=True, activations=ACTIVATIONS)
_SMALLEST_VARIANCE = 1e-5


@dataclass(frozen=True)
class NGGNNConfig(NeuralGraphSettings):
    """How networks become graphs; width, number of layers, dropout and norm of the network that reads them."""

    widths: ClassVar[tuple[str, ...]] = ("dim",)

    graph: NeuralGraphConfig = field(default_factory=lambda: INR_GRAPH)
    dim: int = 64
    num_layers: int = 4
    dropout: float = 0.2
    norm: str = "node"

    def __post_init__(self) -> None:
        self.check(positive=("dim", "num_layers"), shares=("dropout",))
        if self.norm not in ("node", "minibatch"):
            raise UsageError(f"norm must be node or minibatch, got {self.norm!r}")


INR = NGGNNConfig()
_PROBES = NGGNNConfig(replace(INR_GRAPH, num_probes=64))
_PROBES_AUGMENTED = NGGNNConfig(with_inr_augmentation(_PROBES.graph))
_SMALL_CNN = NGGNNConfig(replace(SMALL_CNN_GRAPH, scalar_encoder=True), dim=256, dropout=0.0)


class NGGNN(NeuralGraphReader):
    """The graph neural network and an MLP on the concatenated output nodes."""

    name: ClassVar[str] = "ng-gnn"
    presets: ClassVar[dict[str, Any]] = {
        "inr": INR,
        "inr-probes": _PROBES,
        "inr-narrow": replace(INR, dim=32),
        "inr-narrow-probes": replace(_PROBES, dim=32),
        "inr-probes-6m": replace(_PROBES, dim=284),
        "inr-probes-6m-rgb": replace(_PROBES, dim=280),
        "inr-augmented": NGGNNConfig(with_inr_augmentation(INR_GRAPH)),
        "inr-probes-augmented": _PROBES_AUGMENTED,
        "inr-probes-6m-augmented": replace(_PROBES_AUGMENTED, dim=284),
        "inr-probes-6m-rgb-augmented": replace(_PROBES_AUGMENTED, dim=280),
        "small-cnn": _SMALL_CNN,
        "small-cnn-augmented": replace(_SMALL_CNN, graph=with_cnn_augmentation(_SMALL_CNN.graph)),
        "wild-park": NGGNNConfig(WILD_PARK_GRAPH, dropout=0.0),
        "vit": NGGNNConfig(VIT_GRAPH, dim=52, dropout=0.0),
    }

    def __init__(self, architectures: Collection[Architecture], num_outputs: int, config: NGGNNConfig = INR) -> None:
        super().__init__(architectures, num_outputs, config)
        self.network = PNANetwork(architectures, config, reads_outputs=True)
        dim = config.dim
        self.head = nn.Sequential(
            nn.Linear(self.network.graph.num_outputs * dim, dim), nn.ReLU(),
            nn.Linear(dim, dim), nn.ReLU(),
            nn.Linear(dim, num_outputs),
        )  # fmt: skip

    def encode(self, graph: GraphBatch) -> Float[Tensor, "batch outputs dim"]:
        return self.network(graph).nodes[:, -self.network.graph.num_outputs :]


class PNANetwork(nn.Module):
    """Rounds of messages, and updates of the edges between them. `reads_outputs`: the output nodes alone are needed."""

    delta: Tensor

    def __init__(self, architectures: Collection[Architecture], config: NGGNNConfig, reads_outputs: bool) -> None:
        super().__init__()
        self.reads_outputs = reads_outputs
        dim, between = config.dim, range(config.num_layers - 1)
        norm = nn.LayerNorm if config.norm == "node" else MinibatchNorm
        self.graph = NeuralGraphEmbedding(architectures, config.graph, dim, dim)
        self.layers = nn.ModuleList(PNALayer(dim) for _ in range(config.num_layers))
        self.norms = nn.ModuleList(norm(dim) for _ in between)
        self.edge_updates = nn.ModuleList(PNAEdgeUpdate(dim) for _ in between)
        self.dropout = nn.Dropout(config.dropout)
        degrees = LogDegrees()
        for architecture in architectures:
            degrees.add(architecture)
        self.register_buffer("delta", torch.tensor(degrees.mean))

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        """Measure means and deviations of layers, and delta: of degrees without reverse edges, as published."""
        degrees = LogDegrees()
        self.graph.fit(graphs, degrees.add_batch)
        self.delta.fill_(degrees.mean)

    def forward(self, graph: GraphBatch) -> NeuralGraph:
        """The graphs behind the last round; their edges are those that it read."""
        embedded = self.graph(graph)
        nodes, counts, blocks = embedded.nodes, embedded.counts, embedded.blocks
        for layer, norm, update in zip(self.layers, self.norms, self.edge_updates, strict=False):
            nodes = self.dropout(nn.functional.silu(norm(layer(nodes, counts, blocks, self.delta))))
            if self.reads_outputs and update is self.edge_updates[-1]:
                # What the last round sends to other nodes would be read by nobody.
                blocks = [block for block in blocks if block.target.layer == len(counts) - 1]
            blocks = update(nodes, counts, blocks)
        return NeuralGraph(self.layers[-1](nodes, counts, blocks, self.delta), counts, tuple(blocks))


class PNALayer(nn.Module):
    """One round of messages.

    m_uv = s * Linear[x_v, x_u] + t with [s, t] = Linear e_uv, for an edge from u to v; a_v is the mean, minimum,
    maximum and deviation of what arrives, and the four times log(degree + 1) / delta; x_v <- Linear Linear [x_v, a_v].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ends = nn.Linear(2 * dim, dim)
        self.edge = nn.Linear(dim, 2 * dim)
        self.merge = nn.Linear(9 * dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, nodes: Float[Tensor, "batch nodes dim"], counts: Sequence[int], blocks: Sequence[EdgeBlock], delta: Tensor
    ) -> Float[Tensor, "batch nodes dim"]:
        of_target, of_source = self.ends.weight.chunk(2, dim=1)
        targets = nn.functional.linear(nodes, of_target, self.ends.bias).split(list(counts), dim=1)
        sources = nn.functional.linear(nodes, of_source).split(list(counts), dim=1)
        layers = []
        for index, count in enumerate(counts):
            incoming = [block for block in blocks if block.target.layer == index]
            arrivals = [_arrivals(block, self._messages(block, targets, sources), count) for block in incoming]
            layers.append(_aggregated(arrivals, targets[index], delta))
        return self.out(self.merge(torch.cat([nodes, torch.cat(layers, dim=1)], dim=-1)))

    def _messages(self, block: EdgeBlock, targets: Sequence[Tensor], sources: Sequence[Tensor]) -> Tensor:
        scale, shift = self.edge(block.features).chunk(2, dim=-1)
        return scale * (block.targets_of(targets) + block.sources_of(sources)) + shift


class PNAEdgeUpdate(nn.Module):
    """e <- Linear SiLU(Linear e + Linear x_u + Linear x_v), for an edge from u to v."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.edge, self.source, self.target, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(
        self, nodes: Float[Tensor, "batch nodes dim"], counts: Sequence[int], blocks: Sequence[EdgeBlock]
    ) -> list[EdgeBlock]:
        sources = self.source(nodes).split(list(counts), dim=1)
        targets = self.target(nodes).split(list(counts), dim=1)
        updated = []
        for block in blocks:
            hidden = self.edge(block.features) + block.sources_of(sources) + block.targets_of(targets)
            updated.append(replace(block, features=self.out(nn.functional.silu(hidden))))
        return updated


class MinibatchNorm(nn.Module):
    """One mean and one deviation for all nodes and channels of all networks of a batch, then a scale and a shift.

    What the published code does by mistake: a network's output depends on the others in its batch.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "batch nodes dim"]) -> Float[Tensor, "batch nodes dim"]:
        return (x - x.mean()) / (x.std(correction=0) + self.eps) * self.weight + self.bias


@dataclass(frozen=True)
class _Arrivals:
    """How many messages arrive at the nodes of a layer, their sum, sum of squares, minimum and maximum."""

    degree: Float[Tensor, "#batch nodes 1"]
    total: Float[Tensor, "batch nodes dim"]
    square: Float[Tensor, "batch nodes dim"]
    low: Float[Tensor, "batch nodes dim"]
    high: Float[Tensor, "batch nodes dim"]

    def __add__(self, other: "_Arrivals") -> "_Arrivals":
        return _Arrivals(
            self.degree + other.degree,
            self.total + other.total,
            self.square + other.square,
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
        )


def _arrivals(block: EdgeBlock, messages: Float[Tensor, "batch targets sources dim"], num_nodes: int) -> _Arrivals:
    degree = messages.new_full((1, messages.shape[1], 1), messages.shape[2])
    parts = (degree, messages.sum(2), messages.square().sum(2), messages.amin(2), messages.amax(2))
    fills = (0.0, 0.0, 0.0, torch.inf, -torch.inf)
    if block.networks is not None:
        has_it = block.networks[:, None, None]
        parts = tuple(torch.where(has_it, part, fill) for part, fill in zip(parts, fills, strict=True))
    if messages.shape[1] == num_nodes:
        return _Arrivals(*parts)
    return _Arrivals(*(_spread(block, part, num_nodes, fill) for part, fill in zip(parts, fills, strict=True)))


def _spread(block: EdgeBlock, part: Tensor, num_nodes: int, fill: float) -> Tensor:
    """What arrives at some nodes of a layer, and `fill` at the others."""
    whole = part.new_full((part.shape[0], num_nodes, part.shape[2]), fill)
    whole[:, block.target.nodes] = part
    return whole


def _aggregated(arrivals: Sequence[_Arrivals], like: Tensor, delta: Tensor) -> Float[Tensor, "batch nodes features"]:
    if not arrivals:
        zero = torch.zeros_like(like)
        arrived = _Arrivals(zero[:1, :, :1], zero, zero, zero, zero)
    else:
        arrived = reduce(_Arrivals.__add__, arrivals)
    count = arrived.degree.clamp_min(1)
    mean = arrived.total / count
    variance = (arrived.square / count - mean.square()).clamp_min(_SMALLEST_VARIANCE)
    ends = [torch.where(arrived.degree > 0, end, 0.0) for end in (arrived.low, arrived.high)]
    identity = torch.cat([mean, *ends, variance.sqrt()], dim=-1)
    return torch.cat([identity, identity * (arrived.degree + 1).log() / delta], dim=-1)
