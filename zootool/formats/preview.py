"""What a source holds, for somebody who hasn't decided yet to convert it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zootool.columns.splits import find_leaks
from zootool.columns.values import counted, plain_values
from zootool.errors import BadDataError
from zootool.formats.collection import Collection, LeftOut


@dataclass(frozen=True)
class ArchitectureCount:
    """An architecture of a source, how many of its networks have it, and what was assumed about it.

    Networks that differ by their keys or dtypes alone are counted together: `num_spellings` says how many kinds of
    these there are, `signature` names the first.
    """

    signature: str
    family: str
    node_counts: tuple[int, ...]
    num_parameters: int
    num_networks: int
    assumptions: tuple[str, ...] = ()
    num_spellings: int = 1


@dataclass(frozen=True)
class Preview:
    """A source in numbers. `problems` are those of a sample of its networks that was read."""

    format: str
    kind: str
    num_networks: int
    architectures: tuple[ArchitectureCount, ...]
    columns: dict[str, str]
    splits: dict[str, int]
    labels: dict[str, int]
    conventions: dict[str, Any]
    notes: tuple[str, ...]
    num_read: int
    problems: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def preview(collection: Collection, sample: int = 16) -> Preview:
    """Count what is there, and read `sample` networks to see whether they can be."""
    table = collection.table
    grids = dict.fromkeys(images.grid for images in collection.image_sets if images.grid)
    rows = np.unique(np.linspace(0, len(collection) - 1, min(sample, len(collection))).astype(np.int64))
    return Preview(
        format=collection.format,
        kind=collection.kind,
        num_networks=len(collection),
        architectures=_architectures(collection),
        columns={name: str(table.schema.field(name).type) for name in table.column_names},
        splits=counted(table["split"]) if "split" in table.column_names else {},
        labels=counted(table["label"]) if "label" in table.column_names else {},
        conventions={**collection.conventions, **({"grid": " and ".join(grids)} if grids else {})},
        notes=(*collection.notes, *find_leaks(table)),
        num_read=len(rows),
        problems=tuple(_problems(collection, rows)),
        left_out=collection.left_out,
    )


def _architectures(collection: Collection) -> tuple[ArchitectureCount, ...]:
    counts = np.bincount(collection.architecture_index, minlength=len(collection.architectures))
    assumed = collection.assumptions or ((),) * len(counts)
    found: dict[tuple[object, ...], ArchitectureCount] = {}
    for a, count, texts in zip(collection.architectures, counts.tolist(), assumed, strict=True):
        if not count:
            continue
        num_parameters = a.num_edges + sum(t.num_stored_nodes for t in a.timestamps)
        new = ArchitectureCount(a.signature, a.family or "", a.node_counts, num_parameters, count, texts)
        known = found.setdefault((a.structure, texts), new)
        if known is not new:
            known = replace(known, num_networks=known.num_networks + count, num_spellings=known.num_spellings + 1)
            found[a.structure, texts] = known
    return tuple(found.values())


def _problems(collection: Collection, rows: np.ndarray) -> list[str]:
    problems = []
    for row in rows:
        try:
            tensors = collection.load(np.array([row]))
        except BadDataError as error:
            problems.append(error.message)
            continue
        broken = [key for key, tensor in tensors.items() if tensor.dtype.kind == "f" and not np.isfinite(tensor).all()]
        if broken:
            net_id = plain_values(collection.table["net_id"].slice(int(row), 1))[0]
            problems.append(f"{net_id}: {broken[0]} holds NaN or infinities")
    return problems
