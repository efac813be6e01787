"""Networks of different depths and widths in one pass: nodes and pairs in flat lists, messages added by segment sums.

Bucketed batches hold networks with equal node counts. Where a zoo has hundreds of such families, batches of one
family are small or alike; packed, networks of any families walk together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dng.encoder.dng_encoder import DNGEncoder, Walk, node_scalars
from dng.encoder.message import AttentionMessage
from zootool.errors import UsageError
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class PackedResidual:
    """Residual connections into one timestamp from `source_timestamp`: node `sources[i]` is added to `targets[i]`."""

    source_timestamp: int
    sources: Int64[Tensor, " links"]
    targets: Int64[Tensor, " links"]


@dataclass(frozen=True)
class PackedEvent:
    """One timestamp of all networks that have it: its nodes and its (source, target) pairs, in flat lists."""

    edges: Float[Tensor, "pairs k"]
    mask: Bool[Tensor, "pairs k"] | None
    sources: Int64[Tensor, " pairs"]
    targets: Int64[Tensor, " pairs"]
    graphs: tuple[int, ...]
    residuals: tuple[PackedResidual, ...]


@dataclass(frozen=True)
class PackedGraph:
    """Several bucketed batches as one. Networks are in the order of the batches, nodes in that of the networks.

    `outputs` says where each network's output nodes lie: (timestamp, first node) per batch.
    """

    batches: tuple[GraphBatch, ...]
    events: tuple[PackedEvent, ...]
    outputs: tuple[tuple[int, int], ...]


def pack(batches: Sequence[GraphBatch]) -> PackedGraph:
    """Put bucketed batches together. Raises UsageError for transformers, which have one architecture anyway."""
    depths = [batch.architecture.num_layers for batch in batches]
    for batch in batches:
        if any(not timestamp.traits.has_edges for timestamp in batch.architecture.timestamps):
            raise UsageError("transformers can't be packed", hint="encode them bucketed")
    starts = [_first_nodes(batches, t) for t in range(max(depths) + 1)]
    events = tuple(_event(batches, starts, t) for t in range(1, max(depths) + 1))
    outputs = tuple((depth, starts[depth][index]) for index, depth in enumerate(depths))
    return PackedGraph(tuple(batches), events, outputs)


def encode_packed(encoder: DNGEncoder, packed: PackedGraph) -> Float[Tensor, "networks outputs dim"]:
    """The memories of the output nodes of all networks, equal to those of the bucketed batches one by one."""
    for batch in packed.batches:
        encoder.check(batch)
    num_networks = sum(len(batch) for batch in packed.batches)
    inputs = encoder.inputs.repeat(num_networks, 1)
    memories: list[Tensor] | None = None
    for walk in encoder.walks:
        assert isinstance(walk, Walk)
        memories = _walk(walk, encoder, packed, inputs, memories)
    assert memories is not None, "an encoder has at least one walk"
    return _outputs(packed, memories)


def _first_nodes(batches: Sequence[GraphBatch], t: int) -> dict[int, int]:
    """Where each batch's nodes of timestamp `t` begin, for the batches that have it."""
    starts, end = {}, 0
    for index, batch in enumerate(batches):
        if t <= batch.architecture.num_layers:
            starts[index] = end
            end += len(batch) * batch.architecture.node_counts[t]
    return starts


def _event(batches: Sequence[GraphBatch], starts: list[dict[int, int]], t: int) -> PackedEvent:
    present = tuple(starts[t])
    num_edges = max(batches[index].edges[t - 1].shape[-1] for index in present)
    parts = [_pairs(batches[index], starts[t - 1][index], starts[t][index], t, num_edges) for index in present]
    edges, masks, sources, targets = zip(*parts, strict=True)
    mask = torch.cat(masks)
    return PackedEvent(
        torch.cat(edges),
        None if mask.all() else mask,
        torch.cat(sources),
        torch.cat(targets),
        present,
        tuple(r for index in present for r in _residuals(batches[index], starts, index, t)),
    )


