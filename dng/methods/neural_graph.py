"""Networks as neural graphs (Kofinas et al. 2024): the vectors of nodes and edges that NG-GNN and NG-T read.

    graph -> biases of nodes, weights of edges -> [standardised] -> Fourier features -> linear -> [+ probe features of
    nodes] -> linear -> + learned embeddings of inputs, hidden layers, outputs [activations, pixels] of nodes

Settled here: the embeddings of activations and pixels are added where the others are. A transformer's norms,
positions and class token are left out, as its published loader is only known to omit the latter two.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.methods.common import by_network, full_precision
from dng.methods.neural_graph_config import NeuralGraphConfig, neural_graph_refusal, num_hidden
from dng.methods.neural_graph_raw import EdgeBlock, NodeLayer, node_layers, raw_edges, raw_nodes
from dng.methods.neural_graph_statistics import LayerMoments, LayerStatistics, augmented
from dng.methods.probes import ProbeFeatures
from dng.models.model import Reader
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class NeuralGraph:
    """B embedded graphs: `nodes` of layers of `counts` nodes, behind one another, and the edges that there are."""

    nodes: Float[Tensor, "batch nodes dim"]
    counts: tuple[int, ...]
    blocks: tuple[EdgeBlock, ...]


class NeuralGraphEmbedding(nn.Module):
    """Turns networks into graphs of vectors, `node_dim` wide for nodes and `edge_dim` wide for edges.

    Raises UsageError for networks that it can't take.
    """

    def __init__(
        self, architectures: Collection[Architecture], config: NeuralGraphConfig, node_dim: int, edge_dim: int
    ) -> None:
        super().__init__()
        if reason := neural_graph_refusal(architectures, config):
            raise UsageError(f"the zoo can't become neural graphs: {reason}")
        first = next(iter(architectures))
        self.config = config
        self.num_inputs, self.num_outputs = first.num_inputs, first.node_counts[-1]
        self.hidden_layers = config.hidden_layers
        if self.hidden_layers is None:
            self.hidden_layers = max(num_hidden(architecture) for architecture in architectures)
        # Attention has a timestamp of its own, though its nodes are those of its queries, keys and values.
        self.statistics = LayerStatistics((self.hidden_layers + 1) * (2 if config.attention else 1))
        self.node_encoder = _encoder(config.node_dim, node_dim, config)
        self.edge_encoder = _encoder(config.edge_dim * (3 if config.reverse else 1), edge_dim, config)
        self.scalar_encoder = _encoder(3 if config.reverse else 1, edge_dim, config) if config.scalar_encoder else None
        self.node_projection = nn.Linear(node_dim, node_dim)
        self.edge_projection = nn.Linear(edge_dim, edge_dim)
        self.layers = nn.Parameter(torch.randn(self.num_inputs + self.hidden_layers + self.num_outputs, node_dim))
        self.activations = _table(len(config.activations), node_dim)
        self.positions = _table(config.max_positions if config.repeat_nodes else 0, node_dim)
        self.probes = ProbeFeatures(self.num_inputs, config.num_probes) if config.num_probes else None
        num_maps = self.hidden_layers + 2 if config.num_probes else 0
        self.probe_maps = nn.ModuleList(
            nn.Sequential(nn.Linear(config.num_probes, node_dim), nn.LayerNorm(node_dim)) for _ in range(num_maps)
        )

    def forward(self, graph: GraphBatch, merge_parallel: bool = False) -> NeuralGraph:
        """The graphs of B networks; edges that a residual connection is parallel to take it in, or don't."""
        self.check(graph)
        if self.training:
            graph = augmented(graph, self.config, self.statistics)
        seen = self.statistics.standardised(graph) if self.config.standardise else graph
        blocks = raw_edges(seen, self.config, merge_parallel)
        if self.config.reverse:
            blocks = [*(_with_reverse(block, False) for block in blocks), *(_with_reverse(b, True) for b in blocks)]
        counts = tuple(layer.num_nodes for layer in node_layers(graph.architecture))
        return NeuralGraph(self._nodes(seen, graph), counts, tuple(map(self._embedded, blocks)))

    def fit(self, graphs: Iterable[GraphBatch], also: Callable[[GraphBatch], None] | None = None) -> None:
        """Measure means and deviations of layers; `also` sees every batch."""
        moments = LayerMoments(self.statistics.num_layers)
        for graph in graphs:
            self.check(graph)
            moments.add(graph)
            if also is not None:
                also(graph)
        self.statistics.set(moments)

    def absent_edge(self) -> Float[Tensor, " dim"]:
        """The vector of a pair of nodes without an edge: that of zeros."""
        zeros = self.layers.new_zeros(self.config.edge_dim * (3 if self.config.reverse else 1))
        return self.edge_projection(self.edge_encoder(zeros))

    def check(self, graph: GraphBatch) -> None:
        """Raise UsageError where a batch holds networks that this can't take."""
        reason = neural_graph_refusal(graph.architectures, replace(self.config, hidden_layers=self.hidden_layers))
        if reason:
            raise UsageError(f"the networks can't become neural graphs: {reason}")
        ends = graph.architecture.num_inputs, graph.architecture.node_counts[-1]
        if ends != (self.num_inputs, self.num_outputs):
            raise UsageError(
                f"the model was built for networks with {self.num_inputs} inputs and {self.num_outputs} outputs, "
                f"these have {ends[0]} and {ends[1]}",
                hint="train one on this zoo",
            )

    def _embedded(self, block: EdgeBlock) -> EdgeBlock:
        encoder = self.scalar_encoder if block.is_scalar else self.edge_encoder
        assert encoder is not None, "only a config with a scalar encoder has scalar edges"
        return replace(block, features=self.edge_projection(encoder(block.features)))

    def _nodes(self, seen: GraphBatch, graph: GraphBatch) -> Float[Tensor, "batch nodes dim"]:
        nodes = self.node_encoder(raw_nodes(seen, self.config))
        layers = node_layers(graph.architecture)
        if self.probes is not None:
            maps = [*self.probe_maps[: len(layers) - 1], self.probe_maps[-1]]
            features = [to_dim(answers) for to_dim, answers in zip(maps, self.probes(graph), strict=True)]
            nodes = nodes + torch.cat(features, dim=1)
        nodes = self.node_projection(nodes) + self._places(layers)
        return nodes if self.activations is None else nodes + self._activations(graph, layers)

    def _places(self, layers: Sequence[NodeLayer]) -> Float[Tensor, "nodes dim"]:
        """The embedding of every node's place: a row per input, per hidden layer, per output."""
        parts = [self.layers[: self.num_inputs].repeat_interleave(layers[0].copies, dim=0)]
        for index, layer in enumerate(layers[1:-1]):
            parts.append(self.layers[self.num_inputs + index].expand(layer.num_nodes, -1))
        places = torch.cat([*parts, self.layers[-self.num_outputs :]])
        if self.positions is None:
            return places
        pixels = [self._pixels(layer) for layer in layers]
        return places + torch.cat(pixels)

    def _pixels(self, layer: NodeLayer) -> Float[Tensor, "nodes dim"]:
        assert self.positions is not None, "only a config that repeats nodes has pixels"
        if layer.copies == 1:
            return self.positions.new_zeros(layer.num_nodes, self.positions.shape[1])
        return self.positions[: layer.copies].repeat(layer.num_nodes // layer.copies, 1)

    def _activations(self, graph: GraphBatch, layers: Sequence[NodeLayer]) -> Float[Tensor, "#batch nodes dim"]:
        """The embedding of every hidden node's activation."""
        assert self.activations is not None, "only a config that names activations has their embeddings"
        table = torch.cat([self.activations, torch.zeros_like(self.activations[:1])])
        names, ends = self.config.activations, (0, len(layers) - 1)
        rows = [
            [
                len(names) if index in ends else names.index(architecture.timestamps[layer.last - 1].activation.name)
                for index, layer in enumerate(layers)
                for _ in range(layer.num_nodes)
            ]
            for architecture in graph.architectures
        ]
        return table[by_network(graph, torch.tensor(rows, device=table.device))]


class NeuralGraphReader(Reader):
    """A method whose network reads neural graphs, and whose head reads the output nodes."""

    network: Any

    @classmethod
    def refusal(cls, architectures: Collection[Architecture], config: Any = None) -> str | None:
        return neural_graph_refusal(architectures, None if config is None else config.graph)

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        self.network.fit(graphs)


class VectorFeatures(nn.Module):
    """[cos 2 pi B x, sin 2 pi B x] of a vector x, with fixed B ~ N(0, sigma^2)."""

    frequencies: Tensor

    def __init__(self, in_dim: int, num_frequencies: int, sigma: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", sigma * torch.randn(num_frequencies, in_dim))

    def forward(self, x: Float[Tensor, "*shape f"]) -> Float[Tensor, "*shape features"]:
        with full_precision(x.device):
            phases = (2 * torch.pi) * nn.functional.linear(x, self.frequencies)
            return torch.cat([phases.cos(), phases.sin()], dim=-1)


def _encoder(in_dim: int, out_dim: int, config: NeuralGraphConfig) -> nn.Module:
    if not config.num_frequencies:
        return nn.Linear(in_dim, out_dim)
    features = VectorFeatures(in_dim, config.num_frequencies, config.sigma)
    return nn.Sequential(features, nn.Linear(2 * config.num_frequencies, out_dim))


def _table(num_rows: int, dim: int) -> nn.Parameter | None:
    return nn.Parameter(torch.randn(num_rows, dim)) if num_rows else None


def _with_reverse(block: EdgeBlock, is_reverse: bool) -> EdgeBlock:
    """[e_uv, e_vu, e_uv + e_vu] of the edges or of those back, one of which is absent."""
    weight, zero = block.features, torch.zeros_like(block.features)
    parts = (zero, weight, weight) if is_reverse else (weight, zero, weight)
    block = replace(block, features=torch.cat(parts, dim=-1))
    return block.reversed() if is_reverse else block
