"""How a loader gets at weights: kept in memory, gathered from the store each time, or streamed in blocks."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from zootool.architecture import ArrayName
from zootool.errors import UsageError
from zootool.graph import GraphBatch
from zootool.loader.assemble import NODE_FEATURES, Group, assemble
from zootool.store.reader import SegmentSpan, Store
from zootool.store.storage import LocalStorage

Mode = Literal["resident", "mapped", "streamed"]

RESIDENT_BYTES = 1 << 30
"""The largest store that is kept in memory where nobody said how."""

WINDOW_BYTES = 64 << 20
"""How much is mixed at a time where a store is streamed and nobody said how much."""


Gather = Callable[[ArrayName, SegmentSpan, np.ndarray], Tensor]
"""Gives the part of an array that belongs to some rows of a segment: (networks, array_length) float32."""


def mapped(store: Store) -> Gather:
    """Rows straight from the store's files."""
    return lambda name, span, rows: torch.from_numpy(store.gather(name, span, rows))


def resident(store: Store) -> Gather:
    """Whole segments in memory, each read when its first row is asked for, and shared by the loaders of a store."""
    return lambda name, span, rows: _take(store.resident_segment(name, span), rows - span.first_row)


def window(store: Store, rows: np.ndarray) -> Gather:
    """The rows of one window alone, read at once and in the order in which they lie."""
    rows = np.unique(rows)
    segments = store.segment_of(rows)
    parts: dict[tuple[str, int], np.ndarray] = {}
    for number in np.unique(segments).tolist():
        span = store.spans[number]
        for name in needed_arrays(span):
            parts[name, span.first_row] = store.gather(name, span, rows[segments == number])

    def gather(name: ArrayName, span: SegmentSpan, wanted: np.ndarray) -> Tensor:
        first = np.searchsorted(rows, span.first_row)
        return _take(parts[name, span.first_row], np.searchsorted(rows, wanted) - first)

    return gather


def choose_mode(store: Store, mode: Mode | None) -> Mode:
    """`mode`, or what suits the store: small ones are kept in memory, others mapped where they are local and plain.

    Raises UsageError for an unknown mode.
    """
    if mode not in (None, "resident", "mapped", "streamed"):
        raise UsageError(f"mode must be 'resident', 'mapped' or 'streamed', got {mode!r}")
    if mode is not None:
        return mode
    if stored_bytes(store) <= RESIDENT_BYTES:
        return "resident"
    plain = all(array.layout.is_plain for array in store.arrays.values())
    return "mapped" if plain and isinstance(store.storage, LocalStorage) else "streamed"


def stored_bytes(store: Store) -> int:
    """Bytes of all arrays."""
    return sum(array.layout.length * array.layout.item_bytes for array in store.arrays.values())


def read_batch(store: Store, gather: Gather, rows: np.ndarray) -> GraphBatch:
    """The networks at `rows`, in that order. Their architectures must have the same node counts."""
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    segments = store.segment_of(rows)
    groups = []
    for number in np.unique(segments).tolist():
        span = store.spans[number]
        places = np.flatnonzero(segments == number)
        arrays = {name: gather(name, span, rows[places]) for name in needed_arrays(span)}
        groups.append(Group(span.architecture, torch.from_numpy(places), arrays))
    return assemble(groups, torch.from_numpy(rows))


def needed_arrays(span: SegmentSpan) -> list[ArrayName]:
    """The arrays that a batch of graphs is made from."""
    has_norms = any(slot.role in NODE_FEATURES[1:] and slot.array == "extras" for slot in span.architecture.slots)
    return ["edges", "nodes", "extras"] if has_norms else ["edges", "nodes"]


def _take(rows: np.ndarray, places: np.ndarray) -> Tensor:
    # Copying some rows is over before torch's threads have met.
    return torch.from_numpy(np.take(rows, places, axis=0, mode="clip"))
