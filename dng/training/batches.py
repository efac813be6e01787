"""Shuffled batches of tensors that are already in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dng.training.seed import derived_seed


def num_batches(num_items: int, batch_size: int) -> int:
    """The batches of an epoch of `TensorBatches`."""
    count = -(-num_items // batch_size)
    return count - (count > 1 and num_items % batch_size == 1 % batch_size)


class TensorBatches:
    """Endless shuffled batches of tensors that share their first axis; the order depends on (seed, epoch) alone.

    The last batch of an epoch holds what is left over, and the last single item joins the batch before it, since
    BatchNorm can't train on one.
    """

    def __init__(self, tensors: tuple[Tensor, ...], batch_size: int, seed: int) -> None:
        self.tensors = tensors
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.next_batch = 0

    def __len__(self) -> int:
        """The batches of an epoch."""
        return num_batches(len(self.tensors[0]), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        while True:
            chunks = self._epoch_rows()
            for index in range(self.next_batch, len(chunks)):
                # Counted before the yield: a state taken while the batch is in use points behind it.
                self.next_batch = index + 1
                yield tuple(tensor[chunks[index]] for tensor in self.tensors)
            self.epoch, self.next_batch = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """The epoch and the batch in it."""
        return {"epoch": self.epoch, "next_batch": self.next_batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where `state_dict` was taken."""
        self.epoch, self.next_batch = state["epoch"], state["next_batch"]

    def _epoch_rows(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "epoch", self.epoch))
        rows = torch.randperm(len(self.tensors[0]), generator=generator)
        chunks = list(rows.split(self.batch_size))
        if len(chunks) > 1 and len(chunks[-1]) == 1:
            chunks[-2:] = [torch.cat(chunks[-2:])]
        return chunks
