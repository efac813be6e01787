"""Principal neighbourhood aggregation (Corso et al. 2020) on neural graphs, as NG-GNN has it (Kofinas et al. 2024).

Messages are computed densely per pair of layers. What arrives at a node from several layers, over reverse edges and
over residual connections is aggregated as one neighbourhood. That of a node at which nothing arrives has mean, minimum,
maximum and variance 0, and so a deviation of sqrt(1e-5): no variance counts as less than 1e-5.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dng.methods.neural_graph_raw import EdgeBlock

_SMALLEST_VARIANCE = 1e-5


class PNALayer(nn.Module):
    """One round of messages.

    m_uv = s * Linear[x_v, x_u] + t with [s, t] = Linear e_uv, for an edge from u to v; a_v is the mean, minimum,
    maximum and deviation of what arrives, and the four times log(degree + 1) / delta; x_v <- Linear Linear [x_v, a_v].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ends = nn.Linear(2 * dim, dim)
        self.edge = nn.Linear(dim, 2 * dim)
        self.merge = nn.Linear(9 * dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, nodes: Float[Tensor, "batch nodes dim"], counts: Sequence[int], blocks: Sequence[EdgeBlock], delta: Tensor
    ) -> Float[Tensor, "batch nodes dim"]:
        of_target, of_source = self.ends.weight.chunk(2, dim=1)
        targets = nn.functional.linear(nodes, of_target, self.ends.bias).split(list(counts), dim=1)
        sources = nn.functional.linear(nodes, of_source).split(list(counts), dim=1)
        layers = []
        for index, count in enumerate(counts):
            incoming = [block for block in blocks if block.target.layer == index]
            arrivals = [_arrivals(block, self._messages(block, targets, sources), count) for block in incoming]
            layers.append(_aggregated(arrivals, targets[index], delta))
        return self.out(self.merge(torch.cat([nodes, torch.cat(layers, dim=1)], dim=-1)))

    def _messages(self, block: EdgeBlock, targets: Sequence[Tensor], sources: Sequence[Tensor]) -> Tensor:
        scale, shift = self.edge(block.features).chunk(2, dim=-1)
        return scale * (block.targets_of(targets) + block.sources_of(sources)) + shift


class PNAEdgeUpdate(nn.Module):
    """e <- Linear SiLU(Linear e + Linear x_u + Linear x_v), for an edge from u to v."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.edge, self.source, self.target, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(
        self, nodes: Float[Tensor, "batch nodes dim"], counts: Sequence[int], blocks: Sequence[EdgeBlock]
    ) -> list[EdgeBlock]:
        sources = self.source(nodes).split(list(counts), dim=1)
        targets = self.target(nodes).split(list(counts), dim=1)
        updated = []
        for block in blocks:
            hidden = self.edge(block.features) + block.sources_of(sources) + block.targets_of(targets)
            updated.append(replace(block, features=self.out(nn.functional.silu(hidden))))
        return updated


class MinibatchNorm(nn.Module):
    """One mean and one deviation for all nodes and channels of all networks of a batch, then a scale and a shift.

    What the published code does by mistake: a network's output depends on the others in its batch.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "batch nodes dim"]) -> Float[Tensor, "batch nodes dim"]:
        return (x - x.mean()) / (x.std(correction=0) + self.eps) * self.weight + self.bias


@dataclass(frozen=True)
class _Arrivals:
    """How many messages arrive at the nodes of a layer, their sum, sum of squares, minimum and maximum."""

    degree: Float[Tensor, "#batch nodes 1"]
    total: Float[Tensor, "batch nodes dim"]
    square: Float[Tensor, "batch nodes dim"]
    low: Float[Tensor, "batch nodes dim"]
    high: Float[Tensor, "batch nodes dim"]

    def __add__(self, other: "_Arrivals") -> "_Arrivals":
        return _Arrivals(
            self.degree + other.degree,
            self.total + other.total,
            self.square + other.square,
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
        )


def _arrivals(block: EdgeBlock, messages: Float[Tensor, "batch targets sources dim"], num_nodes: int) -> _Arrivals:
    degree = messages.new_full((1, messages.shape[1], 1), messages.shape[2])
    parts = (degree, messages.sum(2), messages.square().sum(2), messages.amin(2), messages.amax(2))
    fills = (0.0, 0.0, 0.0, torch.inf, -torch.inf)
    if block.networks is not None:
        has_it = block.networks[:, None, None]
        parts = tuple(torch.where(has_it, part, fill) for part, fill in zip(parts, fills, strict=True))
    if messages.shape[1] == num_nodes:
        return _Arrivals(*parts)
    return _Arrivals(*(_spread(block, part, num_nodes, fill) for part, fill in zip(parts, fills, strict=True)))


def _spread(block: EdgeBlock, part: Tensor, num_nodes: int, fill: float) -> Tensor:
    """What arrives at some nodes of a layer, and `fill` at the others."""
    whole = part.new_full((part.shape[0], num_nodes, part.shape[2]), fill)
    whole[:, block.target.nodes] = part
    return whole


def _aggregated(arrivals: Sequence[_Arrivals], like: Tensor, delta: Tensor) -> Float[Tensor, "batch nodes features"]:
    if not arrivals:
        zero = torch.zeros_like(like)
        arrived = _Arrivals(zero[:1, :, :1], zero, zero, zero, zero)
    else:
        arrived = reduce(_Arrivals.__add__, arrivals)
    count = arrived.degree.clamp_min(1)
    mean = arrived.total / count
    variance = (arrived.square / count - mean.square()).clamp_min(_SMALLEST_VARIANCE)
    ends = [torch.where(arrived.degree > 0, end, 0.0) for end in (arrived.low, arrived.high)]
    identity = torch.cat([mean, *ends, variance.sqrt()], dim=-1)
    return torch.cat([identity, identity * (arrived.degree + 1).log() / delta], dim=-1)
