"""The files below a folder, in an order that no file system has a say in."""

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from zootool.errors import FormatError, MissingError, printable

_MAX_DEPTH = 32
_SKIPPED = ("__MACOSX", ".git", ".ipynb_checkpoints")


def walk_files(path: Path, leaves_out: Callable[[Path], object] | None = None, depth: int = 0) -> Iterator[Path]:
    """Regular files below `path`, names in order. Links are not followed; folders that archives leave are skipped,
    as are files and folders that `leaves_out` says yes to.

    Raises MissingError where there is no folder, FormatError for one that is nested absurdly.
    """
    if depth > _MAX_DEPTH:
        raise FormatError(f"{printable(path)} is nested more than {_MAX_DEPTH} folders deep")
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise MissingError(f"{printable(path)} can't be listed ({error.strerror})") from error
    for entry in entries:
        if leaves_out is not None and leaves_out(Path(entry.path)):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED:
                yield from walk_files(Path(entry.path), leaves_out, depth + 1)
        elif entry.is_file(follow_symlinks=False) and not entry.name.startswith("._"):
            yield Path(entry.path)


def fingerprint_of_files(paths: Sequence[Path]) -> str:
    """A digest of the files' names, sizes and times of change: equal as long as nobody touches them."""
    digest = sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
