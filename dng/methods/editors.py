"""NFN, NG-GNN and NG-T as editors: equivariant maps give a change of every weight and bias (stylising INRs).

The published code of the neural graphs reads biases from the first node on, shifted by the number of inputs, which
isn't equivariant; here inputs are skipped.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dng.methods import ng_gnn, ng_t
from dng.methods.common import has_bias, slot_of, with_biases
from dng.methods.neural_graph_raw import first_nodes
from dng.methods.nfn import InputEncoding, NFNLayersConfig, parameters_of
from dng.methods.nfn_layers import LAYERS, Features, nfn_refusal, rectified
from dng.methods.ng_gnn import NGGNNConfig, PNANetwork
from dng.methods.ng_t import NGTConfig, RelationalTransformer
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch

_SCALE = 0.01


class Editor(nn.Module, ABC):
    """theta + scale * change, with a learned scale per weight and per bias tensor: the same graphs with other numbers.

    Built from the architectures of the networks and a config.
    """

    name: ClassVar[str]
    presets: ClassVar[dict[str, Any]]
    config: Any

    def scale_changes(self, num_layers: int, scale: float = _SCALE) -> None:
        """Make the scales of so many layers, which begin at `scale`."""
        self.num_layers = num_layers
        self.weight_scales = nn.Parameter(torch.full((num_layers,), scale))
        self.bias_scales = nn.Parameter(torch.full((num_layers,), scale))

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        """As `Reader.fit`."""
        del graphs

    @abstractmethod
    def changes(self, graph: GraphBatch) -> Features:
        """The unscaled changes of the weights (B, n_t, n_{t-1}, k_t) and of the biases (B, n_t, 1) of t = 1..L."""

    def forward(self, graph: GraphBatch) -> GraphBatch:
        edges, nodes = [], []
        for t, (weights, biases) in enumerate(zip(*self.changes(graph), strict=True), start=1):
            slot = slot_of(graph.architecture, t, self.num_layers)
            edges.append(graph.edges[t - 1] + self.weight_scales[slot] * weights)
            # A layer without biases gets none.
            biases = graph.nodes[t - 1][..., :1] + self.bias_scales[slot] * biases * has_bias(graph, t)
            nodes.append(with_biases(graph, t, biases))
        return replace(graph, edges=tuple(edges), nodes=tuple(nodes))


@dataclass(frozen=True)
class NFNEditorConfig(NFNLayersConfig):
    """The widths and options of NFN's editor; a last layer of width 1 follows `channels`.

    `scale` is what the learned scales of the changes begin at.
    """

    channels: tuple[int, ...] = (128, 128, 128)
    sigma: float = 3.0
    io_max_frequency: float = 3.0
    scale: float = _SCALE

    @property
    def name(self) -> str:
        """The method's name: nfn-hnp-editor or nfn-np-editor."""
        return f"nfn-{self.variant}-editor"


class NFNEditor(Editor):
    """NFN's layers, without its pooling and head (Zhou et al. 2023)."""

    name: ClassVar[str] = "nfn-editor"
    presets: ClassVar[dict[str, Any]] = {
        "inr": NFNEditorConfig(),
        "inr-np": NFNEditorConfig(variant="np", io_bands=3),
    }

    def __init__(self, architectures: Collection[Architecture], config: NFNEditorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NFNEditorConfig()
        if reason := nfn_refusal(architectures):
            raise UsageError(f"{config.name} can't take the zoo: {reason}")
        architecture = next(iter(architectures))
        self.encoding = InputEncoding(config)
        widths = (self.encoding.out_dim, *config.channels, 1)
        self.layers = nn.ModuleList(LAYERS[config.variant](architecture, *pair) for pair in pairwise(widths))
        self.scale_changes(architecture.num_layers, config.scale)

    def changes(self, graph: GraphBatch) -> Features:
        features = self.encoding(*parameters_of(graph))
        for layer in self.layers[:-1]:
            features = rectified(*layer(*features))
        return self.layers[-1](*features)


class NGEditor(Editor):
    """A neural graph's network, and an MLP on the vector of every node and edge that it gives.

    Edits MLPs, whose edges have one number each. Raises UsageError for other networks.
    """

    def __init__(self, network: PNANetwork | RelationalTransformer, node_dim: int, edge_dim: int, config: Any) -> None:
        super().__init__()
        read = network.graph.config
        if read.edge_dim > 1 or read.repeat_nodes:
            raise UsageError(f"{self.name} edits MLPs, got kernel_size {read.kernel_size}, attention or repeat_nodes")
        if read.has_moves:
            raise UsageError(f"{self.name} edits the networks it is given, not rotated, scaled or translated ones")
        self.config, self.network = config, network
        self.node_head, self.edge_head = _head(node_dim), _head(edge_dim)
        self.scale_changes(network.graph.statistics.num_layers)

    def fit(self, graphs: Iterable[GraphBatch]) -> None:
        self.network.fit(graphs)

    def changes(self, graph: GraphBatch) -> Features:
        vectors = self.vectors(graph)
        return [self.edge_head(edges) for _, edges in vectors], [self.node_head(nodes) for nodes, _ in vectors]

    @abstractmethod
    def vectors(self, graph: GraphBatch) -> list[tuple[Tensor, Tensor]]:
        """Vectors of the nodes (B, n_t, d) and of the edges (B, n_t, n_{t-1}, d') of every timestamp t = 1..L."""


class NGGNNEditor(NGEditor):
    """NG-GNN's graph neural network as an editor; the last round of messages reads the edges that are decoded."""

    name: ClassVar[str] = "ng-gnn-editor"
    presets: ClassVar[dict[str, Any]] = {"inr": NGGNNConfig(replace(ng_gnn.INR_GRAPH, num_frequencies=0), dim=128)}

    def __init__(self, architectures: Collection[Architecture], config: NGGNNConfig = presets["inr"]) -> None:
        super().__init__(PNANetwork(architectures, config, reads_outputs=False), config.dim, config.dim, config)

    def vectors(self, graph: GraphBatch) -> list[tuple[Tensor, Tensor]]:
        read = self.network(graph)
        nodes = read.nodes.split(read.counts, dim=1)
        # Behind the weights, which come first, there are residual connections and reverse edges.
        weights = read.blocks[: len(nodes) - 1]
        return [(layer, block.features) for layer, block in zip(nodes[1:], weights, strict=True)]


class NGTEditor(NGEditor):
    """NG-T's transformer as an editor; every layer updates the edges."""

    name: ClassVar[str] = "ng-t-editor"
    presets: ClassVar[dict[str, Any]] = {
        "inr": NGTConfig(replace(ng_t.INR_GRAPH, sigma=3.0, reverse=True), num_heads=4, dropout=0.3)
    }

    def __init__(self, architectures: Collection[Architecture], config: NGTConfig = presets["inr"]) -> None:
        network = RelationalTransformer(architectures, config, reads_outputs=False)
        super().__init__(network, config.node_dim, config.edge_dim, config)

    def vectors(self, graph: GraphBatch) -> list[tuple[Tensor, Tensor]]:
        nodes, edges = self.network(graph)
        counts = graph.architecture.node_counts
        stretches = [slice(first, first + count) for first, count in zip(first_nodes(counts), counts, strict=True)]
        return [
            (nodes[:, targets], edges[:, sources, targets].transpose(1, 2)) for sources, targets in pairwise(stretches)
        ]


def _head(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))
