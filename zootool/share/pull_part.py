"""Pulling a part of a zoo: the small files whole, then ranges of the shards, each network against its digest."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from zootool.errors import IntegrityError, MissingError, UsageError, did_you_mean, printable
from zootool.progress import Reporter, silent
from zootool.share.address import Address, open_manifest
from zootool.share.pull import Pulled, check_room
from zootool.store.blocks import PackedBlock, SourceInfo
from zootool.store.manifest import Manifest, entry_of
from zootool.store.reader import Store
from zootool.store.rows import StoreRows, info_of
from zootool.store.schema import NETS_PARQUET
from zootool.store.storage import Bytes, Storage, cached
from zootool.store.stored_images import stored_images
from zootool.store.writer import write_store
from zootool.zoo.where import select_where
from zootool.zoo.zoo import Zoo


def pull_part(
    address: Address,
    destination: Path,
    *,
    where: str | None = None,
    limit: int | None = None,
    columns: Sequence[str] | None = None,
    report: Reporter = silent,
) -> Pulled:
    """Download the networks that meet `where` (see `select_where`), at most `limit`, as a zoo of their own.

    Its parent is the source's id. `columns` are the table's columns to keep beside the store's own. Raises what
    `pull` raises, UsageError for unknown columns, and IntegrityError for a network that isn't what the table lists.
    """
    if destination.exists():
        raise UsageError(f"{destination} exists", hint="choose another name, or remove it first")
    storage, manifest, _ = open_manifest(address)
    source = Zoo(Store(_with_table(cached(storage, manifest.zoo_id), manifest), manifest))
    selected = select_where(source, where) if where else source
    rows = selected.rows if limit is None else selected.rows[:limit]
    if len(rows) == 0:
        raise MissingError(f"no network of {printable(source.info.name)} is selected", hint="look with `zoo info`")
    destination.parent.mkdir(parents=True, exist_ok=True)
    check_room(destination.parent, _size_of(source.store, len(rows)))
    wanted = _CheckedRows(source.store, rows, _info(source, destination.stem, len(rows)), columns)
    images = stored_images(source.store)
    zoo_id = write_store(destination, wanted, report=report, images=images)
    num_files = sum(1 for path in destination.rglob("*") if path.is_file()) - 1
    return Pulled(destination, zoo_id, num_files, sum(p.stat().st_size for p in destination.rglob("*") if p.is_file()))


class _CheckedRows(StoreRows):
    """Rows of a store whose networks are compared with the table's digests; some of the table's columns alone."""

    def __init__(
        self, store: Store, rows: Int64[np.ndarray, " networks"], info: SourceInfo, columns: Sequence[str] | None
    ) -> None:
        super().__init__(store, rows, info)
        self._digests = store.nets.read(["digest"])["digest"]
        if columns is not None:
            for column in columns:
                if column not in self._table.column_names:
                    hint = did_you_mean(column, self._table.column_names)
                    raise UsageError(f"there is no column {printable(column, 60)!r} to keep", hint=hint)
            kept = [name for name in self._table.column_names if name == "net_id" or name in columns]
            self._table = self._table.select(kept)

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {' '.join(self._table.column_names)}"

    def read(self, index: int) -> PackedBlock:
        block = super().read(index)
        rows = self._blocks[index][1]
        for row, digest in zip(rows.tolist(), block.rows.digests(), strict=True):
            if digest.tobytes() != self._digests[row].as_py():
                raise IntegrityError(
                    f"network {row} of {printable(self._store.storage.name)} differs from its digest",
                    hint="tell its publisher, or fetch another copy",
                )
        return block


class _TableInMemory(Storage):
    """A storage whose nets.parquet has been fetched whole and checked."""

    def __init__(self, inner: Storage, table: bytes) -> None:
        self.name = inner.name
        self._inner = inner
        self._table = table

    def read(self, path: str) -> bytes:
        return self._inner.read(path)

    def size(self, path: str) -> int | None:
        return self._inner.size(path)

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        return self._inner.fetch(path, ranges)

    def open(self, path: str) -> Any:
        return BytesIO(self._table) if path == NETS_PARQUET else self._inner.open(path)

    def pin(self, paths: Iterable[str]) -> None:
        self._inner.pin(paths)


def _with_table(storage: Storage, manifest: Manifest) -> Storage:
    entry = manifest.files.get(NETS_PARQUET)
    if entry is None:
        return storage  # opening the store says what is wrong
    try:
        table = storage.read(NETS_PARQUET)
    except FileNotFoundError as error:
        raise IntegrityError(f"{printable(storage.name)}/{NETS_PARQUET} is missing", hint="fetch another") from error
    if entry_of(table) != entry:
        raise IntegrityError(
            f"{printable(storage.name)}/{NETS_PARQUET} isn't what the manifest lists",
            hint="tell its publisher, or fetch another copy",
        )
    return _TableInMemory(storage, table)


def _info(source: Zoo, name: str, num_networks: int) -> SourceInfo:
    part = {"name": source.info.name, "id": source.id, "num_networks": len(source.store), "taken": num_networks}
    return replace(info_of(source.store, name, {"subset_of": part}), parent=source.id)


def _size_of(store: Store, num_networks: int) -> int:
    total = sum(entry.size for entry in store.manifest.files.values())
    return total * num_networks // max(len(store), 1)
