"""Pulling a zoo: every file against the manifest, or the networks that are asked for, each against its digest.

What comes waits in a folder of the zoo's own, so that an interrupted pull goes on; the destination appears when all of
it is right.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Int64

from zootool.errors import BadDataError, IntegrityError, MissingError, UsageError, ZooError, did_you_mean, printable
from zootool.files import fsync_folder, fsync_tree, refuse_existing
from zootool.progress import Reporter, silent
from zootool.share.address import Address, open_manifest
from zootool.share.download import Download, check_room, unfinished
from zootool.share.failures import refusals
from zootool.store.layout import WriteOptions
from zootool.store.manifest import Manifest
from zootool.store.reader import Store, open_store
from zootool.store.rows import StoreRows, info_of, nonfinite_of
from zootool.store.schema import IMAGES, MANIFEST_JSON, SourceInfo
from zootool.store.storage import Bytes, CachedStorage, LocalStorage, Storage
from zootool.store.stored_images import stored_images
from zootool.store.writer import write_store
from zootool.zoo.zoo import Zoo

_CHUNKS = ".chunks"
_NO_LIMIT = 1 << 62
_MARK_BYTES = 64 << 20


@dataclass(frozen=True)
class Pulled:
    """What a pull left: the store's folder and id and its files.

    `num_bytes` came over the network this time; of a part, they are those on the disk.
    """

    path: Path
    zoo_id: str
    num_files: int
    num_bytes: int


def pull(
    address: Address,
    destination: str | Path,
    *,
    where: str | None = None,
    limit: int | None = None,
    columns: Sequence[str] | None = None,
    workers: int = 4,
    report: Reporter = silent,
) -> Pulled:
    """Download the zoo at `address` into the new folder `destination`, going on with an earlier attempt.

    With any of `where` (see `Zoo.select`), `limit` and `columns` (of the table, to keep beside the store's own), the
    networks that meet it become a zoo of their own, whose parent is the source's id.

    Raises UsageError when the folder exists or another process pulls it, and for unknown columns; MissingError where
    nothing is there or selected, the connection fails for good or the disk is too small; and IntegrityError for files
    that aren't what the manifest says and networks that aren't what the table says, by name.
    """
    destination = Path(destination)
    with refusals(f"pull {address.url} to {destination}"):
        storage, manifest, content = open_manifest(address)
        if where is None and limit is None and columns is None:
            with unfinished(destination) as folder, _replacements_named(address, manifest):
                download = Download(storage, manifest.files, folder, report)
                download.run(workers)
                _remove_strangers(folder, manifest)
                (folder / MANIFEST_JSON).write_bytes(content)
                open_store(folder)
                fsync_tree(folder)
                # A rename would silently take the place of an empty folder.
                refuse_existing(destination)
                folder.rename(destination)
            fsync_folder(destination.parent)
            return Pulled(destination, manifest.zoo_id, len(manifest.files), download.num_bytes)
        with unfinished(destination) as folder, _kept_for_later(folder), _replacements_named(address, manifest):
            part = _PartStorage(storage, manifest, folder, report)
            part.bring([path for path in manifest.files if "/c/" not in path], workers)
            zoo_id = _write_part(Store(part, manifest), folder, destination, where, limit, columns, report)
            shutil.rmtree(folder)
    sizes = [path.stat().st_size for path in destination.rglob("*") if path.is_file()]
    return Pulled(destination, zoo_id, len(sizes) - 1, sum(sizes))


@contextmanager
def _replacements_named(address: Address, manifest: Manifest) -> Iterator[None]:
    """Say of an IntegrityError in the block that another version came between, where that is the reason."""
    try:
        yield
    except IntegrityError as error:
        new = manifest.zoo_id
        with suppress(ZooError):
            new = open_manifest(Address(address.url))[1].zoo_id
        if new == manifest.zoo_id:
            raise
        raise IntegrityError(
            f"{printable(address.url)} was replaced by the version {new[:16]} while it was read",
            hint="run the same command again to take that one" if address.pinned_id is None else "find another copy",
        ) from error


def _remove_strangers(folder: Path, manifest: Manifest) -> None:
    """What an attempt at another version, or at a part, has left."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(parent) / name
            if path.relative_to(folder).as_posix() not in manifest.files:
                path.unlink()
        if Path(parent) != folder and not any(Path(parent).iterdir()):
            Path(parent).rmdir()


@contextmanager
def _kept_for_later(folder: Path) -> Iterator[None]:
    """Keep what has come when the connection fails or the user stops; bad data would be in the way of the next try."""
    try:
        yield
    except (BadDataError, UsageError):
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _PartStorage(Storage):
    """A zoo of which `folder` holds some files, and the chunks that were read.

    Sizes are the manifest's. A shard's is compared when the shard is first used; images come by whole shards, since
    no network's digest covers them.
    """

    def __init__(self, storage: Storage, manifest: Manifest, folder: Path, report: Reporter) -> None:
        self.name = storage.name
        self._folder, self._here = folder, LocalStorage(folder)
        self._there = storage
        if not isinstance(storage, LocalStorage):
            self._there = CachedStorage(storage, manifest.zoo_id, folder / _CHUNKS, _NO_LIMIT)
        self._manifest, self._report = manifest, report
        self._compared: set[str] = set()
        self._lock = Lock()

    def bring(self, paths: Iterable[str], workers: int) -> None:
        """Have these files here, each compared with its digest."""
        files = {path: self._manifest.files[path] for path in paths}
        Download(self._there, files, self._folder, self._report).run(workers)

    def read(self, path: str) -> bytes:
        return self._layer(path).read(path)

    def size(self, path: str) -> int | None:
        entry = self._manifest.files.get(path)
        return None if entry is None else entry.size

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        with self._lock:
            if path.startswith(f"{IMAGES}/c/") and path not in self._compared:
                self.bring([path], 1)
            elif path not in self._compared:
                size, listed = self._layer(path).size(path), self._manifest.files[path].size
                if size != listed:
                    state = "is missing" if size is None else f"has {size} bytes, the manifest says {listed}"
                    where = f"{printable(self.name)}/{path}"
                    raise IntegrityError(f"{where} {state}", hint="tell its publisher, or fetch another")
            self._compared.add(path)
        return self._layer(path).fetch(path, ranges)

    def open(self, path: str) -> Any:
        return self._layer(path).open(path)

    def pin(self, paths: Iterable[str]) -> None:
        self._there.pin(path for path in paths if self._layer(path) is self._there)

    def _layer(self, path: str) -> Storage:
        return self._here if self._here.size(path) is not None else self._there


def _write_part(
    store: Store,
    folder: Path,
    destination: Path,
    where: str | None,
    limit: int | None,
    columns: Sequence[str] | None,
    report: Reporter,
) -> str:
    """Write the selected networks as a store and give its id. What `store` reads is compared with its digests."""
    selected = Zoo(store).select(where=where)
    rows = selected.rows[:limit]
    if len(rows) == 0:
        shutil.rmtree(folder)
        raise MissingError(
            f"no network of {printable(store.info.name)} is selected",
            hint=selected.why_empty or "look with `zoo info`",
        )
    # The chunks as they come, and the store that they become.
    check_room(folder, 2 * store.manifest.num_bytes * len(rows) // max(len(store), 1))
    part = {"name": store.info.name, "id": store.zoo_id, "num_networks": len(store), "taken": len(rows)}
    info = replace(info_of(store, destination.stem, {"subset_of": part}), parent=store.zoo_id)
    options = WriteOptions(nonfinite=nonfinite_of(store), mark_bytes=_MARK_BYTES)
    return write_store(
        destination, _ChosenColumns(store, rows, info, columns), options, report, images=stored_images(store)
    )


class _ChosenColumns(StoreRows):
    """Rows of a store with some of the table's columns alone, all of them if None."""

    def __init__(
        self, store: Store, rows: Int64[np.ndarray, " networks"], info: SourceInfo, columns: Sequence[str] | None
    ) -> None:
        super().__init__(store, rows, info)
        known = self._table.column_names
        for column in columns or ():
            if column not in known:
                hint = did_you_mean(column, known)
                raise UsageError(f"there is no column {printable(column, 60)!r} to keep", hint=hint)
        if columns is not None:
            self._table = self._table.select([name for name in known if name == "net_id" or name in columns])

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {' '.join(self._table.column_names)}"
