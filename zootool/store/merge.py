"""Several stores as one: columns united, the origin of every network recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.errors import UsageError, printable
from zootool.progress import Reporter, silent
from zootool.records import to_plain
from zootool.store.blocks import PackedBlock, Plan
from zootool.store.layout import WriteOptions
from zootool.store.nets import store_schema, union_schema
from zootool.store.reader import Store
from zootool.store.rows import StoreRows, info_of, joined_assumptions, nonfinite_of
from zootool.store.schema import SourceInfo
from zootool.store.stored_images import MAX_IMAGES, SOURCE, JoinedImages, stored_images
from zootool.store.writer import write_store

ORIGIN = "origin"


@dataclass(frozen=True)
class Merged:
    """What a merge made: the store's id, its networks, and how many of them have the same digest as an earlier one.

    `lost_images` says that images which some of the stores carry could not come along.
    """

    zoo_id: str
    num_networks: int
    num_duplicates: int
    lost_images: bool = False


def merge_stores(
    stores: Sequence[Store],
    destination: str | Path,
    name: str,
    options: WriteOptions | None = None,
    report: Reporter = silent,
) -> Merged:
    """Write the networks of all stores as a new one.

    The column `origin` names the zoo that a network comes from, `source` counts through the joined image sets. Where
    zoos share net_ids, every net_id gets its zoo's name in front. Networks with equal digests are kept and counted.
    Images come along where every store carries some, all of one shape.

    Raises UsageError for fewer than two zoos or two of one name, FormatError for columns of contradicting types and for
    values that the format's columns can't hold, and what writing a store raises.
    """
    destination = Path(destination)
    names = [store.info.name for store in stores]
    if len(stores) < 2 or len(set(names)) < len(names):
        raise UsageError(f"can't merge {', '.join(map(printable, names))}", hint="give zoos with different names")
    source = _MergedSource(stores, name)
    images = source.images()
    options = options or WriteOptions(nonfinite=nonfinite_of(*stores))
    zoo_id = write_store(destination, source, options, report, schema=source.schema, images=images)
    lost = images is None and any(store.images is not None for store in stores)
    digests = [digest for store in stores for digest in store.nets.read(["digest"])["digest"].to_pylist()]
    return Merged(zoo_id, len(digests), len(digests) - len(set(digests)), lost)


class _MergedSource:
    """The blocks of all stores behind one another, their tables with the same columns."""

    def __init__(self, stores: Sequence[Store], name: str) -> None:
        self._stores = stores
        self._parts = [StoreRows(s, np.arange(len(s), dtype=np.int64), info_of(s, s.info.name, {}), checked=True)
                       for s in stores]  # fmt: skip
        self._places = [(part, i) for part, rows in enumerate(self._parts) for i in range(len(rows.plan))]
        sources = tuple(dict.fromkeys(source for s in stores for source in s.info.sources))
        # The place of each of a store's sources among all.
        self._numbers = [np.array([sources.index(source) for source in s.info.sources], np.int64) for s in stores]
        ids = [chunk for store in stores for chunk in store.nets.read(["net_id"])["net_id"].cast(pa.string()).chunks]
        self._renames = len(pa.chunked_array(ids).unique()) < sum(map(len, stores))
        notes = [f"{part.info.name}: {note}" for part in self._parts for note in part.notes]
        self.info = replace(_joined_info(stores, name, notes), sources=sources)
        self.fingerprint = " ".join(part.fingerprint for part in self._parts)
        self.plan: Plan = [self._parts[part].plan[i] for part, i in self._places]
        added = pa.schema([(ORIGIN, pa.string()), (SOURCE, pa.int64())])
        joined = union_schema([part.schema for part in self._parts])
        self.schema = store_schema(union_schema([joined, added]))

    def images(self) -> JoinedImages | None:
        """The images of all stores by the joined sources, where all carry some of one shape."""
        parts = []
        for store, numbers in zip(self._stores, self._numbers, strict=True):
            images = stored_images(store)
            if images is None or not len(numbers):
                return None
            parts.append((images, numbers[images.keys // MAX_IMAGES] * MAX_IMAGES + images.keys % MAX_IMAGES))
        return JoinedImages(parts) if len({images.shape for images, _ in parts}) == 1 else None

    def read(self, index: int) -> PackedBlock:
        part, i = self._places[index]
        block = self._parts[part].read(i)
        table, name = block.table, self._parts[part].info.name
        if self._renames:
            ids = [f"{name}/{net_id}" for net_id in table["net_id"].to_pylist()]
            table = _with_column(table, "net_id", pa.array(ids))
        if ORIGIN not in table.column_names:
            table = table.append_column(ORIGIN, pa.array([name] * len(table)))
        return replace(block, table=_with_column(table, SOURCE, self._joined_source(part, table)))

    def _joined_source(self, part: int, table: pa.Table) -> pa.Array:
        numbers = self._numbers[part]
        if not len(numbers):
            return pa.nulls(len(table), pa.int64())
        if SOURCE not in table.column_names:
            return pa.array(np.full(len(table), numbers[0]))
        return pa.array(numbers[table[SOURCE].fill_null(0).to_numpy()], mask=table[SOURCE].is_null().to_numpy())


def _joined_info(stores: Sequence[Store], name: str, notes: list[str]) -> SourceInfo:
    def common(field: str) -> str | None:
        values = {getattr(store.info, field) for store in stores}
        return values.pop() if len(values) == 1 else None

    merged = [
        to_plain({"name": s.info.name, "id": s.zoo_id, "num_networks": len(s), "recipe": s.info.recipe,
                  "provenance": s.info.provenance, "licence": s.info.licence, "citation": s.info.citation})
        for s in stores
    ]  # fmt: skip
    first = stores[0].info
    same_recipe = all(store.info.recipe == first.recipe for store in stores)
    return SourceInfo(
        name=name,
        kind=common("kind") or "mixed",
        recipe=first.recipe if same_recipe else {},
        provenance={"merged": merged} | ({"notes": notes} if notes else {}),
        assumptions=joined_assumptions(*(store.info for store in stores)),
        licence=common("licence"),
        citation=common("citation"),
    )


def _with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)
