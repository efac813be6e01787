"""From the entries of a state_dict and what they are for to the slots of an Architecture, under whatever keys."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from zootool.architecture import DTYPE_BYTES, Architecture, ArrayName, ParameterSlot, Role, Timestamp
from zootool.architecture.slots import NORM_PARTS, WIDENED_DTYPES
from zootool.errors import FormatError, printable
from zootool.nets.layer_order import layer_order
from zootool.nets.module_names import Shapes, is_in_order_of_definition, modules_of, num_outer

NORM_ROLES: dict[str, Role] = {
    "weight": "scale", "bias": "shift", "running_mean": "running_mean", "running_var": "running_var",
    "num_batches_tracked": "num_batches_tracked",
}  # fmt: skip
"""What a norm's tensors are called by torch -> their roles; see `norm_role`."""

_GRAPH_ARRAYS: dict[str, ArrayName] = {"weight": "edges", "bias": "nodes"}
_ROUNDED_ROLES = ("weight", "bias", *NORM_PARTS, *(f"source_{part}" for part in NORM_PARTS))


def norm_role(name: str, is_source: bool) -> Role:
    """The role of a norm's tensor, by torch's name for it, where the norm is on a layer's sums or on its sources."""
    role = NORM_ROLES[name]
    return f"source_{role}" if is_source and name != "num_batches_tracked" else role  # type: ignore[return-value]


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

    def slot(self, array: ArrayName, start: int, rounded: bool) -> ParameterSlot:
        """The slot of this entry at a place in an array."""
        return ParameterSlot(
            self.key, array, start, self.shape, self.dtype, self.role, self.timestamp, self.order,
            self.alias_of, rounded,
        )  # fmt: skip


def lay_out(num_inputs: int, timestamps: Sequence[Timestamp], entries: Sequence[Entry], **rest: Any) -> Architecture:
    """An architecture with these layers, whose slots hold the entries in the state_dict's order.

    Weights of one layer lie behind one another by their `part`. `rest` are other fields of Architecture. Raises
    ValueError for layers that don't fit together, FormatError for entries that don't fill them.
    """
    return Architecture(num_inputs, tuple(timestamps), _slots(entries), **rest)


def _slots(entries: Sequence[Entry]) -> tuple[ParameterSlot, ...]:
    groups: dict[tuple[int | None, str], list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.part):
        groups[entry.timestamp, entry.role].append(entry)
    # Those of one role and layer are by their parts; all else stays where it is.
    in_turn = {key: iter(group) for key, group in groups.items()}
    by_layer = [next(in_turn[e.timestamp, e.role]) for e in sorted(entries, key=lambda e: e.timestamp or 0)]
    places = _Places()
    slots_of = {entry.key: places.slots(entry) for entry in by_layer if entry.alias_of is None}
    for entry in by_layer:
        if entry.alias_of is not None:
            slots_of[entry.key] = places.tied_slots(entry, slots_of[entry.alias_of])
    return tuple(slot for entry in entries for slot in slots_of[entry.key])


def entries_of(architecture: Architecture) -> list[Entry]:
    """The entries whose `lay_out` gives the architecture's slots."""
    places = {slot.key: slot.start for slot in architecture.slots if slot.rounded or slot.array != "exact"}
    return [
        Entry(s.key, s.shape, s.role, s.timestamp, s.dtype, s.order, s.alias_of, places.get(s.key, s.start))
        for s in architecture.slots
        if not s.rounded
    ]


def renamed(
    architecture: Architecture, names: Mapping[str, str], dtypes: Mapping[str, str] | None = None
) -> Architecture:
    """The architecture with other keys, in the order of `names` (old key to new); unnamed entries are left out.

    For checkpoints whose keys have a prefix, or lack what later versions of torch save. `dtypes` are those of new keys
    whose tensors have others. Raises FormatError where a layer would lose its weights.
    """
    by_key = {entry.key: entry for entry in entries_of(architecture)}
    entries = []
    for old, new in names.items():
        entry = by_key[old]
        dtype = (dtypes or {}).get(new, entry.dtype)
        entries.append(replace(entry, key=new, alias_of=names.get(entry.alias_of or ""), dtype=dtype))
    return replace(architecture, slots=_slots(entries))


