"""One epoch of a zoo after another, as batches of dynamic graphs."""

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zootool.errors import UsageError, checked_count
from zootool.graph import GraphBatch
from zootool.loader.batch_images import ImageJoin
from zootool.loader.batch_targets import target_columns
from zootool.loader.order import EpochOrder, OrderConfig, epoch_order, num_batches, population_of
from zootool.loader.weights import Gather, Mode, mapped, read_batch, resident, window
from zootool.store.reader import Store

Item = TypeVar("Item")


class Loader:
    """Batches of the networks at `rows` of a store; positions count within them.

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
        self.rows = rows
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

    def run_numbers(self) -> np.ndarray:
        """A number for the training run of each position; without a column `run_id`, each is a run of its own."""
        if "run_id" not in self._store.nets.column_names:
            return np.arange(len(self.rows))
        column = self._store.nets.read(["run_id"])["run_id"]
        return np.unique(column.to_numpy()[self.rows].astype(str), return_inverse=True)[1]

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
        if self.mode == "streamed":
            batches = self._streamed(order, first)
        else:
            gather = resident(self._store) if self.mode == "resident" else mapped(self._store)
            batches = (self._read(order.batch(index), gather) for index in range(first, len(order)))
        if self._prefetch:
            batches = ahead(batches, self._prefetch)
        for index, batch in enumerate(batches, start=first):
            # The state moves on before the batch is handed over, so that a state taken with it counts it as given out.
            is_last = index + 1 == len(order)
            self._epoch, self._next_batch = (epoch + 1, 0) if is_last else (epoch, index + 1)
            yield batch

    def _streamed(self, order: EpochOrder, first: int) -> Iterator[GraphBatch]:
        numbers = np.unique(order.windows[first:]).tolist()
        # One window is read while the one before is used: there are never more than two in memory.
        windows = (window(self._store, self.rows[order.window(number)]) for number in numbers)
        by_window = groupby(range(first, len(order)), key=order.windows.__getitem__)
        with closing(ahead(windows, 1)) as ready:
            for (_, batches), gather in zip(by_window, ready, strict=True):
                for index in batches:
                    yield self._read(order.batch(index), gather)

    def _read(self, positions: np.ndarray, gather: Gather) -> GraphBatch:
        batch = read_batch(self._store, gather, self.rows[positions])
        batch = _with_columns(batch, torch.from_numpy(positions), self._targets, self._images)
        if self._device is None:
            return batch
        if self._device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self._device, non_blocking=True)

    def _identity(self) -> dict[str, Any]:
        order = {name: getattr(self._order, name) for name in self._order.__dataclass_fields__}
        selection = f"{len(self.rows)}:{crc32(self.rows.tobytes()):08x}"
        return {"zoo": self._store.zoo_id, "selection": selection, "weights": self._odds} | order


def ahead(items: Iterator[Item], count: int) -> Generator[Item, None, None]:
    """The same items, of which a thread keeps up to `count` ready. What the iterator raises comes at its place.

    The consumer makes the first item itself, since it has nothing else to do. The thread ends with the iteration, also
    where the consumer leaves it early.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="zoo-loader") as pool:
        waiting: deque[Future[Item | object]] = deque()
        try:
            item = next(items, end)
            while item is not end:
                waiting.extend(pool.submit(next, items, end) for _ in range(count - len(waiting)))
                yield item  # type: ignore[misc]
                item = waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


class GraphDataset(Dataset[GraphBatch]):
    """A map-style torch Dataset: network i as a batch of one. With `collate`, DataLoader fetches a whole batch at once.

        DataLoader(dataset, batch_size=64, shuffle=True, collate_fn=dataset.collate, num_workers=2)

    Batches of networks with different node counts raise ValueError: give a batch sampler that keeps them apart. Works
    in workers that are forked or spawned, each of which maps the store's files itself.
    """

    def __init__(
        self, store: Store, rows: np.ndarray, targets: Sequence[str] | str | None = (), images: ImageJoin | None = None
    ) -> None:
        self._store = store
        self._rows = rows
        self._targets = target_columns(store, targets, rows)
        self._images = images

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> GraphBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> GraphBatch:
        """The networks at these positions as one batch."""
        places = torch.tensor(indices, dtype=torch.int64)
        rows = self._rows[places.numpy()]
        counts = {self._store.spans[n].architecture.node_counts for n in set(self._store.segment_of(rows).tolist())}
        if len(counts) != 1:
            raise ValueError(f"networks with the node counts {sorted(counts)} can't share a batch")
        batch = read_batch(self._store, mapped(self._store), rows)
        return _with_columns(batch, places, self._targets, self._images)

    @staticmethod
    def collate(batch: GraphBatch) -> GraphBatch:
        """What `__getitems__` gave is a batch already."""
        return batch


def _with_columns(
    batch: GraphBatch, places: Tensor, targets: Mapping[str, Tensor], images: ImageJoin | None
) -> GraphBatch:
    pixels = None if images is None else images.images(places)
    return replace(batch, targets={name: column[places] for name, column in targets.items()}, images=pixels)


@dataclass(frozen=True)
class ShuffleQuality:
    """How well one epoch's order mixes, without reading a weight: numbers to choose a mode and a window by.

    neighbour_correlation: Pearson's, of the places in the store of networks that follow one another; 0 is perfect.
    median_places_apart: how far apart neighbours lie in the store, as a fraction of what a perfect shuffle gives.
    median_runs_per_batch: distinct values of `run_id` in a batch, or networks where the table has no run_id.
    """

    neighbour_correlation: float
    median_places_apart: float
    median_runs_per_batch: float


def shuffle_quality(loader: Loader, epoch: int = 0) -> ShuffleQuality:
    """Measure the order of an epoch."""
    order, rows = loader.order(epoch), loader.rows
    places = rows[order.positions].astype(np.float64)
    before, after = places[:-1], places[1:]
    # Two random places in [0, n) lie n (1 - sqrt(1/2)) apart in the median.
    expected = len(rows) * (1 - np.sqrt(0.5))
    runs = loader.run_numbers()
    distinct = [len(np.unique(runs[order.batch(i)])) for i in range(len(order))]
    return ShuffleQuality(
        float(np.corrcoef(before, after)[0, 1]),
        float(np.median(np.abs(after - before)) / expected),
        float(np.median(distinct)),
    )
