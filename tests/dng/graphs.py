"""Random networks as dynamic graphs, and what permuting their neurons does to them."""

import torch
from torch import Tensor

from dng.graph import DynamicGraph
from zootool.architecture import Architecture, Timestamp


def random_graph(
    architecture: Architecture, batch: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> DynamicGraph:
    """`batch` networks with weights as small as trained ones have."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return (0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

    edges = tuple(draw(batch, t.num_nodes, t.num_sources, t.edges_per_pair) for t in architecture.timestamps)
    nodes = tuple(draw(batch, t.num_nodes, 1) for t in architecture.timestamps)
    return DynamicGraph(architecture, edges, nodes)


def permute_hidden(graph: DynamicGraph, seed: int = 0) -> DynamicGraph:
    """The same networks with the neurons of every hidden layer in another order."""
    generator = torch.Generator().manual_seed(seed)
    counts = graph.architecture.node_counts
    orders = [torch.arange(counts[0])]
    orders += [torch.randperm(count, generator=generator) for count in counts[1:-1]]
    orders += [torch.arange(counts[-1])]
    edges = tuple(edge[:, orders[i + 1]][:, :, orders[i]] for i, edge in enumerate(graph.edges))
    nodes = tuple(node[:, orders[i + 1]] for i, node in enumerate(graph.nodes))
    masks = tuple(
        None if mask is None else mask[:, orders[i + 1]][:, :, orders[i]] for i, mask in enumerate(graph.edge_masks)
    )
    return DynamicGraph(graph.architecture, edges, nodes, masks)


def small_cnn() -> Architecture:
    """Two convolutions of 2 x 2 and 3 x 3 and a pooled linear layer."""
    return Architecture(
        1,
        (
            Timestamp("conv", 5, 1, edges_per_pair=4, kernel=(2, 2)),
            Timestamp("conv", 6, 5, edges_per_pair=9, kernel=(3, 3)),
            Timestamp("pool_linear", 3, 6),
        ),
        family="cnn",
    )
