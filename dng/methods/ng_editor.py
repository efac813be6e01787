"""NG-GNN and NG-T as editors: an MLP on every node and edge gives a change of its bias or weight.

The published code reads biases from the first node on, shifted by the number of inputs, which isn't equivariant; here
inputs are skipped.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dng.methods import ng_gnn, ng_t
from dng.methods.baseline import Editor
from dng.methods.neural_graph_raw import first_nodes
from dng.methods.neural_graph_statistics import has_bias, slot_of
from dng.methods.ng_gnn import NGGNNConfig, PNANetwork
from dng.methods.ng_t import NGTConfig, RelationalTransformer
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

_SCALE = 0.01
GNN_EDITOR = NGGNNConfig(replace(ng_gnn.INR_GRAPH, num_frequencies=0), dim=128)
T_EDITOR = NGTConfig(replace(ng_t.INR_GRAPH, sigma=3.0, reverse=True), num_heads=4, dropout=0.3)


class NGEditor(Editor):
    """theta + scale * MLP(node or edge), with a learned scale per weight and per bias tensor, 0.01 at first.

    Edits MLPs, whose edges have one number each. Raises UsageError for other networks.
    """

    presets: ClassVar[dict[str, Any]]

    def __init__(self, network: PNANetwork | RelationalTransformer, node_dim: int, edge_dim: int) -> None:
        super().__init__()
        read = network.graph.config
        if read.edge_dim > 1 or read.repeat_nodes:
            raise UsageError(f"{self.name} edits MLPs, got kernel_size {read.kernel_size}, attention or repeat_nodes")
        if read.has_moves:
            raise UsageError(f"{self.name} edits the networks it is given, not rotated, scaled or translated ones")
        self.network = network
        self.node_head, self.edge_head = _head(node_dim), _head(edge_dim)
        self.num_layers = network.graph.statistics.num_layers
        self.weight_scales = nn.Parameter(torch.full((self.num_layers,), _SCALE))
        self.bias_scales = nn.Parameter(torch.full((self.num_layers,), _SCALE))

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        self.network.fit(graphs)

    def forward(self, graph: GraphBatch) -> GraphBatch:
        edges, nodes = [], []
        for t, (node_vectors, edge_vectors) in enumerate(self.vectors(graph), start=1):
            slot, bias, rest = (
                slot_of(graph.architecture, t, self.num_layers),
                *graph.nodes[t - 1].tensor_split([1], -1),
            )
            # A layer without biases gets none.
            bias = bias + self.bias_scales[slot] * self.node_head(node_vectors) * has_bias(graph, t)
            edges.append(graph.edges[t - 1] + self.weight_scales[slot] * self.edge_head(edge_vectors))
            nodes.append(torch.cat([bias, rest], dim=-1))
        return replace(graph, edges=tuple(edges), nodes=tuple(nodes))

    @abstractmethod
    def vectors(self, graph: GraphBatch) -> list[tuple[Tensor, Tensor]]:
        """Vectors of the nodes (B, n_t, d) and of the edges (B, n_t, n_{t-1}, d') of every timestamp t = 1..L."""


class NGGNNEditor(NGEditor):
    """NG-GNN's graph neural network as an editor; the last round of messages reads the edges that are decoded."""

    name: ClassVar[str] = "ng-gnn-editor"
    presets: ClassVar[dict[str, Any]] = {"inr": GNN_EDITOR}

    def __init__(self, architectures: Collection[Architecture], config: NGGNNConfig = GNN_EDITOR) -> None:
        super().__init__(PNANetwork(architectures, config, reads_outputs=False), config.dim, config.dim)
        self.config = config

    def vectors(self, graph: GraphBatch) -> list[tuple[Tensor, Tensor]]:
        read = self.network(graph)
        nodes = read.nodes.split(read.counts, dim=1)
        # Behind the weights, which come first, there are residual connections and reverse edges.
        weights = read.blocks[: len(nodes) - 1]
        return [(layer, block.features) for layer, block in zip(nodes[1:], weights, strict=True)]


class NGTEditor(NGEditor):
    """NG-T's transformer as an editor; every layer updates the edges."""

    name: ClassVar[str] = "ng-t-editor"
    presets: ClassVar[dict[str, Any]] = {"inr": T_EDITOR}

    def __init__(self, architectures: Collection[Architecture], config: NGTConfig = T_EDITOR) -> None:
        network = RelationalTransformer(architectures, config, reads_outputs=False)
        super().__init__(network, config.node_dim, config.edge_dim)
        self.config = config

    def vectors(self, graph: GraphBatch) -> list[tuple[Tensor, Tensor]]:
        nodes, edges = self.network(graph)
        counts = graph.architecture.node_counts
        stretches = [slice(first, first + count) for first, count in zip(first_nodes(counts), counts, strict=True)]
        return [
            (nodes[:, targets], edges[:, sources, targets].transpose(1, 2)) for sources, targets in pairwise(stretches)
        ]


def _head(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))
