"""Networks as neural graphs before anything is learned: layers of nodes, and edges between pairs of them.

Nodes are inputs, neurons or channels. A transformer's query, key and value of a head's channel are one node, which is
that channel of the attention's output too. Edges exist between consecutive layers alone, and from residual
connections; they stay dense per pair of layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dng.methods.by_network import by_network
from dng.methods.neural_graph_config import NeuralGraphConfig, kernel_of, num_positions
from zootool.architecture import Architecture
from zootool.graph import BatchResidual, GraphBatch, residuals_of


@dataclass(frozen=True)
class NodeLayer:
    """Nodes of a neural graph: those of the timestamps `first`..`last`, each `copies` times, copies side by side."""

    first: int
    last: int
    num_nodes: int
    copies: int = 1


@dataclass(frozen=True)
class Stretch:
    """Some nodes of one layer of a neural graph."""

    layer: int
    nodes: slice

    def of(self, layers: Sequence[Float[Tensor, "batch _nodes dim"]]) -> Float[Tensor, "batch nodes dim"]:
        """What `layers`, the nodes of every layer, hold of it."""
        return layers[self.layer][:, self.nodes]


@dataclass(frozen=True)
class EdgeBlock:
    """Edges from all of `source` to all of `target`, (B, targets, sources, f), or of equal places, (B, nodes, 1, f).

    The latter are `is_aligned`: those of residual connections, which the `networks` marked have, or all. `is_scalar`
    says that a scalar encoder is to read them.
    """

    source: Stretch
    target: Stretch
    features: Float[Tensor, "batch targets sources f"]
    is_aligned: bool = False
    networks: Bool[Tensor, " batch"] | None = None
    is_scalar: bool = False

    def sources_of(self, layers: Sequence[Tensor]) -> Float[Tensor, "batch _targets _sources dim"]:
        """The sources' vectors, to be broadcast over the targets."""
        return self.source.of(layers)[:, :, None] if self.is_aligned else self.source.of(layers)[:, None]

    def targets_of(self, layers: Sequence[Tensor]) -> Float[Tensor, "batch targets 1 dim"]:
        """The targets' vectors, to be broadcast over the sources."""
        return self.target.of(layers)[:, :, None]

    def reversed(self) -> "EdgeBlock":
        """The same edges from target to source."""
        features = self.features if self.is_aligned else self.features.transpose(1, 2)
        return replace(self, source=self.target, target=self.source, features=features)


def node_layers(architecture: Architecture) -> tuple[NodeLayer, ...]:
    """The layers l = 0, 1, ... of a network's nodes, the inputs first."""
    layers = [NodeLayer(0, 0, architecture.num_inputs)]
    for t, timestamp in enumerate(architecture.timestamps, start=1):
        if not timestamp.traits.has_edges:
            layers[-1] = NodeLayer(t - 1, t, timestamp.num_nodes)
            continue
        copies, before = num_positions(timestamp), layers[-1]
        layers[-1] = replace(before, num_nodes=copies * before.num_nodes, copies=copies)
        layers.append(NodeLayer(t, t, timestamp.num_nodes))
    return tuple(layers)


def raw_nodes(graph: GraphBatch, config: NeuralGraphConfig) -> Float[Tensor, "batch nodes f"]:
    """The biases of all layers behind one another; the inputs', and those that a network lacks, are zero."""
    layers = node_layers(graph.architecture)
    parts = [graph.nodes[0].new_zeros(len(graph), layers[0].num_nodes, config.node_dim)]
    for layer in layers[1:]:
        biases = graph.nodes[layer.first - 1][..., :1]
        if graph.architecture.timestamps[layer.first - 1].kind == "qkv":
            biases = biases.squeeze(-1).unflatten(1, (3, -1)).transpose(1, 2)
        biases = torch.nn.functional.pad(biases, (0, config.node_dim - biases.shape[-1]))
        parts.append(biases.repeat_interleave(layer.copies, dim=1))
    return torch.cat(parts, dim=1)


def raw_edges(graph: GraphBatch, config: NeuralGraphConfig, merge_parallel: bool = False) -> list[EdgeBlock]:
    """The edges from layer to layer, then those of residual connections.

    A residual connection from one layer to the next is parallel to weights that are there: with `merge_parallel` it is
    added to them, as in a matrix of all pairs, else it is an edge of its own.
    """
    layers = node_layers(graph.architecture)
    blocks = [_weights(graph, config, layers, index) for index in range(1, len(layers))]
    for edges in graph.residuals:
        for source, target in _residual_ends(layers, edges):
            block = _residual(graph, config, edges, source, target)
            if merge_parallel and target.layer == source.layer + 1:
                blocks[source.layer] = _merged(blocks[source.layer], block, layers)
            else:
                blocks.append(block)
    return blocks


