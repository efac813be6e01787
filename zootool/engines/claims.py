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
_RECIPE_BYTE, _FIRST_UNIT_BYTE = 0, 1


class Claims:
    """The claims on a folder's units and its recipe, as a context manager that gives everything back at its end."""

    def __init__(self, folder: Path) -> None:
        # POSIX drops a process's locks on a file when any of its descriptors for it is closed: one per process.
        self._descriptor = os.open(folder / CLAIMS_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @contextmanager
    def recipe(self) -> Iterator[None]:
        """Hold the folder's recipe; waits for whoever holds it."""
        with self._held(_RECIPE_BYTE, fcntl.LOCK_EX):
            yield

    @contextmanager
    def unit(self, number: int) -> Iterator[bool]:
        """Hold a unit for the block; False, without holding it, where another process does."""
        with self._held(_FIRST_UNIT_BYTE + number, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
            yield held

    def is_held(self, number: int) -> bool:
        """Whether another process holds a unit. Asking takes no lock: a builder would go past a unit that one is on."""
        place, kind = (_FIRST_UNIT_BYTE + number, 1), fcntl.F_WRLCK
        # C's struct flock for one byte of a file.
        if sys.platform == "darwin":
            layout, question, answered = "qqihh", (*place, 0, kind, os.SEEK_SET), 3
        else:
            layout, question, answered = "hhqqi4x", (kind, os.SEEK_SET, *place, 0), 0
        answer = fcntl.fcntl(self._descriptor, fcntl.F_GETLK, struct.pack(layout, *question))
        return struct.unpack(layout, answer)[answered] != fcntl.F_UNLCK

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
