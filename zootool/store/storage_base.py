"""What every place of a store's bytes offers: the interface that readers know."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
