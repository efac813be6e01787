"""Where a store's bytes are: a local folder that is mapped into memory, or any URL that fsspec knows."""

import errno
import mmap
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.errors import IntegrityError, MissingError, UsageError, printable
from zootool.store.cached_storage import CachedStorage
from zootool.store.http_storage import HttpStorage
from zootool.store.patience import patiently
from zootool.store.storage_base import Bytes, Storage

__all__ = ["Bytes", "LocalStorage", "RemoteStorage", "Storage", "cached", "open_storage"]

_MAX_WHOLE_BYTES = 1 << 31
"""Of a file that is read at once."""

_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
NEEDED = "read a folder, http(s)://, s3:// (pip install 'zootool[s3]'), hf:// (pip install 'zootool[hub]')"
_NO_HOST = re.compile(r"(https?|s3|gs|gcs|hf|az|abfs|ftp)://(/.*)?")
_LACKS_SLASH = re.compile(r"(https?|s3|gs|gcs|hf|az|abfs|ftp|file):(?!//)")
_HTTP = ("http://", "https://")


class LocalStorage(Storage):
    """A folder on this machine. Files are mapped once, and `fetch` returns views of the mapping."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self._maps: dict[str, Bytes] = {}

    def read(self, path: str) -> bytes:
        place = self.folder / path
        size = self.size(path)
        if size is None:
            raise FileNotFoundError(f"{place} is no file")
        if size > _MAX_WHOLE_BYTES:
            raise IntegrityError(f"{printable(place)} has {size} bytes", hint="fetch the zoo again")
        return place.read_bytes()

    def size(self, path: str) -> int | None:
        if path in self._maps:
            return len(self._maps[path])
        try:
            status = (self.folder / path).stat()
        except OSError as error:
            if error.errno in _NOWHERE:
                return None
            raise
        # A pipe or a device would be read without end.
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        mapped = self._maps.get(path)
        if mapped is None:
            mapped = self._maps[path] = _map_file(self.folder / path)
        return [mapped[start:stop] for start, stop in ranges]

    def open(self, path: str) -> Any:
        if path in self._maps:
            return pa.BufferReader(pa.py_buffer(self._maps[path]))
        return (self.folder / path).open("rb")

    def link(self, path: str, target: Path) -> None:
        try:
            os.link(self.folder / path, target)
        except OSError:
            # Another file system, or one without hard links.
            shutil.copyfile(self.folder / path, target)

    def pin(self, paths: Iterable[str]) -> None:
        for path in paths:
            if path not in self._maps and self.size(path):
                self._maps[path] = _map_file(self.folder / path)

    def __getstate__(self) -> dict[str, Any]:
        # Mappings can't cross into the workers of a DataLoader; each maps the files again.
        return self.__dict__ | {"_maps": {}}


class RemoteStorage(Storage):
    """A folder behind an fsspec URL, such as `https://`, `s3://` or `memory://`."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.name = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise MissingError(f"can't read {printable(url)}: {printable(error)}", hint=NEEDED) from error

    def read(self, path: str) -> bytes:
        return self._patiently(path, lambda: self._fs.cat_file(self._full(path)))

    def size(self, path: str) -> int | None:
        try:
            return int(self._patiently(path, lambda: self._fs.size(self._full(path))))
        except FileNotFoundError:
            return None

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        starts, stops = zip(*ranges, strict=True)
        names = [self._full(path)] * len(ranges)
        parts = self._patiently(path, lambda: self._fs.cat_ranges(names, list(starts), list(stops), on_error="raise"))
        return [np.frombuffer(part, dtype=np.uint8) for part in parts]

    def pin(self, paths: Iterable[str]) -> None:
        """Nothing: what is published under a URL stays what it is."""

    def open(self, path: str) -> Any:
        return self._fs.open(self._full(path), "rb")

    def _patiently(self, path: str, call: Callable[[], Any]) -> Any:
        return patiently(call, f"reading {self.name}/{path}")

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"


def check_url(path_or_url: str | Path) -> None:
    """Raise UsageError for an empty text, a URL without a server or bucket, and one that lacks a slash."""
    text = printable(path_or_url, 100)
    if isinstance(path_or_url, str) and not path_or_url.removeprefix("file://"):
        raise UsageError("an empty text is no place", hint="give a folder or a URL; . is the folder that you are in")
    if isinstance(path_or_url, str) and _NO_HOST.fullmatch(path_or_url):
        raise UsageError(f"{text} names no server or bucket", hint="write it like s3://bucket/x.zoo")
    if _LACKS_SLASH.match(str(path_or_url)) and not Path(path_or_url).exists():
        raise UsageError(f"{text} is neither a URL nor a folder", hint="write it like s3://bucket/x.zoo")


def open_storage(path_or_url: str | Path) -> Storage:
    """The storage behind a path or URL. Raises MissingError when there is no such folder."""
    check_url(path_or_url)
    if isinstance(path_or_url, str) and "://" in path_or_url and not path_or_url.startswith("file://"):
        return HttpStorage(path_or_url) if path_or_url.startswith(_HTTP) else RemoteStorage(path_or_url)
    folder = Path(str(path_or_url).removeprefix("file://"))
    if not folder.exists():
        raise MissingError(f"there is no zoo at {folder}", hint="make one with `zoo convert SRC DST.zoo`")
    return LocalStorage(folder)


def cached(storage: Storage, zoo_id: str) -> Storage:
    """The storage with a cache on this disk, where it is behind a network."""
    if isinstance(storage, LocalStorage) or storage.name.startswith("memory://"):
        return storage
    return CachedStorage(storage, zoo_id)


def _map_file(path: Path) -> Bytes:
    with path.open("rb") as source:
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype=np.uint8)
