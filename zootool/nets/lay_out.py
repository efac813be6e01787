"""From the entries of a state_dict and what they are for to the slots of an Architecture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from zootool.architecture import DTYPE_BYTES, Architecture, ArrayName, ParameterSlot, Role, Timestamp
from zootool.architecture.slots import WIDENED_DTYPES
from zootool.errors import FormatError, printable

_GRAPH_ARRAYS: dict[str, ArrayName] = {"weight": "edges", "bias": "nodes"}
_ROUNDED_ROLES = (
    "weight", "bias", "scale", "shift", "running_mean", "running_var",
    "source_scale", "source_shift", "source_running_mean", "source_running_var",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A state_dict entry and its part in the network; the fields are those of ParameterSlot.

    `part` is its place among the tensors with one role in one layer, such as queries, keys and values; entries of equal
    parts follow one another as in the state_dict.
    """

    key: str
    shape: tuple[int, ...]
    role: Role = "other"
    timestamp: int | None = None
    dtype: str = "float32"
    order: tuple[int, ...] | None = None
    alias_of: str | None = None
    part: int = 0


def lay_out(num_inputs: int, timestamps: Sequence[Timestamp], entries: Sequence[Entry], **rest: Any) -> Architecture:
    """An architecture with these layers, whose slots hold the entries in the state_dict's order.

    Weights of one layer lie behind one another by their `part`. `rest` are other fields of Architecture. Raises
    ValueError for layers that don't fit together, FormatError for entries that don't fill them.
    """
    places = _Places()
    by_layer = _in_parts(sorted(entries, key=lambda entry: entry.timestamp or 0))
    slots_of = {entry.key: places.slots(entry) for entry in by_layer if entry.alias_of is None}
    for entry in by_layer:
        if entry.alias_of is not None:
            slots_of[entry.key] = places.tied_slots(entry, slots_of[entry.alias_of])
    slots = tuple(slot for entry in entries for slot in slots_of[entry.key])
    return Architecture(num_inputs, tuple(timestamps), slots, **rest)


def entries_of(architecture: Architecture) -> list[Entry]:
    """The entries whose `lay_out` gives the architecture's slots."""
    places = {slot.key: slot.start for slot in architecture.slots if slot.rounded or slot.array != "exact"}
    return [
        Entry(
            slot.key, slot.shape, slot.role, slot.timestamp, slot.dtype, slot.order, slot.alias_of,
            places.get(slot.key, slot.start),
        )
        for slot in architecture.slots
        if not slot.rounded
    ]  # fmt: skip


def _in_parts(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with those of one role and layer by their parts; all else stays where it is."""
    groups: dict[tuple[int | None, str], list[int]] = {}
    for place, entry in enumerate(entries):
        groups.setdefault((entry.timestamp, entry.role), []).append(place)
    ordered = list(entries)
    for places in groups.values():
        for place, entry in zip(places, sorted((entries[i] for i in places), key=lambda e: e.part), strict=True):
            ordered[place] = entry
    return ordered


def renamed(
    architecture: Architecture, names: Mapping[str, str], dtypes: Mapping[str, str] | None = None
) -> Architecture:
    """The architecture with other keys, in the order of `names` (old key to new); unnamed entries are left out.

    For checkpoints whose keys have a prefix, or lack what later versions of torch save. `dtypes` are those of new keys
    whose tensors have others. Raises FormatError where a layer would lose its weights.
    """
    by_key = {entry.key: entry for entry in entries_of(architecture)}
    entries = [
        replace(
            by_key[old],
            key=new,
            alias_of=names.get(by_key[old].alias_of or ""),
            dtype=(dtypes or {}).get(new, by_key[old].dtype),
        )
        for old, new in names.items()
    ]
    rest = {name: getattr(architecture, name) for name in ("family", "output_offset", "tokens")}
    return lay_out(architecture.num_inputs, architecture.timestamps, entries, **rest)


class _Places:
    """The next free element of every array."""

    def __init__(self) -> None:
        self._ends: dict[ArrayName, int] = {"edges": 0, "nodes": 0, "extras": 0, "exact": 0}

    def slots(self, entry: Entry) -> list[ParameterSlot]:
        array = _GRAPH_ARRAYS.get(entry.role, "extras") if entry.timestamp is not None else "extras"
        if entry.dtype in WIDENED_DTYPES:
            return [self._slot(entry, array)]
        if entry.role in _ROUNDED_ROLES and entry.dtype.startswith("complex"):
            raise FormatError(
                f"{printable(entry.key, 80)!r} is {entry.dtype}, and a graph's weights are real numbers",
                hint="save real and imaginary parts as tensors of their own",
            )
        rounded = [self._slot(entry, array, rounded=True)] if entry.role in _ROUNDED_ROLES else []
        return [*rounded, self._slot(entry, "exact")]

    def tied_slots(self, entry: Entry, targets: list[ParameterSlot]) -> list[ParameterSlot]:
        """Slots on the target's elements, but with elements of their own where another layer's graph needs them."""
        own = [slot.timestamp != entry.timestamp and slot.array in ("edges", "nodes") for slot in targets]
        if any(own):
            return self.slots(entry)
        return [
            ParameterSlot(
                entry.key, slot.array, slot.start, entry.shape, entry.dtype, entry.role, entry.timestamp,
                entry.order, entry.alias_of, slot.rounded,
            )
            for slot in targets
        ]  # fmt: skip

    def _slot(self, entry: Entry, array: ArrayName, rounded: bool = False) -> ParameterSlot:
        start = self._ends[array]
        self._ends[array] += prod(entry.shape) * (DTYPE_BYTES[entry.dtype] if array == "exact" else 1)
        return ParameterSlot(
            entry.key, array, start, entry.shape, entry.dtype, entry.role, entry.timestamp,
            entry.order, entry.alias_of, rounded,
        )  # fmt: skip
