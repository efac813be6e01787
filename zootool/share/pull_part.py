"""Pulling a part of a zoo: the small files whole, then ranges of the shards, each network against its digest."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Int64

from zootool.errors import BadDataError, IntegrityError, MissingError, UsageError, did_you_mean, printable
from zootool.progress import Reporter, silent
from zootool.share.address import Address, open_manifest
from zootool.share.download import Download, check_room, unfinished
from zootool.share.failures import refusals
from zootool.share.layered import LayeredStorage
from zootool.share.pull import Pulled, replacements_named
from zootool.store.blocks import PackedBlock
from zootool.store.layout import WriteOptions
from zootool.store.manifest import Manifest
from zootool.store.pack import digests_of
from zootool.store.reader import Store
from zootool.store.rows import StoreRows, info_of, nonfinite_of
from zootool.store.schema import IMAGES, SourceInfo
from zootool.store.storage import Bytes, CachedStorage, LocalStorage, Storage
from zootool.store.stored_images import stored_images
from zootool.store.writer import write_store
from zootool.zoo.zoo import Zoo

_CHUNKS = ".chunks"
_NO_LIMIT = 1 << 62
_MARK_BYTES = 64 << 20


def pull_part(
    address: Address,
    destination: str | Path,
    *,
    where: str | None = None,
    limit: int | None = None,
    columns: Sequence[str] | None = None,
    workers: int = 4,
    report: Reporter = silent,
) -> Pulled:
    """Download the networks that meet `where` (see `Zoo.select`), at most `limit`, as a zoo of their own.

    Its parent is the source's id. `columns` are the table's columns to keep beside the store's own. Raises what
    `pull` raises, UsageError for unknown columns, and IntegrityError for a network that isn't what the table lists.
    """
    destination = Path(destination)
    with refusals(f"pull {address.url} to {destination}"):
        storage, manifest, _ = open_manifest(address)
        with unfinished(destination) as folder, _kept_for_later(folder), replacements_named(address, manifest):
            part = _PartStorage(storage, manifest, folder, report)
            part.bring([path for path in manifest.files if "/c/" not in path], workers)
            source = Zoo(Store(part, manifest))
            selected = source if where is None else source.select(where=where)
            rows = selected.rows[:limit]
            if len(rows) == 0:
                shutil.rmtree(folder)
                raise MissingError(
                    f"no network of {printable(source.info.name)} is selected",
                    hint=selected.why_empty or "look with `zoo info`",
                )
            check_room(folder, _size_of(source.store, len(rows)))
            wanted = _CheckedRows(source.store, rows, _info(source, destination.stem, len(rows)), columns)
            options = WriteOptions(nonfinite=nonfinite_of(source.store), mark_bytes=_MARK_BYTES)
            zoo_id = write_store(destination, wanted, options, report, images=stored_images(source.store))
            shutil.rmtree(folder)
    sizes = [path.stat().st_size for path in destination.rglob("*") if path.is_file()]
    return Pulled(destination, zoo_id, len(sizes) - 1, sum(sizes))


class _PartStorage(LayeredStorage):
    """A zoo of which `folder` holds some files, and the chunks that were read.

    Sizes are the manifest's. A shard's is compared when the shard is first used; images come by whole shards, since
    no network's digest covers them.
    """

    def __init__(self, storage: Storage, manifest: Manifest, folder: Path, report: Reporter) -> None:
        kept = CachedStorage(storage, manifest.zoo_id, folder / _CHUNKS, _NO_LIMIT)
        super().__init__(folder, storage if isinstance(storage, LocalStorage) else kept)
        self._manifest, self._report = manifest, report
        self._compared: set[str] = set()
        self._lock = Lock()

    def bring(self, paths: Iterable[str], workers: int) -> None:
        """Have these files here, each compared with its digest."""
        files = {path: self._manifest.files[path] for path in paths}
        Download(self.lower, files, self.upper, self._report).run(workers)

    def size(self, path: str) -> int | None:
        entry = self._manifest.files.get(path)
        return None if entry is None else entry.size

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        with self._lock:
            if path.startswith(f"{IMAGES}/c/") and path not in self._compared:
                self.bring([path], 1)
            elif path not in self._compared:
                self._compare_size(path)
            self._compared.add(path)
        return super().fetch(path, ranges)

    def _compare_size(self, path: str) -> None:
        size, listed = super().size(path), self._manifest.files[path].size
        if size != listed:
            state = "is missing" if size is None else f"has {size} bytes, the manifest says {listed}"
            raise IntegrityError(f"{printable(self.name)}/{path} {state}", hint="tell its publisher, or fetch another")


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
        for row, digest in zip(rows.tolist(), digests_of(block.rows), strict=True):
            if digest.tobytes() != self._digests[row].as_py():
                raise IntegrityError(
                    f"network {row} of {printable(self._store.storage.name)} differs from its digest",
                    hint="tell its publisher, or fetch another copy",
                )
        return block


@contextmanager
def _kept_for_later(folder: Path) -> Iterator[None]:
    """Keep what has come when the connection fails or the user stops; bad data would be in the way of the next try."""
    try:
        yield
    except (BadDataError, UsageError):
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _info(source: Zoo, name: str, num_networks: int) -> SourceInfo:
    part = {"name": source.info.name, "id": source.id, "num_networks": len(source.store), "taken": num_networks}
    return replace(info_of(source.store, name, {"subset_of": part}), parent=source.id)


def _size_of(store: Store, num_networks: int) -> int:
    """Bytes that a part takes while it is made: its chunks as they come, and the store that they become."""
    total = sum(entry.size for entry in store.manifest.files.values())
    return 2 * total * num_networks // max(len(store), 1)
