"""Where a store's bytes are: a local folder that is mapped into memory, or any URL that fsspec knows."""

import mmap
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.errors import MissingError

Bytes = np.ndarray
"""A one-dimensional uint8 array: a view of mapped memory, or a copy."""


class Storage(ABC):
    """Read-only access to the files below one folder, by paths with forward slashes."""

    name: str
    """The folder as people write it."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError."""

    @abstractmethod
    def size(self, path: str) -> int | None:
        """A file's size in bytes, None when it isn't there."""

    @abstractmethod
    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        """The bytes [start, stop) of one file, for several ranges at once. Raises FileNotFoundError."""

    @abstractmethod
    def open(self, path: str) -> Any:
        """A file object for reading."""

    def link(self, path: str, target: Path) -> None:
        """Give a file the name `target` too, or copy it there."""
        target.write_bytes(self.read(path))

    @abstractmethod
    def pin(self, paths: Iterable[str]) -> None:
        """Hold on to these files, so that they stay readable when another version of the folder takes its place."""


class LocalStorage(Storage):
    """A folder on this machine. Files are mapped once, and `fetch` returns views of the mapping."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self._maps: dict[str, Bytes] = {}

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def size(self, path: str) -> int | None:
        if path in self._maps:
            return len(self._maps[path])
        try:
            return (self.folder / path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

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
            raise MissingError(f"can't read {url}: {error}", hint="install what the URL's protocol needs") from error

    def read(self, path: str) -> bytes:
        return self._fs.cat_file(self._full(path))

    def size(self, path: str) -> int | None:
        try:
            return int(self._fs.size(self._full(path)))
        except FileNotFoundError:
            return None

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        starts, stops = zip(*ranges, strict=True)
        parts = self._fs.cat_ranges([self._full(path)] * len(ranges), list(starts), list(stops), on_error="raise")
        return [np.frombuffer(part, dtype=np.uint8) for part in parts]

    def pin(self, paths: Iterable[str]) -> None:
        """Nothing: what is published under a URL stays what it is."""

    def open(self, path: str) -> Any:
        return self._fs.open(self._full(path), "rb")

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"


def open_storage(path_or_url: str | Path) -> Storage:
    """The storage behind a path or URL. Raises MissingError when there is no such folder."""
    if isinstance(path_or_url, str) and "://" in path_or_url and not path_or_url.startswith("file://"):
        return RemoteStorage(path_or_url)
    folder = Path(str(path_or_url).removeprefix("file://"))
    if not folder.exists():
        raise MissingError(f"there is no zoo at {folder}", hint="make one with `zoo convert SRC DST.zoo`")
    return LocalStorage(folder)


def _map_file(path: Path) -> Bytes:
    with path.open("rb") as source:
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype=np.uint8)
