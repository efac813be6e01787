"""One epoch of a zoo after another, as batches of dynamic graphs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zootool.errors import UsageError, printable
from zootool.loader.batch import GraphBatch
from zootool.loader.images import ImageJoin
from zootool.loader.order import EpochOrder, OrderConfig, epoch_order, num_batches
from zootool.loader.weights import WeightSource, read_batch
from zootool.store.reader import Store


class Loader:
    """Batches of the networks at `rows` of a store.

    Iterating gives one epoch; the next iteration gives the next epoch, in another order where `shuffle` is set. An
    epoch that is left early is begun again. `state_dict` between two batches says where the loader is, and after
    `load_state_dict` the next iteration goes on from there.
    """

    def __init__(
        self,
        store: Store,
        weights: WeightSource,
        rows: np.ndarray,
        order: OrderConfig,
        targets: Sequence[str] = (),
        images: ImageJoin | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self._store = store
        self._weights = weights
        self._rows = rows
        self._order = order
        self._targets = {name: _as_tensor(store, name, rows) for name in targets}
        self._images = images
        self._device = None if device is None else torch.device(device)
        self._buckets = _buckets(store, rows)
        self._epoch = 0
        self._next_batch = 0
        self._resume_at = 0

    def __len__(self) -> int:
        return num_batches([len(bucket) for bucket in self._buckets], self._order)

    def __iter__(self) -> Iterator[GraphBatch]:
        order = epoch_order(self._buckets, self._order, self._epoch)
        self._next_batch, self._resume_at = self._resume_at, 0
        return self._iterate(order, self._epoch)

    def state_dict(self) -> dict[str, Any]:
        """The epoch and the number of its batches that have been given out, with what the order depends on."""
        return {"epoch": self._epoch, "batch": self._next_batch} | self._identity()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`. Raises UsageError when it is of another zoo, selection or setting."""
        for key, value in self._identity().items():
            if state.get(key) != value:
                raise UsageError(f"the loader's state has {key}={state.get(key)}, this loader has {key}={value}")
        epoch, batch = int(state["epoch"]), int(state["batch"])
        if epoch < 0 or not 0 <= batch < max(len(self), 1):
            raise UsageError(f"the loader's state says batch {batch} of epoch {epoch}, an epoch has {len(self)}")
        self._epoch = epoch
        self._next_batch = self._resume_at = batch

    def _iterate(self, order: EpochOrder, epoch: int) -> Iterator[GraphBatch]:
        for index in range(self._next_batch, len(order)):
            batch = self._read(order.batch(index))
            # The state moves on before the batch is handed over, so that a state taken with it counts it as given out.
            is_last = index + 1 == len(order)
            self._epoch, self._next_batch = (epoch + 1, 0) if is_last else (epoch, index + 1)
            yield batch

    def _read(self, positions: np.ndarray) -> GraphBatch:
        batch = read_batch(self._store, self._weights, self._rows[positions])
        places = torch.from_numpy(positions)
        targets = {name: column[places] for name, column in self._targets.items()}
        images = None if self._images is None else self._images.images(places)
        batch = replace(batch, targets=targets, images=images)
        return batch if self._device is None else batch.to(self._device, non_blocking=True)

    def _identity(self) -> dict[str, Any]:
        order = self._order
        return {
            "zoo": self._store.zoo_id,
            "selection": f"{len(self._rows)}:{crc32(self._rows.tobytes()):08x}",
            "batch_size": order.batch_size,
            "shuffle": order.shuffle,
            "seed": order.seed,
            "rank": order.rank,
            "world_size": order.world_size,
            "drop_last": order.drop_last,
        }


def _as_tensor(store: Store, name: str, rows: np.ndarray) -> Tensor:
    column = store.nets.read([name])[name]
    if column.null_count or not _is_number(column.type):
        problem = "has gaps" if column.null_count else f"holds {column.type}"
        raise UsageError(
            f"the column {printable(name)!r} {problem}, a target needs a number for every network",
            hint="choose other targets, or select the networks that have it",
        )
    return torch.from_numpy(np.array(column.to_numpy()[rows]))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _buckets(store: Store, rows: np.ndarray) -> list[np.ndarray]:
    """Positions of `rows` by the node counts of their architectures, in the order of the store."""
    segments = store.segment_of(rows)
    keys: dict[tuple[int, ...], list[int]] = {}
    for number in np.unique(segments).tolist():
        keys.setdefault(store.spans[number].architecture.node_counts, []).append(number)
    if len(keys) == 1:
        return [np.arange(len(rows))]
    return [np.flatnonzero(np.isin(segments, numbers)) for numbers in keys.values()]
