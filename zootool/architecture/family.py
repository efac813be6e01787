"""A network family as a dynamic graph, `Architecture`.

A network's inference is a walk over timestamps t = 0..L (paper, section 4). The inputs v^0 are there at t = 0; the
event at t = l adds the nodes v^l of layer l and the edges e^l that lead to them from v^(l-1), and for l > 1 deletes
v^(l-2) and e^(l-1). An `Architecture` says how many nodes and edges each event adds and what the layer computes, and
which slice of a network's stored numbers each parameter is.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from typing import Any

import zootool
from zootool.architecture.bounds import MAX_ELEMENTS, MAX_LAYERS, check_all, check_text, check_whole, checked_number
from zootool.architecture.layers import Residual, Timestamp, Tokens
from zootool.architecture.slots import ARRAYS, ArrayName, ParameterSlot, check_slots
from zootool.records import from_plain, to_plain

_MAX_SLOTS = 200_000
_MIN_SINCOS_NODES = 8


@dataclass(frozen=True)
class Architecture:
    """A family of networks with the same layers: the timestamps t = 1..L and the slot of every state_dict entry.

    `output_offset` is added to the network's output (0.5 for SIRENs that were fitted to images in [0, 1]). `tokens`
    says how a transformer makes tokens of its input. `family` is a word for people ("siren", "cnn", "vit"): nothing
    depends on it. Raises ValueError where a number is out of bounds or a layer doesn't fit its neighbours,
    FormatError where the slots don't fit the layers; models that need no state_dict leave the slots out.
    """

    num_inputs: int
    timestamps: tuple[Timestamp, ...]
    slots: tuple[ParameterSlot, ...] = ()
    family: str = "mlp"
    output_offset: float = 0.0
    tokens: Tokens | None = None

    def __post_init__(self) -> None:
        offset = checked_number("output_offset", self.output_offset)
        object.__setattr__(self, "output_offset", offset)
        check_whole("num_inputs", self.num_inputs)
        check_text("family", self.family)
        check_all("timestamps", self.timestamps, Timestamp, MAX_LAYERS)
        check_all("slots", self.slots, ParameterSlot, _MAX_SLOTS)
        if not self.timestamps:
            raise ValueError("an architecture needs at least one timestamp")
        counts = self.node_counts
        before = None
        for index, timestamp in enumerate(self.timestamps, start=1):
            if timestamp.num_sources != counts[index - 1]:
                raise ValueError(
                    f"layer {index} has {timestamp.num_sources} sources, but {counts[index - 1]} nodes precede it"
                )
            timestamp.traits.check_follows(index, timestamp, before)
            for residual in timestamp.residuals:
                _check_residual(index, residual, counts)
            before = timestamp
        if self.num_edges > MAX_ELEMENTS:
            raise ValueError(f"a network has {self.num_edges} edges, at most {MAX_ELEMENTS} are possible")
        if self.tokens is not None:
            _check_tokens(self.tokens, self)
        if self.slots:
            check_slots(self)

    def __hash__(self) -> int:
        return hash(self.signature)

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

    @cached_property
    def edge_starts(self) -> tuple[int, ...]:
        """Where the edges of timestamps 1..L begin in a network's row of `edges`, and where the last ones end."""
        return tuple(accumulate((t.num_edges for t in self.timestamps), initial=0))

    @cached_property
    def node_starts(self) -> tuple[int, ...]:
        """The same for the biases in `nodes`."""
        return tuple(accumulate((t.num_stored_nodes for t in self.timestamps), initial=0))

    def array_length(self, array: ArrayName) -> int:
        """Elements (bytes in `exact`) that one network takes in an array."""
        return self._lengths[array]

    @cached_property
    def _lengths(self) -> dict[ArrayName, int]:
        kept = {array: sum(slot.length for slot in slots) for array, slots in self._stored_slots.items()}
        return {**kept, "edges": self.num_edges, "nodes": self.num_nodes}

    def stored_slots(self, array: ArrayName) -> tuple[ParameterSlot, ...]:
        """The slots with elements of their own in an array, in their order; a tied tensor may share another's."""
        return self._stored_slots[array]

    @cached_property
    def _stored_slots(self) -> dict[ArrayName, tuple[ParameterSlot, ...]]:
        stored: dict[ArrayName, dict[int, ParameterSlot]] = {array: {} for array in ARRAYS}
        for slot in self.slots:
            found = stored[slot.array]
            if slot.length and (slot.alias_of is None or slot.start not in found):
                found[slot.start] = slot
        return {array: tuple(found[start] for start in sorted(found)) for array, found in stored.items()}

    @cached_property
    def signature(self) -> str:
        """16 hex digits that name this architecture: the head of the SHA-256 of its canonical JSON."""
        return signature_of(self.to_dict())

    @property
    def structure(self) -> tuple[object, ...]:
        """What its networks compute, hashable: equal where keys, dtypes and their places in the store alone differ."""
        return self.num_inputs, self.timestamps, self.output_offset, self.tokens

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is at its default is left out."""
        return to_plain(self)

    @classmethod
    def from_module(cls, module: Any, example_input: Any, family: str = "traced") -> "Architecture":
        """The architecture of a live torch module, traced by torch.fx for inputs like `example_input`.

        Raises FormatError that names what no architecture can express.
        """
        # By the package's own lazy name: torch mustn't be needed to know what an architecture is.
        return zootool.architecture_of(module, example_input, family)

    @classmethod
    def from_dict(cls, value: Any, where: str = "architecture") -> "Architecture":
        """The inverse of `to_dict`. Raises FormatError."""
        return from_plain(cls, value, where)


def signature_of(plain: dict[str, Any]) -> str:
    """The signature of what `Architecture.to_dict` gave, or of a later version's with keys that this one ignores."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _check_residual(index: int, residual: Residual, counts: tuple[int, ...]) -> None:
    if not residual.source < index:
        raise ValueError(f"layer {index} adds the nodes of layer {residual.source}, which isn't before it")
    room = min(counts[residual.source], counts[index] - residual.offset)
    if (residual.count or 1) > room:
        raise ValueError(
            f"layer {index} adds {residual.count or 'the'} nodes of layer {residual.source} "
            f"from node {residual.offset} on, but there is room for {max(room, 0)}"
        )


def _check_tokens(tokens: Tokens, architecture: Architecture) -> None:
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
