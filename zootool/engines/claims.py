"""Who builds what, among processes that share a folder: locks that the kernel takes back when their holder dies.

All locks are single bytes of one file, so that nothing is left to clean up; on network file systems byte locks hold
between machines. A lock belongs to the process: two threads of one process don't exclude each other.
"""

import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLAIMS_NAME = ".claims"
RECIPE_BYTE = 0


class Claims:
    """The claims on a folder's units and its recipe. Close it, or use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        # POSIX drops a process's locks on a file when any of its descriptors for it is closed: one per process.
        self._descriptor = os.open(folder / CLAIMS_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back."""
        os.close(self._descriptor)

    @contextmanager
    def recipe(self) -> Iterator[None]:
        """Hold the folder's recipe; waits for whoever holds it."""
        with self._held(RECIPE_BYTE, fcntl.LOCK_EX):
            yield

    @contextmanager
    def unit(self, number: int) -> Iterator[bool]:
        """Hold a unit for the block; False, without holding it, where another process does."""
        with self._held(_unit_byte(number), fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
            yield held

    def is_held(self, number: int) -> bool:
        """Whether another process holds a unit. Asking takes no lock: a builder would go past a unit that one is on."""
        answer = fcntl.fcntl(self._descriptor, fcntl.F_GETLK, _lock_record(fcntl.F_WRLCK, _unit_byte(number)))
        return _lock_type(answer) != fcntl.F_UNLCK

    @contextmanager
    def _held(self, position: int, how: int) -> Iterator[bool]:
        try:
            fcntl.lockf(self._descriptor, how, 1, position)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, position)


def _unit_byte(number: int) -> int:
    return RECIPE_BYTE + 1 + number


def _lock_record(kind: int, position: int) -> bytes:
    """C's struct flock for one byte of a file."""
    if sys.platform == "darwin":
        return struct.pack("qqihh", position, 1, 0, kind, os.SEEK_SET)
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, position, 1, 0)


def _lock_type(record: bytes) -> int:
    if sys.platform == "darwin":
        return struct.unpack("qqihh", record)[3]
    return struct.unpack("hhqqi4x", record)[0]