def in_degrees(architecture: Architecture) -> list[int]:
    """How many edges lead to each node of a network, reverse ones aside."""
    layers = node_layers(architecture)
    degrees = [[0] * layers[0].num_nodes]
    for before, layer in pairwise(layers):
        degrees.append([before.num_nodes] * layer.num_nodes)
    for edges in residuals_of(architecture):
        for _, target in _residual_ends(layers, edges):
            for index in range(*target.nodes.indices(layers[target.layer].num_nodes)):
                degrees[target.layer][index] += 1
    return [degree for layer in degrees for degree in layer]


def first_nodes(counts: Sequence[int]) -> list[int]:
    """Where each layer's nodes begin among all."""
    return list(accumulate(counts, initial=0))[:-1]


def _weights(graph: GraphBatch, config: NeuralGraphConfig, layers: Sequence[NodeLayer], index: int) -> EdgeBlock:
    layer, before = layers[index], layers[index - 1]
    timestamp, edges, mask = (
        graph.architecture.timestamps[layer.first - 1], graph.edges[layer.first - 1], graph.mask(layer.first),
    )  # fmt: skip
    edges = edges if mask is None else edges.masked_fill(~mask, 0)
    is_scalar = config.scalar_encoder and not timestamp.traits.is_spatial
    if before.copies > 1:
        # torch's flatten puts the pixels of a channel side by side, and so do the copies of its node.
        edges = edges.flatten(2).unsqueeze(-1)
    if timestamp.kind == "qkv":
        edges = edges.squeeze(-1).unflatten(1, (3, -1)).permute(0, 2, 3, 1)
    elif config.attention:
        edges = torch.nn.functional.pad(edges, (0, config.edge_dim - 1))
    elif not is_scalar:
        edges = _centred(graph, layer.first, edges, config.kernel_size)
    edges = edges.repeat_interleave(layer.copies, dim=1) if layer.copies > 1 else edges
    return EdgeBlock(_whole(layers, index - 1), _whole(layers, index), edges, is_scalar=is_scalar)


def _whole(layers: Sequence[NodeLayer], index: int) -> Stretch:
    return Stretch(index, slice(0, layers[index].num_nodes))


def _centred(graph: GraphBatch, t: int, edges: Tensor, side: int) -> Float[Tensor, "batch targets sources f"]:
    """Every network's kernels in the middle of side x side numbers, zeros around them."""
    if side == 1:
        return edges
    # Where a number comes from; behind the last edge there is a zero.
    rows = [_places(kernel_of(a.timestamps[t - 1]), side, edges.shape[-1]) for a in graph.architectures]
    table = torch.tensor(rows, device=edges.device)
    padded = torch.nn.functional.pad(edges, (0, 1))
    return padded.gather(-1, by_network(graph, table)[:, None, None].expand(*edges.shape[:3], -1))


def _places(kernel: tuple[int, int], side: int, none: int) -> list[int]:
    height, width = kernel
    top, left = (side - height) // 2, (side - width) // 2
    places = [none] * side**2
    for row in range(height):
        for column in range(width):
            places[(top + row) * side + left + column] = row * width + column
    return places


def _residual_ends(layers: Sequence[NodeLayer], edges: BatchResidual) -> Iterator[tuple[Stretch, Stretch]]:
    """Equal places at both ends; where one has copies, all of them."""
    source, target = (_layer_of(layers, t) for t in (edges.residual.source, edges.target))
    offset, (many, few) = edges.residual.offset, (layers[source].copies, layers[target].copies)
    room = min(layers[source].num_nodes // many, layers[target].num_nodes // few - offset)
    count = min(room, edges.residual.count or room)
    for copy in range(many):
        for other in range(few):
            yield (
                Stretch(source, slice(copy, count * many, many)),
                Stretch(target, slice(offset * few + other, (offset + count) * few, few)),
            )


def _layer_of(layers: Sequence[NodeLayer], t: int) -> int:
    return next(index for index, layer in enumerate(layers) if layer.first <= t <= layer.last)


def _residual(
    graph: GraphBatch, config: NeuralGraphConfig, edges: BatchResidual, source: Stretch, target: Stretch
) -> EdgeBlock:
    """A kernel with a one in its centre, in the networks that have the connection."""
    centre = 0 if config.attention else _places((1, 1), config.kernel_size, 1).index(0)
    kernel = graph.edges[0].new_zeros(config.edge_dim)
    kernel[centre] = 1
    num_nodes = len(range(target.nodes.start, target.nodes.stop, target.nodes.step))
    features = kernel.expand(len(graph), num_nodes, 1, -1)
    if edges.networks is not None:
        features = features * edges.networks[:, None, None, None]
    return EdgeBlock(source, target, features, is_aligned=True, networks=edges.networks)


def _merged(weights: EdgeBlock, residual: EdgeBlock, layers: Sequence[NodeLayer]) -> EdgeBlock:
    sources = torch.arange(layers[residual.source.layer].num_nodes)[residual.source.nodes]
    targets = torch.arange(layers[residual.target.layer].num_nodes)[residual.target.nodes]
    features = weights.features.clone()
    features[:, targets, sources] += residual.features[:, :, 0]
    return replace(weights, features=features)
