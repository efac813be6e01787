"""What every place of a store's bytes offers, the interface that readers know; and a local folder as such a place."""

import errno
import mmap
import os
import shutil
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.errors import IntegrityError, printable

Bytes = np.ndarray
"""A one-dimensional uint8 array: a view of mapped memory, or a copy."""

MAX_WHOLE_BYTES = 1 << 31
"""Of a file that is read at once, such as nets.parquet."""

_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


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
        place = self.folder / path
        size = self.size(path)
        if size is None:
            raise FileNotFoundError(f"{place} is no file")
        if size > MAX_WHOLE_BYTES:
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
            mapped = self._map(path)
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
                self._map(path)

    def __getstate__(self) -> dict[str, Any]:
        # Mappings can't cross into the workers of a DataLoader; each maps the files again.
        return self.__dict__ | {"_maps": {}}

    def _map(self, path: str) -> Bytes:
        if self.size(path) is None:
            raise FileNotFoundError(f"{self.folder / path} is no file")
        with (self.folder / path).open("rb") as source:
            mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps[path] = np.frombuffer(mapped, dtype=np.uint8)
        return self._maps[path]
