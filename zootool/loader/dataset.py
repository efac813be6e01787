"""A zoo as a map-style torch Dataset, for who wants a DataLoader of their own."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from zootool.graph import GraphBatch
from zootool.loader.images import ImageJoin
from zootool.loader.targets import target_columns
from zootool.loader.weights import MappedWeights, read_batch
from zootool.store.reader import Store


class GraphDataset(Dataset[GraphBatch]):
    """Network i as a batch of one; DataLoader fetches a whole batch at once where it is given `collate`.

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
        batch = read_batch(self._store, MappedWeights(self._store), rows)
        images = None if self._images is None else self._images.images(places)
        return replace(batch, targets={name: t[places] for name, t in self._targets.items()}, images=images)

    @staticmethod
    def collate(batch: GraphBatch) -> GraphBatch:
        """What `__getitems__` gave is a batch already."""
        return batch
