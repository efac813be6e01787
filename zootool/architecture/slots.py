"""Which slice of a network's stored numbers each state_dict entry is, and whether all of them fit the layers."""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal, get_args

from zootool.architecture.bounds import MAX_ELEMENTS, MAX_LAYERS, check_choice, check_text, check_whole
from zootool.errors import FormatError, printable

if TYPE_CHECKING:
    from zootool.architecture.family import Architecture
    from zootool.architecture.layers import Timestamp

ArrayName = Literal["edges", "nodes", "extras", "exact"]
Role = Literal[
    "weight", "bias", "scale", "shift", "running_mean", "running_var",
    "source_scale", "source_shift", "source_running_mean", "source_running_var",
    "num_batches_tracked", "position", "token", "other",
]  # fmt: skip

ARRAYS: tuple[ArrayName, ...] = ("edges", "nodes", "extras", "exact")

DTYPE_BYTES: dict[str, int] = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip

WIDENED_DTYPES = ("float32", "float16", "bfloat16")
"""What float32 holds without loss, so that it may lie in edges, nodes and extras."""

_ROLES = frozenset(get_args(Role))
NORM_PARTS = ("scale", "shift", "running_mean", "running_var")
"""Roles of a norm on a layer's sums; those of one on its sources begin with `source_`."""
_MAX_AXES = 32
"""What every version of numpy can hold."""


@dataclass(frozen=True)
class ParameterSlot:
    """Where the state_dict entry `key` lies in one network's part of an array.

    `start` counts elements (bytes in `exact`). The stored elements are the tensor of `shape` with its axes in `order`
    (torch's own order by default), flattened; `dtype` is the checkpoint's. A tied tensor names in `alias_of` the key
    whose storage it shares. `timestamp` is the layer, 1..L, that the entry belongs to, None where it belongs to none.

    A tensor that float32 can't hold has its bytes in `exact`; where it is a weight, bias or norm, edges, nodes or
    extras hold its rounded numbers too, in a slot with the same key that is `rounded`.
    """

    key: str
    array: ArrayName
    start: int
    shape: tuple[int, ...]
    dtype: str = "float32"
    role: Role = "weight"
    timestamp: int | None = None
    order: tuple[int, ...] | None = None
    alias_of: str | None = None
    rounded: bool = False

    def __post_init__(self) -> None:
        check_text("a slot's key", self.key)
        try:
            self._check()
        except ValueError as error:
            raise ValueError(f"slot {printable(self.key)!r}: {error}") from None

    @property
    def length(self) -> int:
        """Elements taken in the array; bytes in `exact`."""
        return prod(self.shape) * (DTYPE_BYTES[self.dtype] if self.array == "exact" else 1)

    def _check(self) -> None:
        check_choice("its array", self.array, ARRAYS)
        check_choice("its dtype", self.dtype, DTYPE_BYTES)
        check_choice("its role", self.role, _ROLES)
        check_whole("its start", self.start, 0, MAX_ELEMENTS)
        if not isinstance(self.shape, tuple) or len(self.shape) > _MAX_AXES:
            raise ValueError(f"its shape must be a tuple of at most {_MAX_AXES} sizes")
        for size in self.shape:
            check_whole("a size", size, 0, MAX_ELEMENTS)
        if self.start + self.length > MAX_ELEMENTS:
            raise ValueError("it ends beyond what an array can hold")
        if self.timestamp is not None:
            check_whole("its timestamp", self.timestamp, 1, MAX_LAYERS)
        if self.alias_of is not None:
            check_text("alias_of", self.alias_of)
        if not isinstance(self.rounded, bool) or (self.rounded and self.array == "exact"):
            raise ValueError("numbers in exact are not rounded")
        if self.array != "exact" and not self.rounded and self.dtype not in WIDENED_DTYPES:
            raise ValueError(f"{self.array} can't hold {self.dtype} without loss")
        if self.rounded and self.dtype.startswith("complex"):
            raise ValueError(f"{self.dtype} can't be rounded to float32")
        if self.order is not None and sorted(self.order) != list(range(len(self.shape))):
            raise ValueError(f"order {printable(self.order, 60)} is no permutation of its {len(self.shape)} axes")

    @property
    def place(self) -> tuple[ArrayName, int]:
        """The array and the first element."""
        return self.array, self.start


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
            for role in NORM_PARTS:
                if norm is None or (index, prefix + role) in found:
                    wanted[prefix + role] = 0 if norm is None else count
        for role, count in wanted.items():
            if found[index, role] != count:
                raise FormatError(f"layer {index} has {found[index, role]} numbers of {role}, it needs {count}")


def _check_weight(slot: ParameterSlot, layer: "Timestamp") -> None:
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
