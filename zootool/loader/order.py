"""Which networks come when: the batches of an epoch, from a seed, an epoch and a rank alone.

Nothing depends on who asks or how often, so that every rank knows all batches without talking to the others, and an
epoch goes on from the number of its next batch.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from zootool.errors import UsageError, checked_count, checked_flag
from zootool.loader.batch_targets import numbers_of
from zootool.store.reader import Store


@dataclass(frozen=True)
class OrderConfig:
    """What an epoch's order depends on, besides the epoch's number.

    `window` is None where every network may follow every other. Else an epoch goes through the store's blocks in
    random order, and only networks of the same `window` (about so many networks, whole batches) are mixed.
    """

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False
    window: int | None = None

    def __post_init__(self) -> None:
        checked_count("batch_size", self.batch_size, 1)
        checked_flag("shuffle", self.shuffle)
        checked_flag("drop_last", self.drop_last)
        checked_count("seed", self.seed, -(2**63))
        checked_count("world_size", self.world_size, 1)
        if checked_count("rank", self.rank) >= self.world_size:
            raise UsageError(f"rank must be in [0, world_size), got {self.rank} of {self.world_size}")
        if self.window is not None:
            checked_count("window", self.window, 1)


@dataclass(frozen=True)
class Population:
    """What there is to draw from: positions by bucket (networks that may share a batch), in the order of the store.

    `block_of` numbers the piece of the store in which each position lies; `weights` are the positions' odds, and draw
    with replacement.
    """

    buckets: tuple[Int64[np.ndarray, " positions"], ...]
    block_of: Int64[np.ndarray, " networks"] | None = None
    weights: Float64[np.ndarray, " networks"] | None = None


def population_of(store: Store, rows: np.ndarray, order: OrderConfig, weights: str | None) -> Population:
    """The positions of `rows` in buckets; with their blocks where the order has windows, and the column of weights.

    Raises UsageError for weights that are negative, not finite or all zero.
    """
    return Population(
        tuple(_buckets(store, rows)),
        None if order.window is None else _blocks(store, rows),
        None if weights is None else _odds(store, rows, weights),
    )


@dataclass(frozen=True)
class EpochOrder:
    """The batches of one epoch: batch i is `positions[bounds[i]:bounds[i + 1]]` and belongs to window `windows[i]`."""

    positions: Int64[np.ndarray, " networks"]
    bounds: Int64[np.ndarray, " batches_plus_one"]
    windows: Int64[np.ndarray, " batches"]

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, index: int) -> Int64[np.ndarray, " batch"]:
        """The positions of one batch."""
        return self.positions[self.bounds[index] : self.bounds[index + 1]]

    def window(self, number: int) -> Int64[np.ndarray, " window"]:
        """The positions of all batches of a window, which lie behind one another."""
        first, stop = np.searchsorted(self.windows, [number, number + 1])
        return self.positions[self.bounds[first] : self.bounds[stop]]


def epoch_order(population: Population, config: OrderConfig, epoch: int) -> EpochOrder:
    """The batches of an epoch.

    Each bucket is shuffled, dealt out to the ranks and cut into batches; then the buckets' windows are shuffled, which
    are single batches where there is no window. The ranks' positions are disjoint and together are all of them; with
    `drop_last`, all but what doesn't fill a batch on every rank.
    """
    generator = np.random.Generator(np.random.Philox(key=np.array([config.seed % 2**64, epoch], dtype=np.uint64)))
    per_window = 1 if config.window is None else -(-config.window // config.batch_size)
    windows: list[list[np.ndarray]] = []
    for bucket in _drawn(population, config, generator):
        # What the ranks have in common is drawn by now; each takes its own piece, and mixes that on its own.
        start = len(bucket) * config.rank // config.world_size
        mine = bucket[start : start + _share_size(len(bucket), config)]
        if config.shuffle and config.window is not None:
            size = per_window * config.batch_size
            parts = [generator.permutation(mine[i : i + size]) for i in range(0, len(mine), size)]
            mine = np.concatenate(parts or [mine])
        batches = [mine[i : i + config.batch_size] for i in range(0, len(mine), config.batch_size)]
        windows += [batches[i : i + per_window] for i in range(0, len(batches), per_window)]
    if config.shuffle and len(population.buckets) > 1:
        windows = [windows[i] for i in generator.permutation(len(windows))]
    batches = [batch for window in windows for batch in window]
    numbers = np.repeat(np.arange(len(windows)), [len(window) for window in windows]).astype(np.int64)
    bounds = np.cumsum([0, *map(len, batches)], dtype=np.int64)
    return EpochOrder(np.concatenate(batches) if batches else np.empty(0, np.int64), bounds, numbers)


def num_batches(population: Population, config: OrderConfig) -> int:
    """The number of batches that `epoch_order` gives, but for weights over several buckets, where epochs differ."""
    return sum(-(-_share_size(len(bucket), config) // config.batch_size) for bucket in population.buckets)


def _drawn(population: Population, config: OrderConfig, generator: np.random.Generator) -> list[np.ndarray]:
    """Each bucket's positions in the order in which the ranks share them."""
    if population.weights is not None:
        odds = population.weights / population.weights.sum()
        drawn = generator.choice(len(odds), len(odds), p=odds)
        number = np.empty(len(odds), dtype=np.int64)
        for i, bucket in enumerate(population.buckets):
            number[bucket] = i
        return [drawn[number[drawn] == i] for i in range(len(population.buckets))]
    if not config.shuffle:
        return list(population.buckets)
    if config.window is None or population.block_of is None:
        return [generator.permutation(bucket) for bucket in population.buckets]
    shuffled = []
    for bucket in population.buckets:
        # Whole blocks change places, so that a window is read from few pieces of the store.
        blocks = population.block_of[bucket]
        parts = np.split(bucket, np.flatnonzero(np.diff(blocks, prepend=blocks[:1] - 1))[1:])
        shuffled.append(np.concatenate([parts[i] for i in generator.permutation(len(parts))]))
    return shuffled


def _share_size(size: int, config: OrderConfig) -> int:
    if config.drop_last:
        return size // config.world_size // config.batch_size * config.batch_size
    return size * (config.rank + 1) // config.world_size - size * config.rank // config.world_size


def _buckets(store: Store, rows: np.ndarray) -> list[np.ndarray]:
    """By the node counts of their architectures alone: a batch of one architecture would often be one training run."""
    segments = store.segment_of(rows)
    keys: dict[tuple[int, ...], list[int]] = {}
    for number in np.unique(segments).tolist():
        keys.setdefault(store.spans[number].architecture.node_counts, []).append(number)
    if len(keys) <= 1:
        return [np.arange(len(rows))]
    return [np.flatnonzero(np.isin(segments, numbers)) for numbers in keys.values()]


def _blocks(store: Store, rows: np.ndarray) -> np.ndarray:
    """The inner chunk of `edges` in which each network begins."""
    segments = store.segment_of(rows)
    first_rows = np.array([span.first_row for span in store.spans])[segments]
    offsets = np.array([span.offsets["edges"] for span in store.spans])[segments]
    lengths = np.array([span.architecture.num_edges for span in store.spans])[segments]
    return (offsets + (rows - first_rows) * lengths) // store.arrays["edges"].layout.chunk


def _odds(store: Store, rows: np.ndarray, name: str) -> np.ndarray:
    odds = numbers_of(store, name, rows, with_classes=False).astype(np.float64)
    if len(odds) and (not np.isfinite(odds).all() or odds.min() < 0 or odds.sum() == 0):
        raise UsageError(f"the weights in {name!r} must be finite, not negative, and not all zero")
    return odds
