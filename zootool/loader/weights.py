"""How a loader gets at weights: kept in memory, or gathered from the store each time."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from zootool.architecture import ArrayName
from zootool.errors import UsageError
from zootool.loader.assemble import NODE_FEATURES, Group, assemble
from zootool.loader.batch import GraphBatch
from zootool.store.reader import SegmentSpan, Store

Mode = Literal["resident", "mapped"]

RESIDENT_BYTES = 1 << 30
"""The largest store that is kept in memory where nobody said how."""


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
        segment = torch.from_numpy(self._store.resident_segment(name, span))
        return segment.index_select(0, torch.from_numpy(rows - span.first_row))


def weight_source(store: Store, mode: Mode | None = None) -> WeightSource:
    """The access that `mode` names; small stores are kept in memory and large ones mapped where it is None."""
    size = sum(array.layout.length * 4 for array in store.arrays.values())
    if mode is None:
        mode = "resident" if size <= RESIDENT_BYTES else "mapped"
    if mode == "mapped":
        return MappedWeights(store)
    if mode != "resident":
        raise UsageError(f"mode must be 'resident' or 'mapped', got {mode!r}")
    return ResidentWeights(store)


def read_batch(store: Store, weights: WeightSource, rows: np.ndarray) -> GraphBatch:
    """The networks at `rows`, in that order. Their architectures must have the same node counts."""
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    segments = store.segment_of(rows)
    return assemble(_groups(store, weights, rows, segments), torch.from_numpy(rows))


def _groups(store: Store, weights: WeightSource, rows: np.ndarray, segments: np.ndarray) -> Sequence[Group]:
    groups = []
    for number in np.unique(segments).tolist():
        span = store.spans[number]
        places = np.flatnonzero(segments == number)
        arrays = {name: weights.gather(name, span, rows[places]) for name in _needed(span)}
        groups.append(Group(span.architecture, torch.from_numpy(places), arrays))
    return groups


def _needed(span: SegmentSpan) -> list[ArrayName]:
    roles = {slot.array for slot in span.architecture.slots if slot.role in NODE_FEATURES[1:]}
    return [name for name in ("edges", "nodes", "extras") if name != "extras" or name in roles]
