"""Pulling a whole zoo: every file against the manifest, in a folder that takes its name when all of them are right.

The unfinished folder `.NAME.pull` stays when a pull is interrupted or killed. A file that is whole has its name in it
and is checked again; an unfinished one is `FILE.part`, and is gone on with at its end.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event, Lock

from zootool.errors import IntegrityError, MissingError, UsageError, printable
from zootool.files import fsync_folder, fsync_tree, sha256_file
from zootool.progress import Reporter, silent
from zootool.share.address import Address, open_manifest
from zootool.store.manifest import Manifest
from zootool.store.reader import open_store
from zootool.store.schema import MANIFEST_JSON, FileEntry
from zootool.store.storage import Storage

_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class Pulled:
    """What a pull left: the store's folder and id and its files.

    `num_bytes` came over the network this time; of a part, they are those on the disk.
    """

    path: Path
    zoo_id: str
    num_files: int
    num_bytes: int


def pull(address: Address, destination: Path, *, workers: int = 4, report: Reporter = silent) -> Pulled:
    """Download the zoo at `address` into the new folder `destination`, going on with an earlier attempt.

    Raises UsageError when the folder exists, MissingError where nothing is there, the connection fails for good or the
    disk is too small, and IntegrityError for files that aren't what the manifest says, by name.
    """
    if destination.exists():
        raise UsageError(f"{destination} exists", hint="choose another name, or remove it first")
    storage, manifest, content = open_manifest(address)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished(destination) as folder:
        download = _Download(storage, manifest, folder, report)
        download.run(workers)
        _remove_strangers(folder, manifest)
        (folder / MANIFEST_JSON).write_bytes(content)
        open_store(folder)
        fsync_tree(folder)
        folder.rename(destination)
    fsync_folder(destination.parent)
    return Pulled(destination, manifest.zoo_id, len(manifest.files), download.num_bytes)


def check_room(folder: Path, num_bytes: int) -> None:
    """Raise MissingError where the disk of `folder` has fewer free bytes than that."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise MissingError(
            f"the zoo needs {num_bytes:,} more bytes, the disk of {folder} has {free:,}",
            hint="make room, choose another folder, or pull a part with --where or --limit",
        )


class _Download:
    """The files of one manifest on their way into `folder`."""

    def __init__(self, storage: Storage, manifest: Manifest, folder: Path, report: Reporter) -> None:
        self._storage, self._manifest, self._folder, self._report = storage, manifest, folder, report
        self._lock = Lock()
        self._stopped = Event()
        self._done = 0
        self._total = sum(entry.size for entry in manifest.files.values())
        self.num_bytes = 0

    def run(self, workers: int) -> None:
        missing = [path for path in self._manifest.files if not self._is_whole(path)]
        left = {path: self._manifest.files[path].size - self._size_of_part(path) for path in missing}
        check_room(self._folder, sum(left.values()))
        self._done = self._total - sum(left.values())
        problems: list[str] = []
        with ThreadPoolExecutor(workers) as pool:
            waiting = [pool.submit(self._fetch, path) for path in missing]
            try:
                for future in as_completed(waiting):
                    if problem := future.result():
                        problems.append(problem)
            except BaseException:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
        if problems:
            shown = "\n  ".join(sorted(problems)[:20])
            raise IntegrityError(
                f"{printable(self._storage.name)} isn't what its manifest says:\n  {shown}",
                hint="tell its publisher, or fetch another copy; what is right is kept for the next attempt",
            )

    def _fetch(self, path: str) -> str | None:
        """Bring one file; what is wrong with it, in words."""
        entry = self._manifest.files[path]
        size = self._storage.size(path)
        if size != entry.size:
            return f"{path} " + ("is missing" if size is None else f"has {size} bytes, listed are {entry.size}")
        resumed = self._size_of_part(path) > 0
        if self._transfer(path, entry):
            return None
        # The beginning is from an earlier attempt and may have been wrong: once more, from nothing.
        if resumed and self._transfer(path, entry):
            return None
        return f"{path} has another content than listed"

    def _transfer(self, path: str, entry: FileEntry) -> bool:
        """Bring a file to its end; whether it is what is listed. What isn't is removed."""
        part = self._part(path)
        part.parent.mkdir(parents=True, exist_ok=True)
        digest = sha256()
        with part.open("a+b") as sink:
            sink.seek(0)
            while block := sink.read(_BLOCK_BYTES):
                digest.update(block)
            for content in self._blocks(path, sink.tell(), entry.size):
                sink.write(content)
                digest.update(content)
                self._count(len(content))
        if self._stopped.is_set():
            return True
        if digest.hexdigest() != entry.sha256:
            part.unlink()
            return False
        part.rename(self._folder / path)
        return True

    def _blocks(self, path: str, start: int, size: int) -> Iterator[memoryview]:
        """The file's bytes from `start` on; fewer where it vanishes, or the pull is given up."""
        while start < size and not self._stopped.is_set():
            stop = min(start + _BLOCK_BYTES, size)
            try:
                yield self._storage.fetch(path, [(start, stop)])[0].data
            except FileNotFoundError:
                return
            start = stop

    def _is_whole(self, path: str) -> bool:
        entry, place = self._manifest.files[path], self._folder / path
        if not place.is_file():
            return False
        if place.stat().st_size == entry.size and sha256_file(place) == entry.sha256:
            return True
        place.unlink()
        return False

    def _size_of_part(self, path: str) -> int:
        part = self._part(path)
        size = part.stat().st_size if part.is_file() else 0
        if size <= self._manifest.files[path].size:
            return size
        part.unlink()
        return 0

    def _part(self, path: str) -> Path:
        return self._folder / f"{path}.part"

    def _count(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            self.num_bytes += num_bytes
            self._report("downloading bytes", self._done, self._total)


@contextmanager
def _unfinished(destination: Path) -> Iterator[Path]:
    """The hidden folder beside `destination`, locked against another pull of the same name."""
    folder = destination.with_name(f".{destination.name}.pull")
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UsageError(f"another process is pulling {destination}", hint="wait for it") from error
    try:
        yield folder
    finally:
        os.close(descriptor)


def _remove_strangers(folder: Path, manifest: Manifest) -> None:
    """What an attempt at another version has left."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            if path.relative_to(folder).as_posix() not in manifest.files:
                path.unlink()
