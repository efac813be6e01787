"""A store whose folder or URL is seen through: some of its files lie in a folder here."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zootool.store.storage import Bytes, LocalStorage, Storage


class LayeredStorage(Storage):
    """`lower`, with the files of the folder `upper` in the place of its own."""

    def __init__(self, upper: Path, lower: Storage) -> None:
        self.name = lower.name
        self.upper = upper
        self.lower = lower
        self._here = LocalStorage(upper)

    def read(self, path: str) -> bytes:
        return self._layer(path).read(path)

    def size(self, path: str) -> int | None:
        return self._layer(path).size(path)

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        return self._layer(path).fetch(path, ranges)

    def open(self, path: str) -> Any:
        return self._layer(path).open(path)

    def pin(self, paths: Iterable[str]) -> None:
        """Hold on to what lies below."""
        self.lower.pin(path for path in paths if self._layer(path) is self.lower)

    def _layer(self, path: str) -> Storage:
        return self._here if self._here.size(path) is not None else self.lower
