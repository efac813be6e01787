"""A network family as a dynamic graph: the noun that building, storing and encoding share.

A network's inference is a walk over timestamps t = 0..L (paper, section 4). The inputs v^0 are there at t = 0; the
event at t = l adds the nodes v^l of layer l and the edges e^l that lead to them from v^(l-1), and for l > 1 deletes
v^(l-2) and e^(l-1). An `Architecture` says how many nodes and edges each event adds and what the layer computes, and
which slice of a network's stored numbers each parameter is.

This module needs the standard library alone, so that models can use it without zarr, pandas or torch.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

from zootool.records import from_plain, to_plain

LayerKind = Literal["linear", "conv", "flatten_linear", "pool_linear", "qkv", "attention"]
ArrayName = Literal["edges", "nodes", "extras", "exact"]
Role = Literal[
    "weight",
    "bias",
    "scale",
    "shift",
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "position",
    "token",
    "other",
]

ARRAYS: tuple[ArrayName, ...] = ("edges", "nodes", "extras", "exact")

DTYPE_BYTES: dict[str, int] = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Activation:
    """The pointwise function behind a layer, such as `Activation("sine", omega_0=30.0)`."""

    name: str = "none"
    omega_0: float | None = None
    negative_slope: float | None = None


@dataclass(frozen=True)
class Norm:
    """A normalisation layer between a layer's product and its activation, or before the product (`before=True`)."""

    kind: Literal["batch", "layer", "group"]
    eps: float = 1e-5
    num_groups: int | None = None
    affine: bool = True
    before: bool = False


@dataclass(frozen=True)
class Pooling:
    """Pooling of a layer's sources before its product; `size=None` pools over everything that is left."""

    kind: Literal["mean", "max"]
    size: int | None = None
    stride: int | None = None


@dataclass(frozen=True)
class Residual:
    """The nodes of timestamp `source` added again: node i to node i + offset of the target (method, section 1).

    `stride` is the spatial stride of a parameter-free shortcut. `count` nodes take part: by default as many as both
    ends have room for. With `before_activation` the sum is taken before the target's activation, else behind it.
    """

    source: int
    offset: int = 0
    stride: int = 1
    count: int | None = None
    before_activation: bool = True


@dataclass(frozen=True)
class Timestamp:
    """What the event at t = l adds: `num_nodes` nodes, and `edges_per_pair` edges (k) from every source to each.

    For a convolution k is the kernel's height x width, for a linear layer behind a flatten the number of positions
    per channel. The timestamp inside attention has nodes but no stored edges: its k is 0.
    """

    kind: LayerKind
    num_nodes: int
    num_sources: int
    edges_per_pair: int = 1
    has_bias: bool = True
    activation: Activation = Activation()
    kernel: tuple[int, int] | None = None
    stride: int = 1
    padding: int = 0
    pooling: Pooling | None = None
    norm: Norm | None = None
    num_heads: int | None = None
    residuals: tuple[Residual, ...] = ()

    def __post_init__(self) -> None:
        if self.num_nodes < 1 or self.num_sources < 1:
            raise ValueError(f"a layer needs nodes and sources, got {self.num_nodes} and {self.num_sources}")
        if self.edges_per_pair < (0 if self.kind == "attention" else 1):
            raise ValueError(f"a {self.kind} layer can't have {self.edges_per_pair} edges per pair")
        if self.kind == "conv" and (self.kernel is None or prod(self.kernel) != self.edges_per_pair):
            raise ValueError(f"kernel {self.kernel} doesn't have {self.edges_per_pair} edges per pair")

    @property
    def num_edges(self) -> int:
        """Stored edges: targets x sources x k."""
        return self.num_nodes * self.num_sources * self.edges_per_pair

    @property
    def num_stored_nodes(self) -> int:
        """Stored node features: the biases, none where the layer has no bias."""
        return self.num_nodes if self.has_bias else 0


@dataclass(frozen=True)
class ParameterSlot:
    """Where the state_dict entry `key` lies in one network's part of an array.

    `start` counts elements (bytes in `exact`). The stored elements are the tensor of `shape` with its axes in `order`
    (torch's own order by default), flattened; `dtype` is the checkpoint's. `alias_of` names the key whose storage a
    tied tensor shares. `timestamp` is the layer, 1..L, that the entry belongs to.
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

    def __post_init__(self) -> None:
        if self.start < 0 or any(size < 0 for size in self.shape):
            raise ValueError(f"slot {self.key!r} has a negative start or size: {self.start}, {self.shape}")
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"slot {self.key!r} has the dtype {self.dtype!r}, known are {', '.join(DTYPE_BYTES)}")
        if self.order is not None and sorted(self.order) != list(range(len(self.shape))):
            raise ValueError(f"slot {self.key!r}: order {self.order} is no permutation of its {len(self.shape)} axes")

    @property
    def length(self) -> int:
        """Elements taken in the array; bytes in `exact`."""
        return prod(self.shape) * (DTYPE_BYTES[self.dtype] if self.array == "exact" else 1)


@dataclass(frozen=True)
class Architecture:
    """A family of networks with the same layers: the timestamps t = 1..L and the slot of every state_dict entry.

    `output_offset` is added to the network's output (0.5 for SIRENs that were fitted to images in [0, 1]).
    `family` is a word for people ("siren", "cnn", "vit"); nothing depends on it.
    """

    num_inputs: int
    timestamps: tuple[Timestamp, ...]
    slots: tuple[ParameterSlot, ...] = ()
    family: str = "mlp"
    output_offset: float = 0.0

    def __post_init__(self) -> None:
        if not self.timestamps:
            raise ValueError("an architecture needs at least one timestamp")
        counts = self.node_counts
        for index, timestamp in enumerate(self.timestamps, start=1):
            if timestamp.num_sources != counts[index - 1]:
                raise ValueError(
                    f"layer {index} has {timestamp.num_sources} sources, but {counts[index - 1]} nodes precede it"
                )
            for residual in timestamp.residuals:
                if not 0 <= residual.source < index:
                    raise ValueError(f"layer {index} adds the nodes of layer {residual.source}, which isn't before it")

    @property
    def num_layers(self) -> int:
        """L, the last timestamp."""
        return len(self.timestamps)

    @property
    def node_counts(self) -> tuple[int, ...]:
        """(n_0, ..., n_L)."""
        return (self.num_inputs, *(t.num_nodes for t in self.timestamps))

    @property
    def edges_per_pair(self) -> tuple[int, ...]:
        """k of every timestamp 1..L."""
        return tuple(t.edges_per_pair for t in self.timestamps)

    @property
    def num_edges(self) -> int:
        """Stored edges of one network."""
        return sum(t.num_edges for t in self.timestamps)

    @property
    def num_nodes(self) -> int:
        """Stored node features of one network."""
        return sum(t.num_stored_nodes for t in self.timestamps)

    def array_length(self, array: ArrayName) -> int:
        """Elements (bytes in `exact`) that one network takes in an array."""
        if array == "edges":
            return self.num_edges
        if array == "nodes":
            return self.num_nodes
        return sum(slot.length for slot in self.slots if slot.array == array and slot.alias_of is None)

    @cached_property
    def signature(self) -> str:
        """16 hex digits that name this architecture: the head of the SHA-256 of its canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is at its default is left out."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, value: Any, where: str = "architecture") -> "Architecture":
        """The inverse of `to_dict`, with everything checked. Raises FormatError."""
        return from_plain(cls, value, where)
