"""A new version of a store with more networks: full shards are shared with the old one, which then makes way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from zootool.columns.known import KNOWN
from zootool.errors import FormatError, IntegrityError, UsageError, printable
from zootool.files import folder_replacement
from zootool.progress import Reporter, silent
from zootool.records import to_plain
from zootool.store.blocks import BlockSource, PackedBlock, Plan
from zootool.store.layout import WriteOptions
from zootool.store.nets import union_schema
from zootool.store.pack import digests_of
from zootool.store.reader import Store, open_store
from zootool.store.rows import checked_columns, joined_assumptions
from zootool.store.schema import Segment, ZooInfo
from zootool.store.stored_images import ImagesByKey, JoinedImages, stored_images
from zootool.store.writer import check_has_networks, counts_of, fill, order_of, segments_of


@dataclass(frozen=True)
class Appended:
    """What an append did: the new store's id, the networks it added, and those that the store had already."""

    zoo_id: str
    num_added: int
    num_known: int


def append_store(
    path: Path,
    source: BlockSource,
    options: WriteOptions | None = None,
    report: Reporter = silent,
    *,
    images: Callable[[], ImagesByKey] | None = None,
) -> Appended:
    """Put a version of the store at `path` in its place that has the source's networks too, behind its own.

    Networks whose net_id the store has are left out, once their weights are found equal. Readers that have the old
    version open keep it. `images` gives the source images of the added networks, for a store that carries its images.
    Raises UsageError for networks of another image set or while somebody else appends, IntegrityError for a known
    net_id with other weights, MissingError for a source without networks, and what the source and the checks of its
    blocks raise.
    """
    store = open_store(path)
    check_has_networks(source)
    if source.info.sources != store.info.sources:
        raise UsageError(
            f"{source.info.name} was made from other images than {store.info.name}",
            hint="merge the two with `zoo merge`",
        )
    _check_own_columns(store)
    fresh = _FreshNetworks(source, store, report)
    if not fresh.plan:
        return Appended(store.zoo_id, 0, fresh.num_known)
    joined = _joined_images(store, images)
    with folder_replacement(path, lambda: _check_unchanged(path, store)) as folder:
        info = _joined_info(store, fresh)
        schema = union_schema([store.nets.schema, fresh.read(order_of(fresh.plan)[0]).table.schema])
        options = options or WriteOptions()
        zoo_id = fill(folder, fresh, info, options, report, base=store, images=joined, schema=schema)
    return Appended(zoo_id, info.num_networks - len(store), fresh.num_known)


class _FreshNetworks:
    """The networks of a source that a store doesn't have yet, as a source."""

    def __init__(self, source: BlockSource, store: Store, report: Reporter) -> None:
        self.info = source.info
        self.num_known = 0
        self.fingerprint = None
        self.plan: Plan = []
        self._source = source
        self._places: list[tuple[int, np.ndarray]] = []
        # Every block is read here and again when it is written: what is new decides zoo.json, which comes first.
        table = store.nets.read(["net_id", "digest"])
        self._known = dict(zip(table["net_id"].to_pylist(), table["digest"].to_pylist(), strict=True))
        plan = []
        for index, (architecture, _) in enumerate(source.plan):
            report("comparing networks", index, len(source.plan))
            places = self._fresh_places(index)
            if len(places):
                self._places.append((index, places))
                plan.append((architecture, len(places)))
        report("comparing networks", len(source.plan), len(source.plan))
        self.plan = plan

    def read(self, index: int) -> PackedBlock:
        """The fresh networks of a block."""
        number, places = self._places[index]
        block = self._source.read(number)
        rows = {name: rows[places] for name, rows in block.rows.items()}
        return PackedBlock(block.architecture, rows, block.table.take(pa.array(places)))

    def _fresh_places(self, index: int) -> np.ndarray:
        block = self._source.read(index)
        net_ids = block.table["net_id"].to_pylist()
        is_known = np.array([net_id in self._known for net_id in net_ids], dtype=bool)
        if is_known.any():
            digests = digests_of(block.rows)
            for place in np.flatnonzero(is_known).tolist():
                if digests[place].tobytes() != self._known[net_ids[place]]:
                    raise IntegrityError(
                        f"network {printable(net_ids[place])} is in the store already, with other weights",
                        hint="merge the two with `zoo merge`, which tells them apart",
                    )
        self.num_known += int(is_known.sum())
        return np.flatnonzero(~is_known)


def _joined_images(store: Store, images: Callable[[], ImagesByKey] | None) -> ImagesByKey | None:
    """The store's own images, and those of the networks that come to it."""
    own = stored_images(store)
    if own is None:
        return None
    if images is None:
        raise UsageError(
            f"{store.info.name} carries its images, and there are none for the networks to add",
            hint="put the image set in place, or convert all networks anew",
        )
    return JoinedImages([(own, own.keys)], images())


def _check_own_columns(store: Store) -> None:
    """What comes is in the format's form; what is there has to be too, or one column would hold two things."""
    known = [name for name in store.nets.column_names if name in KNOWN]
    _, notes = checked_columns(store, store.nets.read(known))
    if notes:
        raise FormatError(
            f"{printable(store.info.name, 80)} was written otherwise than networks are now: {notes[0]}",
            hint="convert the new networks by themselves and merge the two with `zoo merge`, which mends it",
        )


def _check_unchanged(path: Path, store: Store) -> None:
    if open_store(path).zoo_id != store.zoo_id:
        raise UsageError(f"{path} has been replaced by another version meanwhile", hint="run the same command again")


def _joined_info(store: Store, fresh: _FreshNetworks) -> ZooInfo:
    old, info = store.info, fresh.info
    segments: list[Segment] = list(old.segments)
    added = segments_of(fresh.plan)
    for segment in added:
        if segments[-1].architecture == segment.architecture:
            segments[-1] = replace(segment, count=segments[-1].count + segment.count)
        else:
            segments.append(segment)
    num_added = sum(segment.count for segment in added)
    record = {"name": info.name, "num_networks": num_added, "recipe": info.recipe, "provenance": info.provenance}
    return replace(
        old,
        num_networks=old.num_networks + num_added,
        segments=tuple(segments),
        counts={name: old.counts.get(name, 0) + count for name, count in counts_of(fresh.plan).items()},
        assumptions=joined_assumptions(old, info, only={segment.architecture for segment in added}),
        provenance=old.provenance | {"appended": [*old.provenance.get("appended", []), to_plain(record)]},
        parent=store.zoo_id,
    )
