"""The codes of a zoo's networks under a frozen model: all that the classifier on them ever sees."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dng.data import EndlessBatches, Loader
from dng.models.model import Representation
from dng.training.batches import TensorBatches, num_batches
from dng.training.train import Batches
from zootool.graph import GraphBatch

CACHE_BYTES = 2 << 30

LoaderFactory = Callable[[int, bool, int], Loader]
"""(batch_size, shuffle, seed) -> a loader over one split."""

LabelLookup = Callable[[GraphBatch], Tensor]


class Latents:
    """Codes and labels of one split, kept in memory where they fit `cache_bytes`, else encoded batch by batch."""

    def __init__(
        self,
        model: Representation,
        loader: LoaderFactory,
        label: LabelLookup,
        num_networks: int,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.loader = loader
        self.label = label
        self.num_networks = num_networks
        self.cache_bytes = cache_bytes
        self._cache: tuple[Tensor, Tensor] | None = None

    def first(self) -> Tensor:
        """The code of the first network, (1, ...): its shape is that of all."""
        return self._encode(next(iter(self.loader(1, False, 0))))[0]

    def once(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every network once, in the zoo's order."""
        if self._fits():
            codes, labels = self._all(batch_size)
            yield from zip(codes.split(batch_size), labels.split(batch_size), strict=True)
        else:
            yield from map(self._encode, self.loader(batch_size, False, 0))

    def batches_per_epoch(self, batch_size: int) -> int:
        """How many batches `endless` gives until every network was seen once more."""
        if self._fits():
            return num_batches(self.num_networks, batch_size)
        return len(self.loader(batch_size, True, 0))

    def endless(self, batch_size: int, seed: int) -> Batches:
        """Shuffled epochs without end."""
        if self._fits():
            return TensorBatches(self._all(batch_size), batch_size, seed)
        return EndlessBatches(self.loader(batch_size, True, seed), self._encode)

    def _fits(self) -> bool:
        return self._cache is not None or self.num_networks * self.first().nbytes <= self.cache_bytes

    def _all(self, batch_size: int) -> tuple[Tensor, Tensor]:
        if self._cache is None:
            parts = [self._encode(batch) for batch in self.loader(batch_size, False, 0)]
            codes, labels = zip(*parts, strict=True)
            self._cache = torch.cat(codes), torch.cat(labels)
        return self._cache

    @torch.no_grad()
    def _encode(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.model.encode(batch), self.label(batch)
