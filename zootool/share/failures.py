"""What systems and servers refuse, as errors with a next step; and folders that one process at a time works in."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from zootool import files
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
    with ExitStack() as stack:
        try:
            is_ours = stack.enter_context(files.locked(folder, wait=False))
            if not is_ours:
                raise UsageError(busy, hint="wait until it has finished, then run the same command again")
        except OSError as error:
            if error.filename is not None:
                raise
            is_ours = False  # some network file systems lock no folders
        yield is_ours
