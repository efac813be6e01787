"""A store in numbers: what its card and its page say about it, computed from its table and architectures."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.architecture import ARRAYS, Architecture
from zootool.catalog import load_catalog
from zootool.columns.values import codes, counted, numbers
from zootool.errors import printable
from zootool.store.reader import Store
from zootool.store.schema import ZooInfo

METRICS = ("psnr", "test_accuracy", "train_accuracy", "loss")
"""Columns worth a line, in this order."""


@dataclass(frozen=True)
class Spread:
    """How a column's finite numbers are spread; `num_missing` counts all that isn't finite."""

    count: int
    mean: float
    smallest: float
    median: float
    largest: float
    num_missing: int


@dataclass(frozen=True)
class Summary:
    """A store's counts, conventions and metrics."""

    store: Store
    columns: tuple[str, ...]
    splits: dict[str, int] = field(default_factory=dict)
    num_labels: int | None = None
    spreads: dict[str, Spread] = field(default_factory=dict)
    num_nonfinite: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of all covered files."""
        return sum(entry.size for entry in self.store.manifest.files.values())

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
        found = {
            t.activation.omega_0
            for architecture in self.store.architectures.values()
            for t in architecture.timestamps
            if t.activation.omega_0 is not None
        }
        return sorted(found)

    @property
    def output_offsets(self) -> list[float]:
        """Every number that is added to an output."""
        return sorted({architecture.output_offset for architecture in self.store.architectures.values()})


def summarise(store: Store) -> Summary:
    """The summary of a store. Reads a few columns of its table and no weight."""
    names = store.nets.column_names

    def column(name: str) -> pa.ChunkedArray:
        return store.nets.read([name])[name]

    splits = counted(column("split")) if "split" in names else {}
    num_labels = len(set(codes(column("label"))[0].tolist()) - {-1}) if "label" in names else None
    known = {name: numbers(column(name)) for name in METRICS if name in names}
    spreads = {name: found for name, values in known.items() if values is not None and (found := spread_of(values))}
    nonfinite = counted(column("is_finite")).get("False", 0) if "is_finite" in names else 0
    return Summary(store, tuple(names), splits, num_labels, spreads, nonfinite)


def spread_of(values: np.ndarray) -> Spread | None:
    """The spread of some numbers, None where none is finite."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        low, median, high = np.quantile(finite, [0, 0.5, 1]).tolist()
        return Spread(len(finite), float(finite.mean()), low, median, high, len(values) - len(finite))


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


def cited_images(info: ZooInfo) -> dict[str, str]:
    """How the image sets behind a zoo are cited, by name, where the catalog knows them."""
    known = load_catalog().image_sets
    return {source.name: known[source.name].citation for source in info.sources if source.name in known}


def num_parameters(architecture: Architecture) -> int:
    """Elements that a network stores, its buffers included."""
    return sum(architecture.array_length(name) for name in ARRAYS)


def describe(architecture: Architecture) -> str:
    """An architecture in a few words: its family, the node counts by timestamp, its activations."""
    activations = sorted({t.activation.name for t in architecture.timestamps} - {"none"})
    widths = "-".join(map(str, architecture.node_counts))
    return " ".join([printable(architecture.family, 40), widths, *activations])
