"""The latent maps of a zoo's networks under a frozen INR2JLS: all that its classifier ever sees."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dng.batches import TensorBatches
from dng.bench.data import EndlessBatches, LabelledGraphs, Loader, to_graphs
from dng.inr2jls import INR2JLS
from dng.train import Batches

CACHE_BYTES = 2 << 30

LoaderFactory = Callable[[int, bool, int], Loader]
"""(batch_size, shuffle, seed) -> a loader over one split."""

LabelLookup = Callable[[LabelledGraphs], Tensor]


class Latents:
    """Latents and labels of one split, kept in memory where they fit `cache_bytes`, else encoded batch by batch."""

    def __init__(
        self,
        model: INR2JLS,
        loader: LoaderFactory,
        label: LabelLookup,
        num_networks: int,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.loader = loader
        self.label = label
        config = model.config
        latent_bytes = 4 * config.num_views * config.latent_dim * config.latent_side**2
        self._fits = num_networks * latent_bytes <= cache_bytes
        self._cache: tuple[Tensor, Tensor] | None = None

    def once(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every network once, in the zoo's order."""
        if self._fits:
            latents, labels = self._all(batch_size)
            yield from zip(latents.split(batch_size), labels.split(batch_size), strict=True)
        else:
            yield from map(self._encode, self.loader(batch_size, False, 0))

    def endless(self, batch_size: int, seed: int) -> Batches:
        """Shuffled epochs without end."""
        if self._fits:
            return TensorBatches(self._all(batch_size), batch_size, seed)
        return EndlessBatches(self.loader(batch_size, True, seed), self._encode)

    def _all(self, batch_size: int) -> tuple[Tensor, Tensor]:
        if self._cache is None:
            parts = [self._encode(batch) for batch in self.loader(batch_size, False, 0)]
            latents, labels = zip(*parts, strict=True)
            self._cache = torch.cat(latents), torch.cat(labels)
        return self._cache

    @torch.no_grad()
    def _encode(self, batch: Any) -> tuple[Tensor, Tensor]:
        labelled = to_graphs(batch)
        return self.model.encode(labelled.graph), self.label(labelled)
