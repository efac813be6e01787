"""A store in numbers: what its card and its page say about it, computed from its table and architectures."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.architecture import ARRAYS, Architecture
from zootool.columns.values import codes, counted, numbers
from zootool.errors import printable
from zootool.store.reader import Store

METRICS = ("psnr", "test_accuracy", "train_accuracy", "loss")
"""Columns worth a line, in this order."""


@dataclass(frozen=True)
class Spread:
    """How a column's finite numbers are spread."""

    count: int
    mean: float
    smallest: float
    median: float
    largest: float


class Summary:
    """A store's counts, conventions and metrics. Reads a few columns of its table and no weight."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.columns = store.nets.column_names

        def column(name: str) -> pa.ChunkedArray | None:
            return store.nets.read([name])[name] if name in self.columns else None

        splits, labels, is_finite = column("split"), column("label"), column("is_finite")
        self.splits = {} if splits is None else counted(splits)
        self.num_labels = None if labels is None else len(set(codes(labels)[0].tolist()) - {-1})
        self.num_nonfinite = 0 if is_finite is None else counted(is_finite).get("False", 0)
        self.spreads: dict[str, Spread] = {}
        for name in METRICS:
            metric = column(name)
            values = None if metric is None else numbers(metric)
            finite = np.empty(0) if values is None else values[np.isfinite(values)]
            if len(finite):
                with np.errstate(over="ignore", invalid="ignore"):
                    low, median, high = np.quantile(finite, [0, 0.5, 1]).tolist()
                    self.spreads[name] = Spread(len(finite), float(finite.mean()), low, median, high)

    @cached_property
    def architecture_counts(self) -> list[tuple[Architecture, int]]:
        """The architectures with how many networks each has, the most frequent first."""
        counts: Counter[str] = Counter()
        for segment in self.store.info.segments:
            counts[segment.architecture] += segment.count
        return [(self.store.architectures[signature], count) for signature, count in counts.most_common()]

    @property
    def omega_0(self) -> list[float]:
        """Every omega_0 of a sine that occurs."""
        timestamps = [t for architecture in self.store.architectures.values() for t in architecture.timestamps]
        return sorted({t.activation.omega_0 for t in timestamps if t.activation.omega_0 is not None})

    @property
    def output_offsets(self) -> list[float]:
        """Every number that is added to an output."""
        return sorted({architecture.output_offset for architecture in self.store.architectures.values()})


def histogram(values: np.ndarray, bins: int, low: float, high: float) -> dict[str, Any]:
    """How many finite numbers lie in each bin between two of them; one bin where floats have no more."""
    with np.errstate(all="ignore"):
        if not low < high:
            low, high = low - max(0.5, abs(low) * 1e-3), high + max(0.5, abs(high) * 1e-3)
        edges = np.linspace(low, high, bins + 1)
        if np.isfinite(edges).all() and (np.diff(edges) > 0).all():
            counts, _ = np.histogram(values, edges)
            return {"counts": counts.tolist(), "low": low, "high": high}
    inside = int(((values >= low) & (values <= high)).sum())
    return {"counts": [inside], "low": float(np.nan_to_num(low)), "high": float(np.nan_to_num(high))}


def num_parameters(architecture: Architecture) -> int:
    """Elements that a network stores, its buffers included."""
    return sum(architecture.array_length(name) for name in ARRAYS)


def describe(architecture: Architecture) -> str:
    """An architecture in a few words: its family, the node counts by timestamp, its activations."""
    activations = sorted({t.activation.name for t in architecture.timestamps} - {"none"})
    widths = "-".join(map(str, architecture.node_counts))
    return " ".join([printable(architecture.family, 40), widths, *activations])
