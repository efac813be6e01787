"""What SIRENs and ReLU MLPs compute from coordinates, for a batch of weights and biases, differentiable in both.

Weights and biases come as rows in the order of `Architecture`, all layers behind one another.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from zootool.architecture import Architecture
from zootool.architecture.steps import activate
from zootool.graph import GraphBatch


def render_graph(
    graph: GraphBatch, side: int, indexing: Literal["ij", "xy"] = "ij"
) -> Float[Tensor, "batch channels side side"]:
    """The images that the B INRs of a batch compute, all of its first architecture; see `render_mlps`."""
    weights = torch.cat([edges.flatten(1) for edges in graph.edges], dim=1)
    biases = torch.cat([nodes[..., 0] for nodes in graph.nodes], dim=1)
    return render_mlps(graph.architecture, weights, biases, side, indexing)


def render_mlps(
    architecture: Architecture,
    weights: Float[Tensor, "batch edges"],
    biases: Float[Tensor, "batch nodes"],
    side: int,
    indexing: Literal["ij", "xy"] = "ij",
) -> Float[Tensor, "batch channels side side"]:
    """The images that B INRs compute on linspace(-1, 1): their first input is the row in ij, the column in xy."""
    axis = torch.linspace(-1, 1, side, dtype=weights.dtype, device=weights.device)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing=indexing), dim=0).flatten(1)
    values = mlp_outputs(architecture, weights, biases, grid.expand(len(weights), -1, -1))
    return values.unflatten(-1, (side, side))


def mlp_outputs(
    architecture: Architecture,
    weights: Float[Tensor, "batch edges"],
    biases: Float[Tensor, "batch nodes"],
    points: Float[Tensor, "batch inputs points"],
) -> Float[Tensor, "batch channels points"]:
    """The outputs of B MLPs, each at points of its own; the architecture's output offset is added."""
    values = points
    for t, timestamp in enumerate(architecture.timestamps):
        edges = weights[:, architecture.edge_starts[t] : architecture.edge_starts[t + 1]]
        nodes = biases[:, architecture.node_starts[t] : architecture.node_starts[t + 1]]
        matrix = edges.unflatten(1, (timestamp.num_nodes, timestamp.num_sources))
        values = activate(timestamp.activation, torch.baddbmm(nodes[..., None], matrix, values))
    return values + architecture.output_offset
