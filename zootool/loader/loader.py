"""One epoch of a zoo after another, as batches of dynamic graphs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import torch

from zootool.errors import UsageError, checked_count
from zootool.graph import GraphBatch
from zootool.loader.images import ImageJoin
from zootool.loader.order import EpochOrder, OrderConfig, epoch_order, num_batches
from zootool.loader.population import population_of
from zootool.loader.prefetch import ahead
from zootool.loader.targets import target_columns
from zootool.loader.weights import MappedWeights, Mode, ResidentWeights, WeightSource, WindowReader, read_batch
from zootool.store.reader import Store


class Loader:
    """Batches of the networks at `rows` of a store.

    Iterating gives one epoch; the next iteration gives the next epoch, in another order where the order shuffles. An
    epoch that is left early is begun again. `state_dict` between two batches says where the loader is, and after
    `load_state_dict` the next iteration goes on from there.

    resident: the store's arrays are kept in memory. mapped: batches are gathered from the store's files. streamed: the
    order's windows are read one after another, the next one ahead. `prefetch` batches are prepared by a thread while
    the caller works; on their way to a CUDA device they pass through page-locked memory.
    """

    def __init__(
        self,
        store: Store,
        rows: np.ndarray,
        order: OrderConfig,
        *,
        mode: Mode = "resident",
        targets: Sequence[str] | str | None = (),
        images: ImageJoin | None = None,
        weights: str | None = None,
        device: torch.device | str | None = None,
        prefetch: int = 0,
    ) -> None:
        self.mode: Mode = mode
        self._store = store
        self._rows = rows
        self._order = order
        self._population = population_of(store, rows, order, weights)
        self._targets = target_columns(store, targets, rows)
        self._images = images
        self._device = None if device is None else torch.device(device)
        self._prefetch = checked_count("prefetch", prefetch)
        self._odds = weights
        self._epoch = 0
        self._next_batch = 0
        self._resume_at = 0

    def __len__(self) -> int:
        if self._odds is not None and len(self._population.buckets) > 1:
            return len(self.order(self._epoch))
        return num_batches(self._population, self._order)

    def __iter__(self) -> Iterator[GraphBatch]:
        order = self.order(self._epoch)
        first, self._resume_at = self._resume_at, 0
        self._next_batch = first
        return self._iterate(order, self._epoch, first)

    def order(self, epoch: int) -> EpochOrder:
        """The batches of an epoch as positions in `rows`, without reading anything."""
        return epoch_order(self._population, self._order, epoch)

    @property
    def rows(self) -> np.ndarray:
        """The networks' rows in the store, by position."""
        return self._rows

    def run_numbers(self) -> np.ndarray:
        """A number for the training run of each position; without a column `run_id`, each is a run of its own."""
        if "run_id" not in self._store.nets.column_names:
            return np.arange(len(self._rows))
        column = self._store.nets.read(["run_id"])["run_id"]
        return np.unique(column.to_numpy()[self._rows].astype(str), return_inverse=True)[1]

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

    def _iterate(self, order: EpochOrder, epoch: int, first: int) -> Iterator[GraphBatch]:
        batches = self._batches(order, first)
        if self._prefetch:
            batches = ahead(batches, self._prefetch)
        for index, batch in enumerate(batches, start=first):
            # The state moves on before the batch is handed over, so that a state taken with it counts it as given out.
            is_last = index + 1 == len(order)
            self._epoch, self._next_batch = (epoch + 1, 0) if is_last else (epoch, index + 1)
            yield batch

    def _batches(self, order: EpochOrder, first: int) -> Iterator[GraphBatch]:
        if self.mode == "streamed":
            yield from self._streamed(order, first)
            return
        weights = ResidentWeights(self._store) if self.mode == "resident" else MappedWeights(self._store)
        for index in range(first, len(order)):
            yield self._read(order.batch(index), weights)

    def _streamed(self, order: EpochOrder, first: int) -> Iterator[GraphBatch]:
        reader, number = WindowReader(self._store), -1
        weights: WeightSource = MappedWeights(self._store)
        last = int(order.windows[-1]) if len(order) else -1
        try:
            for index in range(first, len(order)):
                if order.windows[index] != number:
                    number = int(order.windows[index])
                    following = self._rows[order.window(number + 1)] if number < last else None
                    weights = reader.window(number, self._rows[order.window(number)], following)
                yield self._read(order.batch(index), weights)
        finally:
            reader.close()

    def _read(self, positions: np.ndarray, weights: WeightSource) -> GraphBatch:
        batch = read_batch(self._store, weights, self._rows[positions])
        places = torch.from_numpy(positions)
        targets = {name: column[places] for name, column in self._targets.items()}
        images = None if self._images is None else self._images.images(places)
        batch = replace(batch, targets=targets, images=images)
        if self._device is None:
            return batch
        if self._device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self._device, non_blocking=True)

    def _identity(self) -> dict[str, Any]:
        order = {name: getattr(self._order, name) for name in self._order.__dataclass_fields__}
        selection = f"{len(self._rows)}:{crc32(self._rows.tobytes()):08x}"
        return {"zoo": self._store.zoo_id, "selection": selection, "weights": self._odds} | order
