"""How well an order mixes: numbers to choose a mode and a window by."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zootool.loader.loader import Loader


@dataclass(frozen=True)
class ShuffleQuality:
    """Of one epoch's order, without reading a weight.

    neighbour_correlation: Pearson's, of the places in the store of networks that follow one another; 0 is perfect.
    median_places_apart: how far apart neighbours lie in the store, as a fraction of what a perfect shuffle gives.
    median_runs_per_batch: distinct values of `run_id` in a batch, or networks where the table has no run_id.
    """

    neighbour_correlation: float
    median_places_apart: float
    median_runs_per_batch: float


def shuffle_quality(loader: "Loader", epoch: int = 0) -> ShuffleQuality:
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
