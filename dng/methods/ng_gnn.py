"""NG-GNN: a graph neural network on neural graphs (Kofinas et al. 2024).

Deviations from the published code, both of them its mistakes: LayerNorm is each node's own, where the code has one for
all nodes of a batch (`norm="minibatch"`), and noise in training is Gaussian, where the code adds a constant
(`NeuralGraphConfig.constant_noise`). Its unused parameters, 67,584 of the Small CNN Zoo's 5,587,969, are left out.
Published runs on INRs and on the Small CNN Zoo augment networks in training, which benchmarks at equal budgets don't:
the presets called -augmented do (`dng.methods.augmentations`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.methods.baseline import Baseline
from dng.methods.neural_graph import NeuralGraph, NeuralGraphEmbedding
from dng.methods.neural_graph_config import (
    ACTIVATIONS,
    NeuralGraphConfig,
    neural_graph_refusal,
    with_cnn_augmentation,
    with_inr_augmentation,
)
from dng.methods.neural_graph_statistics import LayerMoments, LogDegrees
from dng.methods.pna import MinibatchNorm, PNAEdgeUpdate, PNALayer
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

INR_GRAPH = NeuralGraphConfig(standardise=True, reverse=True)
SMALL_CNN_GRAPH = NeuralGraphConfig(kernel_size=3, hidden_layers=3)
WILD_PARK_GRAPH = NeuralGraphConfig(kernel_size=7, hidden_layers=5, activations=ACTIVATIONS)
VIT_GRAPH = NeuralGraphConfig(attention=True, activations=ACTIVATIONS)


@dataclass(frozen=True)
class NGGNNConfig:
    """How networks become graphs; width, number of layers, dropout and norm of the network that reads them."""

    graph: NeuralGraphConfig = field(default_factory=lambda: INR_GRAPH)
    dim: int = 64
    num_layers: int = 4
    dropout: float = 0.2
    norm: str = "node"

    def __post_init__(self) -> None:
        for name in ("dim", "num_layers"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.norm not in ("node", "minibatch"):
            raise UsageError(f"norm must be node or minibatch, got {self.norm!r}")

    def widened(self, factor: float) -> "NGGNNConfig":
        """The width times `factor`; depth, Fourier features and probes stay."""
        return replace(self, dim=max(1, round(factor * self.dim)))


INR = NGGNNConfig()
INR_PROBES = NGGNNConfig(replace(INR_GRAPH, num_probes=64))
INR_PROBES_AUGMENTED = NGGNNConfig(with_inr_augmentation(INR_PROBES.graph))
SMALL_CNN = NGGNNConfig(replace(SMALL_CNN_GRAPH, scalar_encoder=True), dim=256, dropout=0.0)


class NGGNN(Baseline):
    """The graph neural network and an MLP on the concatenated output nodes."""

    name: ClassVar[str] = "ng-gnn"
    presets: ClassVar[dict[str, Any]] = {
        "inr": INR,
        "inr-probes": INR_PROBES,
        "inr-narrow": replace(INR, dim=32),
        "inr-narrow-probes": replace(INR_PROBES, dim=32),
        "inr-probes-6m": replace(INR_PROBES, dim=284),
        "inr-probes-6m-rgb": replace(INR_PROBES, dim=280),
        "inr-augmented": NGGNNConfig(with_inr_augmentation(INR_GRAPH)),
        "inr-probes-augmented": INR_PROBES_AUGMENTED,
        "inr-probes-6m-augmented": replace(INR_PROBES_AUGMENTED, dim=284),
        "inr-probes-6m-rgb-augmented": replace(INR_PROBES_AUGMENTED, dim=280),
        "small-cnn": SMALL_CNN,
        "small-cnn-augmented": replace(SMALL_CNN, graph=with_cnn_augmentation(SMALL_CNN.graph)),
        "wild-park": NGGNNConfig(WILD_PARK_GRAPH, dropout=0.0),
        "vit": NGGNNConfig(VIT_GRAPH, dim=52, dropout=0.0),
    }

    def __init__(self, architectures: Collection[Architecture], num_outputs: int, config: NGGNNConfig = INR) -> None:
        super().__init__()
        self.config = config
        self.network = PNANetwork(architectures, config, reads_outputs=True)
        dim = config.dim
        self.head = nn.Sequential(
            nn.Linear(self.network.graph.num_outputs * dim, dim), nn.ReLU(),
            nn.Linear(dim, dim), nn.ReLU(),
            nn.Linear(dim, num_outputs),
        )  # fmt: skip

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: NGGNNConfig | None = None) -> str | None:
        return neural_graph_refusal(architectures, None if config is None else config.graph)

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        self.network.fit(graphs)

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch outputs"]:
        nodes = self.network(graph).nodes
        return self.head(nodes[:, -self.network.graph.num_outputs :].flatten(1))


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
        moments, degrees = LayerMoments(self.graph.statistics.num_layers), LogDegrees()
        for graph in graphs:
            self.graph.check(graph)
            moments.add(graph)
            degrees.add_batch(graph)
        self.graph.statistics.set(moments)
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
