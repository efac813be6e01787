"""How a loader gets at weights: kept in memory, gathered from the store each time, or streamed in blocks."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

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


class WeightSource(Protocol):
    """Gives rows of one segment's part of an array."""

    def gather(self, name: ArrayName, span: SegmentSpan, rows: np.ndarray) -> Tensor:
        """(networks, array_length) float32 for some rows of a segment."""
        ...


class MappedWeights:
    """Rows straight from the store's files."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def gather(self, name: ArrayName, span: SegmentSpan, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self._store.gather(name, span, rows))


class ResidentWeights:
    """Whole segments in memory, each read when its first row is asked for, and shared by the loaders of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def gather(self, name: ArrayName, span: SegmentSpan, rows: np.ndarray) -> Tensor:
        return _take(self._store.resident_segment(name, span), rows - span.first_row)


class WindowWeights:
    """The rows of one window, read in the order in which they lie."""

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        self._rows = np.unique(rows)
        self._parts: dict[tuple[str, int], np.ndarray] = {}
        segments = store.segment_of(self._rows)
        for number in np.unique(segments).tolist():
            span = store.spans[number]
            mine = self._rows[segments == number]
            for name in needed_arrays(span):
                self._parts[name, span.first_row] = store.gather(name, span, mine)

    def gather(self, name: ArrayName, span: SegmentSpan, rows: np.ndarray) -> Tensor:
        first = np.searchsorted(self._rows, span.first_row)
        places = np.searchsorted(self._rows, rows) - first
        return _take(self._parts[name, span.first_row], places)


class WindowReader:
    """Windows one after another, the next one read by a thread while this one is used."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="zoo-loader")
        self._ahead: dict[int, Future[WindowWeights]] = {}

    def window(self, number: int, rows: np.ndarray, next_rows: np.ndarray | None) -> WindowWeights:
        """Window `number`, which holds `rows`; `next_rows` are those of the window that will be asked for next."""
        waiting = self._ahead.pop(number, None)
        self._ahead.clear()
        if next_rows is not None:
            self._ahead[number + 1] = self._pool.submit(WindowWeights, self._store, next_rows)
        return WindowWeights(self._store, rows) if waiting is None else waiting.result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)


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


def read_batch(store: Store, weights: WeightSource, rows: np.ndarray) -> GraphBatch:
    """The networks at `rows`, in that order. Their architectures must have the same node counts."""
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    segments = store.segment_of(rows)
    return assemble(_groups(store, weights, rows, segments), torch.from_numpy(rows))


def needed_arrays(span: SegmentSpan) -> list[ArrayName]:
    """The arrays that a batch of graphs is made from."""
    has_norms = any(slot.role in NODE_FEATURES[1:] and slot.array == "extras" for slot in span.architecture.slots)
    return ["edges", "nodes", "extras"] if has_norms else ["edges", "nodes"]


def _take(rows: np.ndarray, places: np.ndarray) -> Tensor:
    # Copying some rows is over before torch's threads have met.
    return torch.from_numpy(np.take(rows, places, axis=0, mode="clip"))


def _groups(store: Store, weights: WeightSource, rows: np.ndarray, segments: np.ndarray) -> Sequence[Group]:
    groups = []
    for number in np.unique(segments).tolist():
        span = store.spans[number]
        places = np.flatnonzero(segments == number)
        arrays = {name: weights.gather(name, span, rows[places]) for name in needed_arrays(span)}
        groups.append(Group(span.architecture, torch.from_numpy(places), arrays))
    return groups
