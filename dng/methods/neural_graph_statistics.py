"""What neural graphs take from their training networks, and how they change them in training.

Changes are those learned with by Kofinas et al. (2024) and Navon et al. (2023):

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
from torch import Tensor, nn
from torch.nn import functional

from dng.methods.common import full_precision, has_bias, slot_of, with_biases
from dng.methods.neural_graph_config import NeuralGraphConfig
from dng.methods.neural_graph_raw import in_degrees
from zootool.architecture import Architecture
from zootool.errors import UsageError
from zootool.graph import GraphBatch


class LayerStatistics(nn.Module):
    """One mean and one deviation for the weights of every layer, and for its biases; 0 and 1 until they are measured.

    Deviations of n numbers divide by n - 1, as torch's do. Layers are counted from the inputs, and the last one is the
    last whatever the depth.
    """

    means: Tensor
    deviations: Tensor

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.register_buffer("means", torch.zeros(2, num_layers))
        self.register_buffer("deviations", torch.ones(2, num_layers))

    def standardised(self, graph: GraphBatch) -> GraphBatch:
        """(x - mean) / deviation; biases that a network lacks stay zero."""
        edges, nodes = [], []
        for t in range(1, graph.architecture.num_layers + 1):
            (weight_mean, bias_mean), (weight_scale, bias_scale) = self._of(graph, t)
            bias = (graph.nodes[t - 1][..., :1] - bias_mean) / bias_scale
            edges.append((graph.edges[t - 1] - weight_mean) / weight_scale)
            nodes.append(with_biases(graph, t, bias * has_bias(graph, t)))
        return replace(graph, edges=tuple(edges), nodes=tuple(nodes))

    def noisy(self, graph: GraphBatch, amount: float, is_constant: bool) -> GraphBatch:
        """Noise of `amount` deviations on all weights and biases: Gaussian, or always the same number."""
        edges, nodes = [], []
        for t in range(1, graph.architecture.num_layers + 1):
            weight_scale, bias_scale = amount * self._of(graph, t)[1]
            weight, bias = graph.edges[t - 1], graph.nodes[t - 1][..., :1]
            noise = [torch.ones_like(x) if is_constant else torch.randn_like(x) for x in (weight, bias)]
            edges.append(weight + weight_scale * noise[0])
            nodes.append(with_biases(graph, t, bias + bias_scale * noise[1] * has_bias(graph, t)))
        return replace(graph, edges=tuple(edges), nodes=tuple(nodes))

    def set(self, moments: "LayerMoments") -> None:
        """Take what was measured; a layer whose numbers are all equal is shifted and not scaled."""
        count, total, square = moments.sums.unbind()
        if not count.any():
            raise UsageError("there are no training networks to measure weights of")
        mean = total / count.clamp_min(1)
        variance = (square / count.clamp_min(1) - mean.square()).clamp_min(0)
        deviation = (variance * count / (count - 1).clamp_min(1)).sqrt()
        self.means.copy_(mean)
        self.deviations.copy_(torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0))

    def _of(self, graph: GraphBatch, t: int) -> tuple[Tensor, Tensor]:
        """Means and deviations of timestamp t, weights before biases."""
        slot = slot_of(graph.architecture, t, self.num_layers)
        return self.means[:, slot], self.deviations[:, slot]


class LayerMoments:
    """Counts, sums and sums of squares of every layer's weights and biases, over as many batches as are added."""

    def __init__(self, num_layers: int) -> None:
        self.sums = torch.zeros(3, 2, num_layers, dtype=torch.float64)

    def add(self, graph: GraphBatch) -> None:
        """Count another batch's weights, and the biases of those networks that have them."""
        for t in range(1, graph.architecture.num_layers + 1):
            slot = slot_of(graph.architecture, t, self.sums.shape[-1])
            weights, biases = graph.edges[t - 1], graph.nodes[t - 1][..., :1]
            real = (graph.mask(t), has_bias(graph, t).bool().expand(biases.shape))
            for row, (values, mask) in enumerate(zip((weights, biases), real, strict=True)):
                values = (values if mask is None else values[mask]).double()
                sums = torch.stack([values.new_tensor(values.numel()), values.sum(), values.square().sum()])
                self.sums[:, row, slot] += sums.cpu()


class LogDegrees:
    """The mean of log(in-degree + 1) over the nodes of networks, which PNA scales degrees by; reverse edges aside."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, architecture: Architecture, num_networks: int = 1) -> None:
        """Count the nodes of `num_networks` networks."""
        degrees = in_degrees(architecture)
        self._total += num_networks * sum(math.log(degree + 1) for degree in degrees)
        self._count += num_networks * len(degrees)

    def add_batch(self, graph: GraphBatch) -> None:
        """Count the nodes of a batch."""
        for index, architecture in enumerate(graph.architectures):
            whose = graph.architecture_index
            self.add(architecture, len(graph) if whose is None else int((whose == index).sum()))

    @property
    def mean(self) -> float:
        """delta. Raises UsageError where nothing was counted."""
        if not self._count:
            raise UsageError("there are no training networks to measure degrees of")
        return self._total / self._count


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
