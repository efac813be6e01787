"""What a loader draws its batches from: buckets of networks with equal node counts, and where they lie."""

import numpy as np

from zootool.errors import UsageError
from zootool.loader.order import OrderConfig, Population
from zootool.loader.targets import numbers_of
from zootool.store.reader import Store


def population_of(store: Store, rows: np.ndarray, order: OrderConfig, weights: str | None) -> Population:
    """The positions of `rows` in buckets; with their blocks where the order has windows, and the column of weights.

    Raises UsageError for weights that are negative, not finite or all zero.
    """
    return Population(
        tuple(_buckets(store, rows)),
        None if order.window is None else _blocks(store, rows),
        None if weights is None else _odds(store, rows, weights),
    )


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
