"""Do the parts of an architecture fit each other: layers their neighbours, and slots the layers that they belong to?"""

from collections import Counter
from math import prod
from typing import TYPE_CHECKING

from zootool.architecture.bounds import MAX_ELEMENTS, MAX_LAYERS, check_all, check_text, check_whole
from zootool.architecture.layers import Residual, Timestamp, Tokens
from zootool.architecture.slots import ARRAYS, ParameterSlot
from zootool.errors import FormatError, printable

if TYPE_CHECKING:
    from zootool.architecture.family import Architecture

_MAX_SLOTS = 200_000
_MIN_SINCOS_NODES = 8
_NORM_ROLES = ("scale", "shift", "running_mean", "running_var")


def check_architecture(architecture: "Architecture") -> None:
    """Raise ValueError for layers, residuals and tokens that don't fit together, FormatError for slots that don't."""
    check_whole("num_inputs", architecture.num_inputs)
    check_text("family", architecture.family)
    check_all("timestamps", architecture.timestamps, Timestamp, MAX_LAYERS)
    check_all("slots", architecture.slots, ParameterSlot, _MAX_SLOTS)
    if not architecture.timestamps:
        raise ValueError("an architecture needs at least one timestamp")
    counts = architecture.node_counts
    for index, timestamp in enumerate(architecture.timestamps, start=1):
        if timestamp.num_sources != counts[index - 1]:
            raise ValueError(
                f"layer {index} has {timestamp.num_sources} sources, but {counts[index - 1]} nodes precede it"
            )
        if timestamp.kind == "attention":
            _check_heads(index, timestamp, architecture.timestamps[index - 2] if index > 1 else None)
        for residual in timestamp.residuals:
            _check_residual(index, residual, counts)
    if architecture.num_edges > MAX_ELEMENTS:
        raise ValueError(f"a network has {architecture.num_edges} edges, at most {MAX_ELEMENTS} are possible")
    if architecture.tokens is not None:
        _check_tokens(architecture.tokens, architecture)
    if architecture.slots:
        check_slots(architecture)


def check_slots(architecture: "Architecture") -> None:
    """Raise FormatError for gaps, overlaps, slots outside their layer, parts of other sizes, equal keys, loose ties."""
    for array in ARRAYS:
        end = 0
        for slot in architecture.stored_slots(array):
            if slot.start != end:
                raise FormatError(f"{_named(slot)} starts at {slot.start} of {array}, what is before it ends at {end}")
            end += slot.length
        if end != architecture.array_length(array):
            raise FormatError(f"the slots cover {end} of {architecture.array_length(array)} elements of {array}")
    exact = {slot.key: slot for slot in architecture.slots if not slot.rounded}
    if len(exact) != sum(not slot.rounded for slot in architecture.slots):
        raise FormatError("two slots have the same key")
    for slot in architecture.slots:
        _check_layer(slot, architecture)
        _check_tie(slot, exact)
        if slot.rounded and (slot.key not in exact or exact[slot.key].shape != slot.shape):
            raise FormatError(f"{_named(slot)} is rounded, but nothing holds the exact tensor")
    _check_parts(architecture, list(exact.values()))


def _check_heads(index: int, timestamp: Timestamp, before: Timestamp | None) -> None:
    if before is None or before.kind != "qkv" or before.num_heads != timestamp.num_heads:
        raise ValueError(f"layer {index} attends with {timestamp.num_heads} heads, but no such qkv layer precedes it")


def _check_residual(index: int, residual: Residual, counts: tuple[int, ...]) -> None:
    if not residual.source < index:
        raise ValueError(f"layer {index} adds the nodes of layer {residual.source}, which isn't before it")
    room = min(counts[residual.source], counts[index] - residual.offset)
    if (residual.count or 1) > room:
        raise ValueError(
            f"layer {index} adds {residual.count or 'the'} nodes of layer {residual.source} "
            f"from node {residual.offset} on, but there is room for {max(room, 0)}"
        )


