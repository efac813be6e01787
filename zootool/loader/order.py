"""Which networks come when: the batches of an epoch, from a seed, an epoch and a rank alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class OrderConfig:
    """What an epoch's order depends on, besides the epoch's number."""

    batch_size: int
    shuffle: bool
    seed: int
    rank: int
    world_size: int
    drop_last: bool

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in [0, world_size), got {self.rank} of {self.world_size}")


@dataclass(frozen=True)
class EpochOrder:
    """The batches of one epoch: `positions[bounds[i]:bounds[i + 1]]`, all of one bucket each."""

    positions: Int64[np.ndarray, " networks"]
    bounds: Int64[np.ndarray, " batches_plus_one"]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def batch(self, index: int) -> Int64[np.ndarray, " batch"]:
        """The positions of one batch."""
        return self.positions[self.bounds[index] : self.bounds[index + 1]]


def epoch_order(buckets: list[np.ndarray], config: OrderConfig, epoch: int) -> EpochOrder:
    """The batches of an epoch over buckets of positions.

    Each bucket is shuffled, dealt out to the ranks in turn and cut into batches; then the batches are shuffled. The
    ranks' positions are disjoint and together are all of them (with `drop_last`, all but incomplete batches).
    """
    generator = np.random.Generator(np.random.Philox(key=[config.seed % 2**64, epoch]))
    batches: list[np.ndarray] = []
    for bucket in buckets:
        positions = generator.permutation(bucket) if config.shuffle else bucket
        mine = positions[config.rank :: config.world_size]
        if config.drop_last:
            mine = mine[: len(positions) // config.world_size // config.batch_size * config.batch_size]
        batches += [mine[i : i + config.batch_size] for i in range(0, len(mine), config.batch_size)]
    if config.shuffle and len(buckets) > 1:
        batches = [batches[i] for i in generator.permutation(len(batches))]
    positions = np.concatenate(batches) if batches else np.empty(0, dtype=np.int64)
    bounds = np.cumsum([0, *map(len, batches)], dtype=np.int64)
    return EpochOrder(positions, bounds)


def num_batches(bucket_sizes: list[int], config: OrderConfig) -> int:
    """The number of batches that `epoch_order` gives."""
    total = 0
    for size in bucket_sizes:
        if config.drop_last:
            total += size // config.world_size // config.batch_size
        else:
            mine = len(range(config.rank, size, config.world_size))
            total += -(-mine // config.batch_size)
    return total
