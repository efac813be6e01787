"""From rows of the flat arrays to a GraphBatch. Networks of one architecture become views, without a copy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from zootool.architecture import Architecture, ArrayName, Residual
from zootool.graph import BatchResidual, GraphBatch

OWN_FEATURES = ("bias", "scale", "shift", "running_mean", "running_var")
"""The roles of parameters that are features of their layer's nodes."""

SOURCE_FEATURES = ("source_scale", "source_shift", "source_running_mean", "source_running_var")
"""The roles of parameters that are features of the nodes before their layer: of a norm on a layer's sources."""

NODE_FEATURES = (*OWN_FEATURES, *SOURCE_FEATURES)
"""All of them, in the order in which they appear."""

_NEUTRAL = {"scale": 1.0, "running_var": 1.0, "source_scale": 1.0, "source_running_var": 1.0}


@dataclass(frozen=True)
class Group:
    """The networks of one architecture in a batch: their places in it, and their part of each array."""

    architecture: Architecture
    places: Tensor
    arrays: Mapping[ArrayName, Tensor]


def assemble(groups: Sequence[Group], rows: Tensor) -> GraphBatch:
    """The batch of all groups' networks. Their architectures have the same node counts."""
    timestamps = range(1, groups[0].architecture.num_layers + 1)
    names = tuple(_names_at([group.architecture for group in groups], t) for t in timestamps)
    count = len(rows)
    index = torch.zeros(count, dtype=torch.int64)
    for number, group in enumerate(groups[1:], start=1):
        index[group.places] = number
    edges, masks = zip(*(_padded_edges(groups, t, count) for t in timestamps), strict=True)
    nodes = tuple(_scattered_nodes(groups, t, names[t - 1], count) for t in timestamps)
    return GraphBatch(
        rows=rows,
        edges=edges,
        edge_masks=masks,
        nodes=nodes,
        node_names=names,
        architectures=tuple(group.architecture for group in groups),
        architecture_index=index,
        residuals=_residuals(groups, count),
    )


@lru_cache(maxsize=4096)
def _places(architecture: Architecture) -> tuple[Mapping[str, tuple[ArrayName, int]], ...]:
    """By timestamp: in which array its edges and its nodes' features lie, and where in a network's row they begin."""
    places: list[dict[str, tuple[ArrayName, int]]] = [{} for _ in architecture.timestamps]
    edge_start = node_start = 0
    for timestamp, found in zip(architecture.timestamps, places, strict=True):
        found["edges"] = "edges", edge_start
        edge_start += timestamp.num_edges
        if timestamp.has_bias:
            found["bias"] = "nodes", node_start
        node_start += timestamp.num_stored_nodes
    for slot in architecture.slots:
        if slot.role not in NODE_FEATURES[1:] or slot.timestamp is None or slot.array == "exact":
            continue
        # A norm belongs to the nodes that it normalises; those of timestamp 0 have no stored features.
        t = slot.timestamp - (slot.role in SOURCE_FEATURES)
        if t >= 1 and slot.length == architecture.node_counts[t]:
            places[t - 1][slot.role] = slot.array, slot.start
    return tuple(places)


def _names_at(architectures: Sequence[Architecture], t: int) -> tuple[str, ...]:
    found = set().union(*(_places(architecture)[t - 1] for architecture in architectures))
    return tuple(name for name in NODE_FEATURES if name == "bias" or name in found)


def _edges(group: Group, t: int) -> Float[Tensor, "batch targets sources k"]:
    timestamp = group.architecture.timestamps[t - 1]
    _, start = _places(group.architecture)[t - 1]["edges"]
    flat = group.arrays["edges"][:, start : start + timestamp.num_edges]
    return flat.unflatten(1, (timestamp.num_nodes, timestamp.num_sources, timestamp.edges_per_pair))


def _nodes(group: Group, t: int, names: tuple[str, ...]) -> Float[Tensor, "batch targets features"]:
    found = _places(group.architecture)[t - 1]
    num_nodes = group.architecture.timestamps[t - 1].num_nodes
    columns = []
    for name in names:
        if name in found:
            array, start = found[name]
            columns.append(group.arrays[array][:, start : start + num_nodes])
        else:
            columns.append(torch.full((len(group.places), num_nodes), _NEUTRAL.get(name, 0.0)))
    return columns[0].unsqueeze(-1) if len(columns) == 1 else torch.stack(columns, dim=-1)


def _scattered_nodes(groups: Sequence[Group], t: int, names: tuple[str, ...], count: int) -> Tensor:
    if len(groups) == 1:
        return _nodes(groups[0], t, names)
    nodes = torch.empty(count, groups[0].architecture.node_counts[t], len(names))
    for group in groups:
        nodes[group.places] = _nodes(group, t, names)
    return nodes


def _padded_edges(groups: Sequence[Group], t: int, count: int) -> tuple[Tensor, Tensor | None]:
    if len(groups) == 1:
        return _edges(groups[0], t), None
    timestamps = [group.architecture.timestamps[t - 1] for group in groups]
    largest = max(timestamp.edges_per_pair for timestamp in timestamps)
    edges = torch.zeros(count, timestamps[0].num_nodes, timestamps[0].num_sources, largest)
    mask = torch.zeros(count, 1, 1, largest, dtype=torch.bool)
    for group, timestamp in zip(groups, timestamps, strict=True):
        edges[group.places, ..., : timestamp.edges_per_pair] = _edges(group, t)
        mask[group.places, ..., : timestamp.edges_per_pair] = True
    return edges, None if mask.all() else mask.expand(edges.shape)


def _residuals(groups: Sequence[Group], count: int) -> tuple[BatchResidual, ...]:
    owners: dict[tuple[int, Residual], list[Group]] = {}
    for group in groups:
        for target, timestamp in enumerate(group.architecture.timestamps, start=1):
            for residual in timestamp.residuals:
                owners.setdefault((target, residual), []).append(group)
    found = []
    for (target, residual), with_it in owners.items():
        networks = torch.zeros(count, dtype=torch.bool)
        for group in with_it:
            networks[group.places] = True
        found.append(BatchResidual(target, residual, None if len(with_it) == len(groups) else networks))
    return tuple(found)
