"""Do an architecture's slots cover the arrays of its networks, each in the part that belongs to its layer?"""

from zootool.architecture.family import Architecture
from zootool.architecture.slots import ARRAYS, ParameterSlot
from zootool.errors import FormatError, printable


def check_slots(architecture: Architecture) -> None:
    """Raise FormatError for gaps, overlaps, slots outside their layer, equal keys and ties with one end."""
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


def _check_layer(slot: ParameterSlot, architecture: Architecture) -> None:
    layer = slot.timestamp
    if layer is not None and not 1 <= layer <= architecture.num_layers:
        raise FormatError(f"{_named(slot)} belongs to layer {layer} of {architecture.num_layers}")
    if slot.array not in ("edges", "nodes") or slot.length == 0:
        return
    bounds = architecture.edge_starts if slot.array == "edges" else architecture.node_starts
    if layer is None or not bounds[layer - 1] <= slot.start <= slot.start + slot.length <= bounds[layer]:
        raise FormatError(f"{_named(slot)} isn't in the {slot.array} of its layer, {layer}")


def _check_tie(slot: ParameterSlot, exact: dict[str, ParameterSlot]) -> None:
    if slot.alias_of is None:
        return
    target = exact.get(slot.alias_of)
    if target is None or target.alias_of is not None or (target.shape, target.dtype) != (slot.shape, slot.dtype):
        raise FormatError(f"{_named(slot)} is tied to {printable(slot.alias_of)!r}, which isn't stored like it")


def _named(slot: ParameterSlot) -> str:
    return f"slot {printable(slot.key)!r}"