def _pairs(
    batch: GraphBatch, first_source: int, first_target: int, t: int, num_edges: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    edges = batch.edges[t - 1]
    size, num_targets, num_sources, k = edges.shape
    mask = batch.mask(t)
    mask = torch.ones_like(edges, dtype=torch.bool) if mask is None else mask
    network, target, source = (
        axis.flatten() for axis in torch.meshgrid(*map(torch.arange, (size, num_targets, num_sources)), indexing="ij")
    )
    padding = (0, num_edges - k)
    return (
        torch.nn.functional.pad(edges.flatten(0, 2), padding),
        torch.nn.functional.pad(mask.flatten(0, 2), padding),
        first_source + network * num_sources + source,
        first_target + network * num_targets + target,
    )


def _residuals(batch: GraphBatch, starts: list[dict[int, int]], index: int, t: int) -> list[PackedResidual]:
    found, counts = [], batch.architecture.node_counts
    for edges in batch.residuals_into(t):
        source, offset = edges.residual.source, edges.residual.offset
        count = min(counts[source], counts[t] - offset, edges.residual.count or counts[source])
        networks = torch.arange(len(batch))
        if edges.networks is not None:
            networks = networks[edges.networks]
        nodes = torch.arange(count)
        sources = starts[source][index] + networks[:, None] * counts[source] + nodes
        targets = starts[t][index] + networks[:, None] * counts[t] + offset + nodes
        found.append(PackedResidual(source, sources.flatten(), targets.flatten()))
    return found


def _walk(
    walk: Walk, encoder: DNGEncoder, packed: PackedGraph, inputs: Tensor, before: list[Tensor] | None
) -> list[Tensor]:
    memories = [inputs]
    for t, event in enumerate(packed.events, start=1):
        layer = walk.layer(t)
        messages = _messages(walk, encoder, packed, event, memories, t)
        if layer.node_input is None:
            assert before is not None, "only walks behind the first one have no node inputs"
            memory = walk.update(before[t], messages)
        else:
            batches = [packed.batches[index] for index in event.graphs]
            scalars = torch.cat([node_scalars(b, t, walk.config.all_node_features).flatten(0, 1) for b in batches])
            embedding = _embedding(walk, batches, t)
            memory = layer.node_input(walk.update, encoder.features, scalars, embedding, messages)
        memories.append(_add_residuals(walk, layer.leave(memory), event, memories))
    return memories


def _messages(
    walk: Walk, encoder: DNGEncoder, packed: PackedGraph, event: PackedEvent, memories: list[Tensor], t: int
) -> Tensor:
    message = walk.layer(t).message
    assert not isinstance(message, AttentionMessage), "pack refuses transformers"
    along_pairs = message.along_pairs(encoder.features, event.edges, memories[-1], event.sources, event.mask)
    num_nodes = sum(packed.batches[index].nodes[t - 1][..., 0].numel() for index in event.graphs)
    messages = along_pairs.new_zeros(num_nodes, along_pairs.shape[1]).index_add(0, event.targets, along_pairs)
    if walk.residual_feature is None:
        return messages
    for residual in event.residuals:
        feature = walk.residual_feature * (t - residual.source_timestamp)
        sent = message.along_feature(feature, memories[residual.source_timestamp][residual.sources])
        messages = messages.index_add(0, residual.targets, sent)
    return messages


def _embedding(walk: Walk, batches: list[GraphBatch], t: int) -> Tensor | None:
    parts = []
    for batch in batches:
        embedding = walk.embedding(batch, t)
        if embedding is None:
            return None
        shape = (*batch.nodes[t - 1].shape[:2], embedding.shape[-1])
        parts.append(embedding.expand(shape).flatten(0, 1))
    return torch.cat(parts)


def _add_residuals(walk: Walk, memory: Tensor, event: PackedEvent, memories: list[Tensor]) -> Tensor:
    if walk.residual_feature is not None:
        return memory
    for residual in event.residuals:
        source = memories[residual.source_timestamp][residual.sources]
        memory = memory.index_add(0, residual.targets, source if walk.residual is None else walk.residual(source))
    return memory


def _outputs(packed: PackedGraph, memories: list[Tensor]) -> Tensor:
    parts = []
    for batch, (depth, first) in zip(packed.batches, packed.outputs, strict=True):
        count = batch.architecture.node_counts[depth]
        parts.append(memories[depth][first : first + len(batch) * count].unflatten(0, (-1, count)))
    return torch.cat(parts)
