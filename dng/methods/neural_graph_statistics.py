"""What neural graphs take from their training networks: means and deviations of layers, and degrees of nodes."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.methods.by_network import by_network
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
            nodes.append(_with_biases(graph, t, bias * has_bias(graph, t)))
        return replace(graph, edges=tuple(edges), nodes=tuple(nodes))

    def noisy(self, graph: GraphBatch, amount: float, is_constant: bool) -> GraphBatch:
        """Noise of `amount` deviations on all weights and biases: Gaussian, or always the same number."""
        edges, nodes = [], []
        for t in range(1, graph.architecture.num_layers + 1):
            weight_scale, bias_scale = amount * self._of(graph, t)[1]
            weight, bias = graph.edges[t - 1], graph.nodes[t - 1][..., :1]
            noise = [torch.ones_like(x) if is_constant else torch.randn_like(x) for x in (weight, bias)]
            edges.append(weight + weight_scale * noise[0])
            nodes.append(_with_biases(graph, t, bias + bias_scale * noise[1] * has_bias(graph, t)))
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


def slot_of(architecture: Architecture, t: int, num_layers: int) -> int:
    """The row of layer `t` in a table of `num_layers` layers."""
    return num_layers - 1 if t == architecture.num_layers else t - 1


def has_bias(graph: GraphBatch, t: int) -> Float[Tensor, "#batch 1 1"]:
    """1 for the networks whose layer `t` has biases, 0 for the others."""
    flags = graph.nodes[t - 1].new_tensor([float(a.timestamps[t - 1].has_bias) for a in graph.architectures])
    return by_network(graph, flags)[:, None, None]


def _with_biases(graph: GraphBatch, t: int, biases: Tensor) -> Tensor:
    """The node features of timestamp t with other biases."""
    return torch.cat([biases, graph.nodes[t - 1][..., 1:]], dim=-1)
