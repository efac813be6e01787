"""Changes of networks in training, as neural graphs learned with (Kofinas et al. 2024; Navon et al. 2023).

- Moves: the coordinates of an MLP rotated, scaled and translated. Exactly, f(A x + t), whatever the activations: the
  first weights become W A, the first biases b + W t. Published code puts t, taken through products of weights, into the
  biases of a layer drawn at random; behind the first layer that moves nothing.
- Noise, which `LayerStatistics.noisy` adds.
- Dropout of weights and biases. Those that stay grow by 1 / (1 - p), as published.

Every network of a batch gets numbers of its own, from torch's current generator of the batch's device.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dng.methods.neural_graph_config import NeuralGraphConfig
from dng.methods.neural_graph_statistics import LayerStatistics
from dng.methods.precision import full_precision
from zootool.graph import GraphBatch


def augmented(graph: GraphBatch, config: NeuralGraphConfig, statistics: LayerStatistics) -> GraphBatch:
    """The networks with everything that `config` asks for: moves, then noise, then dropout."""
    if config.has_moves:
        graph = moved(graph, *draw_moves(graph, config))
    if config.noise:
        graph = statistics.noisy(graph, config.noise, config.constant_noise)
    return drop_parameters(graph, config.parameter_dropout) if config.parameter_dropout else graph


def moved(
    graph: GraphBatch, matrices: Float[Tensor, "batch inputs inputs"], shifts: Float[Tensor, "batch inputs"]
) -> GraphBatch:
    """The MLPs that compute f(A x + t) where those of `graph` compute f(x), with A and t of their own each."""
    weights, biases = graph.edges[0].squeeze(-1), graph.nodes[0][..., :1]
    with full_precision(weights.device):
        edges = (weights @ matrices).unsqueeze(-1)
        nodes = torch.cat([biases + weights @ shifts.unsqueeze(-1), graph.nodes[0][..., 1:]], dim=-1)
    return replace(graph, edges=(edges, *graph.edges[1:]), nodes=(nodes, *graph.nodes[1:]))


def draw_moves(
    graph: GraphBatch, config: NeuralGraphConfig
) -> tuple[Float[Tensor, "batch inputs inputs"], Float[Tensor, "batch inputs"]]:
    """For every network a matrix, a rotation times a scale, and a shift, all uniform up to what `config` says."""
    batch, inputs, like = len(graph), graph.architecture.num_inputs, graph.edges[0]
    scales = 1 + config.scaling * like.new_empty(batch, 1, 1).uniform_(-1, 1)
    matrices = scales * torch.eye(inputs, dtype=like.dtype, device=like.device)
    if config.rotation:
        angles = math.radians(config.rotation) * like.new_empty(batch).uniform_(-1, 1)
        cos, sin = angles.cos(), angles.sin()
        matrices = scales * torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    return matrices, config.translation * like.new_empty(batch, inputs).uniform_(-1, 1)


def drop_parameters(graph: GraphBatch, share: float) -> GraphBatch:
    """The networks with about `share` of their weights and of their biases at zero, the others grown to make up."""
    nodes = tuple(torch.cat([functional.dropout(node[..., :1], share), node[..., 1:]], dim=-1) for node in graph.nodes)
    return replace(graph, edges=tuple(functional.dropout(edge, share) for edge in graph.edges), nodes=nodes)
