"""Probe features: what every neuron of an INR answers at learned points (Kofinas et al. 2024).

They run the networks, which the weights alone don't: a comparison should give them to all methods or to none.
"""

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dng.methods.by_network import by_network
from dng.methods.precision import full_precision
from zootool.architecture import Architecture, Timestamp
from zootool.architecture.steps import activate
from zootool.graph import BatchResidual, GraphBatch

_ACTIVATIONS = ("none", "sine", "relu", "leaky_relu", "gelu", "tanh", "sigmoid", "silu")
"""The activations that MLPs are probed with, in the words of `Activation`."""


class ProbeFeatures(nn.Module):
    """The activations of all neurons of B MLPs at `num_probes` learned points, drawn from U(-1, 1) at first.

    Networks are run as they are, each with its own activations, residual connections and output offset.
    """

    def __init__(self, num_inputs: int, num_probes: int = 64) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.empty(num_probes, num_inputs).uniform_(-1, 1))

    @classmethod
    def refusal(cls, architectures: Collection[Architecture]) -> str | None:
        """Why these networks can't be probed, as in `Baseline.refusal`; None where they can."""
        for architecture in architectures:
            for t, timestamp in enumerate(architecture.timestamps, start=1):
                if timestamp.activation.name not in _ACTIVATIONS:
                    return f"layer {t} has the activation {timestamp.activation.name!r}, which probes don't know"
                if not _is_plain(timestamp):
                    return f"layer {t} is more than linear with an activation, and probes run plain MLPs only"
        return None

    def forward(self, graph: GraphBatch) -> list[Float[Tensor, "batch _nodes probes"]]:
        """Of the inputs (the coordinates themselves), then of each timestamp t = 1..L, behind its activation."""
        with full_precision(self.points.device):
            answers = [self.points.T.expand(len(graph), -1, -1)]
            for t in range(1, graph.architecture.num_layers + 1):
                answers.append(_answers(graph, t, answers))
        offsets = self.points.new_tensor([architecture.output_offset for architecture in graph.architectures])
        answers[-1] = answers[-1] + by_network(graph, offsets)[:, None, None]
        return answers


def _is_plain(timestamp: Timestamp) -> bool:
    extras = (timestamp.norm, timestamp.source_norm, timestamp.pooling, timestamp.output_pooling)
    return timestamp.kind == "linear" and not any(extras) and timestamp.source_activation.name == "none"


def _answers(graph: GraphBatch, t: int, answers: list[Tensor]) -> Tensor:
    values = torch.baddbmm(graph.nodes[t - 1][..., :1], graph.edges[t - 1].squeeze(-1), answers[t - 1])
    residuals = graph.residuals_into(t)
    for edges in residuals:
        if edges.residual.added != "after_activation":
            values = _add(values, answers[edges.residual.source], edges)
    values = _activate(graph, t, values)
    for edges in residuals:
        if edges.residual.added == "after_activation":
            values = _add(values, answers[edges.residual.source], edges)
    return values


def _activate(graph: GraphBatch, t: int, values: Tensor) -> Tensor:
    """Every network's own activation; most batches have one."""
    used = [architecture.timestamps[t - 1].activation for architecture in graph.architectures]
    kinds = list(dict.fromkeys(used))
    activated = [activate(kind, values) for kind in kinds]
    result = activated[0]
    for index in range(1, len(kinds)):
        has_it = torch.tensor([kind == kinds[index] for kind in used], device=values.device)
        result = torch.where(by_network(graph, has_it)[:, None, None], activated[index], result)
    return result


def _add(values: Tensor, sources: Tensor, edges: BatchResidual) -> Tensor:
    offset = edges.residual.offset
    count = min(sources.shape[1], values.shape[1] - offset, edges.residual.count or sources.shape[1])
    added = functional.pad(sources[:, :count], (0, 0, offset, values.shape[1] - offset - count))
    return values + (added if edges.networks is None else added * edges.networks[:, None, None])
