"""Files on their way from a remote zoo into a folder here: each compared with its digest before it gets its name.

A file that is whole has its name in the folder and is compared again by the next attempt. An unfinished one is hidden
beside it, and the next attempt goes on at its end.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Event, Lock

from zootool.errors import IntegrityError, MissingError, UsageError, printable
from zootool.files import refuse_existing, refuse_inside, sha256_file
from zootool.progress import Reporter
from zootool.share.failures import locked
from zootool.store.schema import FileEntry
from zootool.store.storage import Storage

_BLOCK_BYTES = 16 << 20
_ATTEMPTS = 2


@contextmanager
def unfinished(destination: Path) -> Iterator[Path]:
    """The hidden folder beside `destination` that holds an unfinished pull; locked against another one of that name.

    Raises UsageError where `destination` exists, or another process pulls it.
    """
    folder = destination.with_name(f".{destination.name}.pull")
    if destination.exists() and folder.is_dir():
        # A pull of a part was killed when its zoo was already in place.
        with suppress(UsageError), locked(folder, f"{folder} is in use"):
            shutil.rmtree(folder)
    refuse_existing(destination)
    refuse_inside(destination)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, f"another process is pulling {destination}"):
        # Another one may have finished between the two looks.
        refuse_existing(destination)
        yield folder


def check_room(folder: Path, num_bytes: int) -> None:
    """Raise MissingError where the disk of `folder` has fewer free bytes than that."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise MissingError(
            f"the zoo needs {num_bytes:,} more bytes, the disk of {folder} has {free:,}",
            hint="make room, choose another folder, or pull a part with --where or --limit",
        )


class Download:
    """Some files of a zoo, `files` by their path, on their way into `folder`. `num_bytes` came over the network."""

    def __init__(self, storage: Storage, files: Mapping[str, FileEntry], folder: Path, report: Reporter) -> None:
        self._storage, self._files, self._folder, self._report = storage, files, folder, report
        self._lock = Lock()
        self._stopped = Event()
        self._total = sum(entry.size for entry in files.values())
        self._found = 0
        self.num_bytes = 0

    def run(self, workers: int) -> None:
        """Bring what is missing.

        Raises MissingError where the connection fails for good or the disk is too small, IntegrityError for files that
        aren't what is listed, by name; what is right is kept.
        """
        missing = [path for path in self._files if not self._is_whole(path)]
        left = sum(self._files[path].size - self._size_of_part(path) for path in missing)
        check_room(self._folder, left)
        self._found = self._total - left
        problems = sorted(filter(None, self._fetch_all(missing, workers)))
        if problems:
            shown = "\n  ".join(problems[:20])
            raise IntegrityError(
                f"{printable(self._storage.name)} isn't what its manifest says:\n  {shown}",
                hint="tell its publisher, or fetch another copy; what is right is kept for the next attempt",
            )

    def _fetch_all(self, paths: Iterable[str], workers: int) -> Iterator[str | None]:
        with ThreadPoolExecutor(workers) as pool:
            waiting = [pool.submit(self._fetch, path) for path in paths]
            try:
                for future in as_completed(waiting):
                    yield future.result()
            except BaseException:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _fetch(self, path: str) -> str | None:
        """Bring one file; what is wrong with it, in words."""
        entry = self._files[path]
        size = self._storage.size(path)
        if size != entry.size:
            return f"{path} " + ("is missing" if size is None else f"has {size} bytes, listed are {entry.size}")
        # Bytes may have been damaged on the way, or by whoever began: wrong content is fetched once more, from nothing.
        if any(self._transfer(path, entry) for _ in range(_ATTEMPTS)):
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
            start = sink.tell()
            while start < entry.size and not self._stopped.is_set():
                stop = min(start + _BLOCK_BYTES, entry.size)
                try:
                    content = self._storage.fetch(path, [(start, stop)])[0].data
                except FileNotFoundError:
                    break  # it has vanished: its digest will say so
                sink.write(content)
                digest.update(content)
                start = stop
                with self._lock:
                    self.num_bytes += len(content)
                    self._report("downloading bytes", self._found + self.num_bytes, self._total)
        if self._stopped.is_set():
            return True
        if digest.hexdigest() != entry.sha256:
            part.unlink()
            return False
        part.rename(self._folder / path)
        return True

    def _is_whole(self, path: str) -> bool:
        entry, place = self._files[path], self._folder / path
        if not place.is_file():
            return False
        if place.stat().st_size == entry.size and sha256_file(place) == entry.sha256:
            return True
        place.unlink()
        return False

    def _size_of_part(self, path: str) -> int:
        part = self._part(path)
        size = part.stat().st_size if part.is_file() else 0
        if size <= self._files[path].size:
            return size
        part.unlink()
        return 0

    def _part(self, path: str) -> Path:
        # No path of a manifest begins with a dot.
        place = self._folder / path
        return place.with_name(f".{place.name}.part")
