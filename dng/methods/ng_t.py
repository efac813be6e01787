"""NG-T: a transformer with relational attention on neural graphs (Kofinas et al. 2024).

All pairs of nodes have an edge vector, those without an edge that of zeros. Row i, which asks, is an edge's source: a
node sees the weights that leave it, and those that arrive come in by the edges' update. Xavier-uniform weights and zero
biases are the transformer layers'; the embedding and the head begin as torch's own. Published models of the Small CNN
Zoo have 896 parameters more, embeddings of activations that nothing reads. Presets called -augmented change networks
in training, as `dng.methods.ng_gnn` says.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.methods import ng_gnn
from dng.methods.baseline import Baseline
from dng.methods.neural_graph import NeuralGraph, NeuralGraphEmbedding
from dng.methods.neural_graph_config import (
    NeuralGraphConfig,
    neural_graph_refusal,
    with_cnn_augmentation,
    with_inr_augmentation,
)
from dng.methods.neural_graph_raw import EdgeBlock, first_nodes
from dng.methods.neural_graph_statistics import LayerMoments
from dng.methods.relational_layers import RelationalEdgeUpdate, RelationalLayer
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

INR_GRAPH = replace(ng_gnn.INR_GRAPH, sigma=1.0, reverse=False)
_WIDTHS = ("node_dim", "edge_dim", "attention_dim", "node_hidden_dim", "edge_hidden_dim", "head_dim")


@dataclass(frozen=True)
class NGTConfig:
    """How networks become graphs; widths, depth and dropout of the transformer that reads them.

    `attention_dim` is that of all heads together; the two hidden widths are those of the MLPs of nodes and of edges.
    The head has `head_layers` hidden layers of `head_dim`.
    """

    graph: NeuralGraphConfig = field(default_factory=lambda: INR_GRAPH)
    node_dim: int = 64
    edge_dim: int = 32
    attention_dim: int = 128
    node_hidden_dim: int = 128
    edge_hidden_dim: int = 64
    head_dim: int = 128
    num_layers: int = 4
    num_heads: int = 8
    head_layers: int = 1
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for name in (*_WIDTHS, "num_layers", "num_heads", "head_layers"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if self.attention_dim % self.num_heads:
            raise UsageError(
                f"attention_dim (={self.attention_dim}) must be divisible by num_heads (={self.num_heads})"
            )
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.graph.scalar_encoder:
            raise UsageError("one matrix of all pairs has one encoder: scalar_encoder must be off")

    def widened(self, factor: float) -> "NGTConfig":
        """All widths times `factor`, the attention's to the nearest that its heads divide; what else there is stays."""
        widths = {name: max(1, round(factor * getattr(self, name))) for name in _WIDTHS}
        widths["attention_dim"] = self.num_heads * max(1, round(factor * self.attention_dim / self.num_heads))
        return replace(self, **widths)  # type: ignore[bad-argument-type]


INR = NGTConfig()
INR_PROBES = NGTConfig(replace(INR_GRAPH, num_probes=64))
INR_PROBES_AUGMENTED = NGTConfig(with_inr_augmentation(INR_PROBES.graph))
SMALL_CNN = replace(INR.widened(2.0), graph=replace(ng_gnn.SMALL_CNN_GRAPH, sigma=1.0), head_layers=2, dropout=0.0)
WILD_PARK = NGTConfig(
    replace(ng_gnn.WILD_PARK_GRAPH, sigma=1.0),
    node_dim=32, edge_dim=16, attention_dim=32, node_hidden_dim=64, edge_hidden_dim=64, head_dim=64,
    num_layers=3, num_heads=4, head_layers=2,
)  # fmt: skip
VIT = NGTConfig(
    replace(ng_gnn.VIT_GRAPH, sigma=1.0),
    node_dim=48, edge_dim=24, attention_dim=96, node_hidden_dim=96, edge_hidden_dim=48, head_dim=64, head_layers=2,
)  # fmt: skip


