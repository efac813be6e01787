"""What systems and servers refuse, as errors with a next step; and folders that one process at a time works in."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zootool.errors import MissingError, UsageError, printable, refusal_of


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Turn what an operating system or a server refuses inside the block into a MissingError that begins with `doing`.

    Names such as "publish to s3://bucket/x.zoo" fit: the message says that it can't be done, and why.
    """
    try:
        yield
    except OSError as error:
        raise refusal_of(error, doing) or MissingError(
            f"can't {printable(doing)}: {printable(error.strerror or error)} ({type(error).__name__})",
            hint="see that the place exists, has room and is yours to use",
        ) from error


@contextmanager
def locked(folder: Path, busy: str) -> Iterator[bool]:
    """Hold a folder's lock, which the kernel takes back when this process dies; False where the disk has no locks.

    Raises UsageError, with the words of `busy`, where another process holds it, or has just removed the folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        is_alone = _lock(descriptor)
        if is_alone is None or not folder.exists() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise UsageError(busy, hint="wait until it has finished, then run the same command again")
        yield is_alone
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """True where the lock is ours now, None where it is somebody's, False where there is none to have."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        # Some network file systems lock no folders.
        return False
    return True
