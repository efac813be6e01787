"""A file object over ranges of a remote file, for libraries that want one."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zootool.store.storage_base import Storage

_BUFFER_BYTES = 1 << 20


class _RangeFile(io.RawIOBase):
    def __init__(self, storage: "Storage", path: str, size: int) -> None:
        self._storage, self._path, self._size = storage, path, size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        stop = min(self._place + len(buffer), self._size)
        if stop <= self._place:
            return 0
        content = self._storage.fetch(self._path, [(self._place, stop)])[0].tobytes()
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def range_file(storage: "Storage", path: str, size: int) -> io.BufferedReader:
    """`path` of `storage`, `size` bytes long, for reading; at least 1 MB is fetched at a time."""
    return io.BufferedReader(_RangeFile(storage, path, size), _BUFFER_BYTES)
