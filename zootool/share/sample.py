"""The networks that a zoo's page shows: some of every class, with their pictures."""

import base64
import io
from collections import Counter
from typing import Any

import numpy as np

from zootool.architecture import ARRAYS
from zootool.catalog import load_catalog
from zootool.columns.values import codes, numbers, plain_values
from zootool.nets.rendering import indexing_of, render
from zootool.share.summary import METRICS, describe, histogram
from zootool.store.schema import ImageSource
from zootool.zoo.zoo import Zoo

_SHOWN_COLUMNS = ("net_id", "label", "split", "copy", "training_step", *METRICS)
_MAX_HYPER_PARAMETERS = 4
_MAX_SIDE = 256
_HISTOGRAM_BINS = 24
_HISTOGRAM_QUANTILES = (0.005, 0.995)


def sample_networks(zoo: Zoo, size: int, max_image_bytes: int, seed: int) -> tuple[list[str], list[dict[str, Any]]]:
    """About `size` networks: spread over the classes, one of each at a time, or else the most accurate first.

    Gives the names of a table's columns, and a record per network: what the table shows, its `class`, its `row` in the
    store, and its `image` as a data URI, or a `histogram` of its weights where it has none or the images are too large.
    """
    chosen = Zoo(zoo.store, zoo.rows[_spread_rows(zoo, size, seed)])
    columns = _columns(zoo)
    table = chosen.nets.to_arrow(columns)
    values = {name: plain_values(table[name]) for name in columns}
    records, left = [], max_image_bytes
    for place in range(len(chosen)):
        record: dict[str, Any] = {name: values[name][place] for name in columns}
        record["architecture"] = describe(chosen.architecture_of(place))
        record["row"] = int(chosen.rows[place])
        source = _source_of(chosen, place)
        record["class"] = _class_of(source, record.get("label"))
        image = _image(chosen, place, source) if left > 0 else None
        if image is not None:
            record["image"] = image
            left -= len(image)
        else:
            record["histogram"] = _histogram(chosen, place)
        records.append(record)
    return [*columns, "architecture"], _arranged(records)


def _arranged(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if records and all(is_number(record.get("label")) for record in records):
        # In rounds, one network of every class at a time: the page begins with a few of each.
        seen: Counter[float] = Counter()
        rounds = []
        for record in sorted(records, key=lambda record: record["row"]):
            rounds.append((seen[record["label"]], record["label"], record))
            seen[record["label"]] += 1
        return [record for *_, record in sorted(rounds, key=lambda item: item[:2])]

    def accuracy(record: dict[str, Any]) -> float:
        return record["test_accuracy"] if is_number(record.get("test_accuracy")) else 0.0

    return sorted(records, key=lambda record: (-accuracy(record), record["row"]))


def is_number(value: Any) -> bool:
    """Whether a plain value is a number to compute with."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _class_of(source: ImageSource | None, label: Any) -> str | None:
    """The catalog's word for a label, where the networks' images are in it."""
    known = load_catalog().image_sets.get(source.name) if source is not None else None
    if known is None or type(label) is not int or not 0 <= label < len(known.classes):
        return None
    return known.classes[label]


def _columns(zoo: Zoo) -> list[str]:
    names = list(zoo.nets.columns)
    varied = [name for name in names if name.startswith("hp_")]
    table = zoo.nets.to_arrow(varied)  # at once: the file is opened, and its schema made, for every reading
    several = [name for name in varied if len(np.unique(codes(table[name])[0])) > 1]
    return [name for name in _SHOWN_COLUMNS if name in names] + several[:_MAX_HYPER_PARAMETERS]


def _spread_rows(zoo: Zoo, size: int, seed: int) -> np.ndarray:
    """Positions in the zoo, ascending."""
    size = min(size, len(zoo))
    rng = np.random.default_rng(seed)
    if "label" in zoo.nets:
        labels, _ = codes(zoo.nets.to_arrow(["label"])["label"])
        classes = np.unique(labels)
        each = max(1, size // len(classes))
        picked = [rng.permutation(np.flatnonzero(labels == name))[:each] for name in classes[:size]]
        return np.sort(np.concatenate(picked))
    for metric in ("test_accuracy", "psnr", "loss"):
        values = numbers(zoo.nets.to_arrow([metric])[metric]) if metric in zoo.nets else None
        if values is not None:
            order = np.argsort(values, kind="stable")
            return np.sort(order[np.linspace(0, len(zoo) - 1, size).astype(np.int64)])
    return np.sort(rng.permutation(len(zoo))[:size])


def _image(zoo: Zoo, place: int, source: ImageSource | None) -> str | None:
    """The image that a network of coordinates computes, as a data URI; None for networks of other kinds."""
    from PIL import Image

    architecture = zoo.architecture_of(place)
    indexing = None if source is None else indexing_of(source.grid)
    if source is None or indexing is None or source.target is None or len(source.shape) != 3:
        return None
    low, high = source.target
    height, width, channels = source.shape
    if architecture.num_inputs != 2 or architecture.node_counts[-1] != channels or channels not in (1, 3):
        return None
    # What the page shows is small, and the store may claim images of any size.
    shrink = max(1, -(-max(height, width) // _MAX_SIDE))
    rendered = render(zoo.module(place), max(1, height // shrink), max(1, width // shrink), indexing)
    shown = np.nan_to_num((rendered - low) / (high - low) * 255, nan=0.0)
    pixels = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(sink, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode("ascii")


def _source_of(zoo: Zoo, place: int) -> ImageSource | None:
    sources = zoo.info.sources
    number = plain_values(zoo.nets.to_arrow(["source"])["source"].slice(place, 1))[0] if "source" in zoo.nets else 0
    return sources[number] if type(number) is int and 0 <= number < len(sources) else None


def _histogram(zoo: Zoo, place: int) -> dict[str, Any]:
    """Counts of the weights between two quantiles, which keep a few large ones from flattening the rest."""
    rows = zoo.rows[[place]]
    span = zoo.store.spans[int(zoo.store.segment_of(rows)[0])]
    weights = zoo.store.gather(ARRAYS[0], span, rows)[0]
    finite = weights[np.isfinite(weights)].astype(np.float64)
    if len(finite) == 0:
        return {"counts": [], "low": 0.0, "high": 0.0}
    low, high = np.quantile(finite, _HISTOGRAM_QUANTILES).tolist()
    return histogram(finite, _HISTOGRAM_BINS, low, high)
