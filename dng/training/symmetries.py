"""Changes of a classifier's weights that leave its accuracy as it is: more networks to learn from, for nothing.

- Relabelling: the outputs in another order. The same classifier, its classes renamed.
- Mirroring: every kernel flipped or turned alike, by one of the square's eight symmetries. The classifier of images
  that are flipped or turned alike, exactly where strides leave nothing over.
- Rescaling: what leads into a hidden neuron times a, what leads out of it divided by a. The same function, for a > 0
  behind ReLU and leaky ReLU, for a = -1 behind tanh and sine, for both where there is no activation.

Permutations of hidden neurons aren't among them: an equivariant encoder knows those by itself. All numbers come from
torch's current generator.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from zootool.architecture import Architecture, Timestamp
from zootool.graph import GraphBatch

_HOMOGENEOUS = ("relu", "leaky_relu", "none")
_ODD = ("tanh", "sine", "none")
_WEIGHTED = ("linear", "conv", "pool_linear", "flatten_linear")
_NUM_MOVES = 8


@dataclass(frozen=True)
class Symmetries:
    """Which changes are made; `rescale` is the standard deviation of log a, 0 for signs alone, None for neither."""

    relabel: bool = True
    mirror: bool = True
    rescale: float | None = 0.2


def vary(graph: GraphBatch, symmetries: Symmetries) -> GraphBatch:
    """The networks of `graph`, each changed at random. What would change its accuracy is left out."""
    if symmetries.mirror and all(map(_can_mirror, graph.architectures)):
        graph = mirror(graph, torch.randint(_NUM_MOVES, (len(graph),)))
    if symmetries.rescale is not None:
        for t in range(1, graph.architecture.num_layers):
            factors = _draw_factors(graph, t, symmetries.rescale)
            graph = graph if factors is None else rescale(graph, t, factors)
    if symmetries.relabel:
        outputs = graph.nodes[-1].shape[1]
        graph = relabel(graph, torch.rand(len(graph), outputs).argsort(dim=1))
    return graph


def relabel(graph: GraphBatch, orders: Int64[Tensor, "batch outputs"]) -> GraphBatch:
    """Output i of each network becomes what output `orders[i]` was."""

    def ordered(tensor: Tensor) -> Tensor:
        index = orders.view(*orders.shape, *(1,) * (tensor.ndim - 2)).to(tensor.device)
        return tensor.gather(1, index.expand(-1, -1, *tensor.shape[2:]))

    return _with_layer(graph, graph.architecture.num_layers, ordered(graph.edges[-1]), ordered(graph.nodes[-1]))


def rescale(graph: GraphBatch, t: int, factors: Float[Tensor, "batch nodes"]) -> GraphBatch:
    """The neurons of timestamp `t` times `factors`, undone by what leads out of them."""
    nodes = torch.cat([graph.nodes[t - 1][..., :1] * factors[..., None], graph.nodes[t - 1][..., 1:]], dim=-1)
    graph = _with_layer(graph, t, graph.edges[t - 1] * factors[:, :, None, None], nodes)
    return _with_layer(graph, t + 1, graph.edges[t] / factors[:, None, :, None], graph.nodes[t])


def mirror(graph: GraphBatch, moves: Int64[Tensor, " batch"]) -> GraphBatch:
    """Every kernel moved by one of the square's symmetries: bit 0 flips columns, bit 1 rows, bit 2 exchanges both."""
    owners = graph.architecture_index
    for t in range(1, graph.architecture.num_layers + 1):
        sides = [(a.timestamps[t - 1].kernel or (1, 1))[0] for a in graph.architectures]
        if max(sides) == 1:
            continue
        sources = torch.stack([_moved_places(side, graph.edges[t - 1].shape[-1]) for side in sides])
        own = sources[0].expand(len(graph), -1, -1) if owners is None else sources[owners.cpu()]
        places = own[torch.arange(len(graph)), moves.cpu()].to(graph.edges[t - 1].device)
        edges = graph.edges[t - 1]
        moved = edges.gather(3, places[:, None, None, :].expand_as(edges))
        graph = _with_layer(graph, t, moved, graph.nodes[t - 1])
    return graph


def _moved_places(side: int, num_edges: int) -> Int64[Tensor, "moves edges"]:
    """For each move, where a kernel's entries come from; padding behind the kernel stays where it is."""
    padding = torch.arange(side * side, num_edges)
    rows = []
    for move in range(_NUM_MOVES):
        kernel = torch.arange(side * side).view(side, side)
        kernel = kernel.flip(1) if move & 1 else kernel
        kernel = kernel.flip(0) if move & 2 else kernel
        rows.append(torch.cat([(kernel.T if move & 4 else kernel).flatten(), padding]))
    return torch.stack(rows)


def _can_mirror(architecture: Architecture) -> bool:
    """Square kernels, and no layer that knows places in the image by other means."""
    kinds = {timestamp.kind for timestamp in architecture.timestamps}
    kernels = [timestamp.kernel for timestamp in architecture.timestamps if timestamp.kernel is not None]
    return kinds <= {"conv", "pool_linear"} and all(height == width for height, width in kernels)


def _draw_factors(graph: GraphBatch, t: int, deviation: float) -> Float[Tensor, "batch nodes"] | None:
    """Each neuron's factor, 1 in networks whose layer `t` can't be rescaled; None where that is all of them."""
    kinds = [_freedom(architecture, t) for architecture in graph.architectures]
    if not any(may_scale or may_flip for may_scale, may_flip in kinds):
        return None
    edges = graph.edges[t - 1]
    shape = edges.shape[:2]
    scales = torch.exp(deviation * torch.randn(shape)).to(edges)
    signs = (2 * torch.randint(2, shape) - 1).to(edges)
    table = torch.tensor(kinds, device=edges.device)
    owners = graph.architecture_index
    may = table[:1].expand(shape[0], -1) if owners is None else table[owners]
    ones = torch.ones_like(scales)
    return torch.where(may[:, :1], scales, ones) * torch.where(may[:, 1:], signs, ones)


def _freedom(architecture: Architecture, t: int) -> tuple[bool, bool]:
    """Whether the neurons of timestamp `t` may be multiplied by positive numbers, and by -1."""
    here, after = architecture.timestamps[t - 1], architecture.timestamps[t]
    touched = {t for t, timestamp in enumerate(architecture.timestamps, start=1) if timestamp.residuals}
    touched |= {residual.source for timestamp in architecture.timestamps for residual in timestamp.residuals}
    if t in touched or not _is_plain(here, after):
        return False, False
    has_maximum = any(p is not None and p.kind == "max" for p in (here.output_pooling, after.pooling))
    return here.activation.name in _HOMOGENEOUS, here.activation.name in _ODD and not has_maximum


def _is_plain(here: Timestamp, after: Timestamp) -> bool:
    """Whether nothing but the activation and pooling stands between two layers' weights."""
    kinds = here.kind in _WEIGHTED and after.kind in _WEIGHTED
    norms = (here.norm, after.source_norm)
    return kinds and all(norm is None for norm in norms) and after.source_activation.name == "none"


def _with_layer(graph: GraphBatch, t: int, edges: Tensor, nodes: Tensor) -> GraphBatch:
    return replace(
        graph,
        edges=(*graph.edges[: t - 1], edges, *graph.edges[t:]),
        nodes=(*graph.nodes[: t - 1], nodes, *graph.nodes[t:]),
    )