def _check_tokens(tokens: Tokens, architecture: "Architecture") -> None:
    width = architecture.timestamps[0].num_nodes
    if tokens.patch_size is not None and architecture.num_inputs % tokens.patch_size**2:
        raise ValueError(
            f"patches of {tokens.patch_size} x {tokens.patch_size} pixels don't give {architecture.num_inputs} inputs"
        )
    if tokens.positions == "sincos_2d" and (width % 4 or width < _MIN_SINCOS_NODES):
        raise ValueError(f"tokens of {width} nodes have no sincos_2d positions")
    if not architecture.slots:
        return
    sizes: Counter[str] = Counter()
    for slot in architecture.slots:
        if slot.timestamp is None and not slot.rounded:
            sizes[slot.role] += prod(slot.shape)
    if tokens.class_token and sizes["token"] != width:
        raise ValueError(f"the class token has {sizes['token']} numbers for {width} nodes")
    if tokens.positions == "learned" and (not sizes["position"] or sizes["position"] % width):
        raise ValueError(f"the learned positions have {sizes['position']} numbers for tokens of {width} nodes")


def _check_layer(slot: ParameterSlot, architecture: "Architecture") -> None:
    layer = slot.timestamp
    if layer is not None and not 1 <= layer <= architecture.num_layers:
        raise FormatError(f"{_named(slot)} belongs to layer {layer} of {architecture.num_layers}")
    if slot.array not in ("edges", "nodes") or slot.length == 0:
        return
    bounds = architecture.edge_starts if slot.array == "edges" else architecture.node_starts
    if layer is None or not bounds[layer - 1] <= slot.start <= slot.start + slot.length <= bounds[layer]:
        raise FormatError(f"{_named(slot)} isn't in the {slot.array} of its layer, {layer}")


def _check_parts(architecture: "Architecture", slots: list[ParameterSlot]) -> None:
    """Weights, biases and norms have as many numbers as their layers have edges and nodes, weights in their order."""
    found: Counter[tuple[int, str]] = Counter()
    # A tensor with two keys in one layer is one part.
    parts = {(slot.timestamp, slot.role, slot.place): slot for slot in slots}
    for slot in parts.values():
        if slot.timestamp is not None:
            found[slot.timestamp, slot.role] += prod(slot.shape)
            if slot.role == "weight":
                _check_weight(slot, architecture.timestamps[slot.timestamp - 1])
    for index, layer in enumerate(architecture.timestamps, start=1):
        wanted = {"weight": layer.num_edges, "bias": layer.num_stored_nodes}
        norms = (("", layer.norm, layer.num_nodes), ("source_", layer.source_norm, layer.num_sources))
        for prefix, norm, count in norms:
            for role in _NORM_ROLES:
                if norm is None or (index, prefix + role) in found:
                    wanted[prefix + role] = 0 if norm is None else count
        for role, count in wanted.items():
            if found[index, role] != count:
                raise FormatError(f"layer {index} has {found[index, role]} numbers of {role}, it needs {count}")


def _check_weight(slot: ParameterSlot, layer: Timestamp) -> None:
    shape = slot.shape if slot.order is None else tuple(slot.shape[axis] for axis in slot.order)
    per_target = prod(shape[1:])
    if not shape or per_target != layer.num_sources * layer.edges_per_pair or (
        layer.kernel is not None and len(shape) == 4 and shape[2:] != layer.kernel
    ):  # fmt: skip
        raise FormatError(
            f"{_named(slot)} is {printable(shape, 60)}, its layer has {layer.num_sources} sources "
            f"and {layer.edges_per_pair} edges per pair"
        )


def _check_tie(slot: ParameterSlot, exact: dict[str, ParameterSlot]) -> None:
    if slot.alias_of is None:
        return
    target = exact.get(slot.alias_of)
    if target is None or target.alias_of is not None or (target.shape, target.dtype) != (slot.shape, slot.dtype):
        raise FormatError(f"{_named(slot)} is tied to {printable(slot.alias_of)!r}, which isn't stored like it")


def _named(slot: ParameterSlot) -> str:
    return f"slot {printable(slot.key)!r}"