class NGT(Baseline):
    """The transformer and an MLP on the concatenated output nodes."""

    name: ClassVar[str] = "ng-t"
    presets: ClassVar[dict[str, Any]] = {
        "inr": INR,
        "inr-probes": INR_PROBES,
        "inr-probes-6m": INR_PROBES.widened(4.0),
        "inr-augmented": NGTConfig(with_inr_augmentation(INR_GRAPH)),
        "inr-probes-augmented": INR_PROBES_AUGMENTED,
        "inr-probes-6m-augmented": INR_PROBES_AUGMENTED.widened(4.0),
        "small-cnn": SMALL_CNN,
        "small-cnn-augmented": replace(SMALL_CNN, graph=with_cnn_augmentation(SMALL_CNN.graph)),
        "wild-park": WILD_PARK,
        "vit": VIT,
    }

    def __init__(self, architectures: Collection[Architecture], num_outputs: int, config: NGTConfig = INR) -> None:
        super().__init__()
        self.config = config
        self.network = RelationalTransformer(architectures, config, reads_outputs=True)
        width, layers = self.network.graph.num_outputs * config.node_dim, []
        for _ in range(config.head_layers):
            layers += [nn.Linear(width, config.head_dim), nn.ReLU()]
            width = config.head_dim
        self.head = nn.Sequential(*layers, nn.Linear(width, num_outputs))

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: NGTConfig | None = None) -> str | None:
        return neural_graph_refusal(architectures, None if config is None else config.graph)

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        self.network.fit(graphs)

    def forward(self, graph: GraphBatch) -> Float[Tensor, "batch outputs"]:
        nodes, _ = self.network(graph)
        return self.head(nodes.flatten(1))


class RelationalTransformer(nn.Module):
    """Embedding and layers. With `reads_outputs` the output nodes come back, and the last layer updates no edges.

    Otherwise all nodes come back, and all edges, updated by every layer.
    """

    def __init__(self, architectures: Collection[Architecture], config: NGTConfig, reads_outputs: bool) -> None:
        super().__init__()
        self.reads_outputs = reads_outputs
        self.graph = NeuralGraphEmbedding(architectures, config.graph, config.node_dim, config.edge_dim)
        self.layers = nn.ModuleList(_layer(config) for _ in range(config.num_layers))
        num_updates = config.num_layers - reads_outputs
        self.edge_updates = nn.ModuleList(_edge_update(config) for _ in range(num_updates))
        for module in (*self.layers.modules(), *self.edge_updates.modules()):
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        """Measure means and deviations of layers."""
        moments = LayerMoments(self.graph.statistics.num_layers)
        for graph in graphs:
            self.graph.check(graph)
            moments.add(graph)
        self.graph.statistics.set(moments)

    def forward(
        self, graph: GraphBatch
    ) -> tuple[Float[Tensor, "batch queries node_dim"], Float[Tensor, "batch queries nodes edge_dim"]]:
        """The nodes and edges behind the last layer; the rows of the edges are their sources."""
        embedded = self.graph(graph, merge_parallel=True)
        nodes, edges = embedded.nodes, self._matrix(embedded)
        num_read = embedded.counts[-1] if self.reads_outputs else sum(embedded.counts)
        for index, layer in enumerate(self.layers):
            # Rows that only nodes which aren't read would ask for are left out, here and in the last update.
            if index == len(self.layers) - 1:
                edges = edges[:, -num_read:]
            nodes = layer(nodes, edges)
            if index < len(self.edge_updates):
                is_last = index == len(self.edge_updates) - 1
                edges = self.edge_updates[index](nodes, edges, num_read if is_last else None)
        return nodes, edges

    def _matrix(self, graph: NeuralGraph) -> Float[Tensor, "batch nodes nodes edge_dim"]:
        """The edges of all pairs, rows their sources."""
        num_nodes, firsts = sum(graph.counts), first_nodes(graph.counts)
        matrix = self.graph.absent_edge().expand(graph.nodes.shape[0], num_nodes, num_nodes, -1).clone()
        for block in graph.blocks:
            _write(matrix, block, firsts)
        return matrix


def _layer(config: NGTConfig) -> RelationalLayer:
    widths = (config.node_dim, config.edge_dim, config.attention_dim, config.node_hidden_dim)
    return RelationalLayer(*widths, num_heads=config.num_heads, dropout=config.dropout)


def _edge_update(config: NGTConfig) -> RelationalEdgeUpdate:
    return RelationalEdgeUpdate(config.node_dim, config.edge_dim, config.edge_hidden_dim, config.dropout)


def _write(matrix: Float[Tensor, "batch nodes nodes dim"], block: EdgeBlock, firsts: list[int]) -> None:
    """Put the edges of a block into their places in the matrix."""
    sources, targets = (
        slice(first + nodes.start, first + nodes.stop, nodes.step)
        for first, nodes in ((firsts[end.layer], end.nodes) for end in (block.source, block.target))
    )
    if not block.is_aligned:
        matrix[:, sources, targets] = block.features.transpose(1, 2)
        return
    everything = torch.arange(matrix.shape[1], device=matrix.device)
    rows, columns, features = everything[sources], everything[targets], block.features.squeeze(2)
    if block.networks is not None:
        # Other networks may have another connection there, which is in the matrix already.
        features = torch.where(block.networks[:, None, None], features, matrix[:, rows, columns])
    matrix[:, rows, columns] = features
