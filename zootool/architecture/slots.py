"""Which slice of a network's stored numbers each state_dict entry is. Stdlib only."""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

from zootool.architecture.bounds import MAX_ELEMENTS, MAX_LAYERS, check_choice, check_text, check_whole
from zootool.errors import printable

ArrayName = Literal["edges", "nodes", "extras", "exact"]
Role = Literal[
    "weight",
    "bias",
    "scale",
    "shift",
    "running_mean",
    "running_var",
    "source_scale",
    "source_shift",
    "source_running_mean",
    "source_running_var",
    "num_batches_tracked",
    "position",
    "token",
    "other",
]

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