def with_keys(
    architecture: Architecture, shapes: Shapes, where: str, bare: Mapping[str, str] | None = None
) -> Architecture:
    """The architecture under a checkpoint's own keys and dtypes: by equal names, by names behind a prefix, by order.

    `bare` says which key is to be known under which name, by default those of `bare_names`. Counters that older
    versions of torch didn't save may be missing. Raises FormatError where shapes differ, or where nothing tells which
    tensor is which.
    """
    own = {slot.key: slot for slot in architecture.slots if not slot.rounded}
    needed = [key for key, slot in own.items() if slot.role != "num_batches_tracked"]
    bare = bare_names(shapes) if bare is None else bare
    if set(needed) <= set(bare) <= set(own):
        names = {key: bare[key] for key in own if key in bare}
    else:
        counts = {len(own): list(own), len(needed): needed}
        if len(shapes) not in counts:
            raise FormatError(
                f"{where}: the checkpoint has {len(shapes)} tensors, the architecture {len(own)}, "
                f"{len(own) - len(needed)} of them counters",
                hint="compare the parameters with the tensors' shapes",
            )
        names = dict(zip(counts[len(shapes)], _in_order(shapes, where), strict=True))
    for old, new in names.items():
        shape, dtype = shapes[new]
        is_counter = own[old].role == "num_batches_tracked"
        if own[old].shape != shape or (dtype != own[old].dtype and ("float" not in dtype or is_counter)):
            raise FormatError(
                f"{where}: {printable(new, 80)!r} is {dtype} {shape}, "
                f"the architecture says {own[old].dtype} {own[old].shape} for {old!r}",
                hint="compare the parameters with the tensors' shapes",
            )
    dtypes = {new: shapes[new][1] for new in names.values()}
    if list(names) == list(own) and all(old == new and own[old].dtype == dtypes[new] for old, new in names.items()):
        return architecture
    return renamed(architecture, names, dtypes)


def bare_names(shapes: Shapes) -> dict[str, str]:
    """What keys are called without wrappers and the prefix that all share -> the key."""
    modules = modules_of(shapes)
    shared = num_outer(modules)
    return {
        ".".join((*(segment for segment in module.path[shared:] if segment), name)): module.key(name)
        for module in modules
        for name in module.tensors
    }


def _in_order(shapes: Shapes, where: str) -> list[str]:
    """The keys as the modules were defined, or else as names and shapes put layers without norms."""
    modules = modules_of(shapes)
    is_saved_in_order = is_in_order_of_definition(shapes)
    are_layers = all(set(m.tensors) <= {"weight", "bias"} and len(m.weight) in (2, 4) for m in modules)
    if are_layers:
        modules, _ = layer_order(modules, is_saved_in_order, where)
        return [module.key(name) for module in modules for name in ("weight", "bias") if name in module.tensors]
    if not is_saved_in_order:
        raise FormatError(
            f"{where}: its names aren't the family's, and its tensors are sorted, so nothing tells which is which",
            hint="convert the torch file that it was made from, or declare the layers one by one",
        )
    return list(shapes)


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
        if any(slot.timestamp != entry.timestamp and slot.array in ("edges", "nodes") for slot in targets):
            return self.slots(entry)
        return [entry.slot(slot.array, slot.start, slot.rounded) for slot in targets]

    def _slot(self, entry: Entry, array: ArrayName, rounded: bool = False) -> ParameterSlot:
        start = self._ends[array]
        self._ends[array] += prod(entry.shape) * (DTYPE_BYTES[entry.dtype] if array == "exact" else 1)
        return entry.slot(array, start, rounded)


def weight_and_bias(prefix: str, weight_shape: tuple[int, ...], timestamp: int) -> list[Entry]:
    """The two entries of a layer with a bias."""
    return [
        Entry(f"{prefix}.weight", weight_shape, "weight", timestamp),
        Entry(f"{prefix}.bias", weight_shape[:1], "bias", timestamp),
    ]
