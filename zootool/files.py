"""Writing files so that a reader sees the whole of one or nothing, whenever the writer is killed.

Every file and folder that zootool leaves behind goes through here: a temporary name beside the final one, fsync,
rename, fsync of the folder.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from zootool.errors import UsageError

_TEMPORARY = re.compile(r"^\.(?P<name>.+)\.[0-9]+\.tmp$")
_BLOCK_BYTES = 1 << 20
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CLOSED = (("zoo.json", "manifest.json"), ("recipe.yaml", "units"))
_FILES = (".csv", ".parquet", ".json", ".npy", ".npz", ".pt", ".pth", ".safetensors", ".html", ".png", ".zip", ".tar")
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def temporary_path(path: Path) -> Path:
    """The hidden name beside `path` that this process writes to before the rename."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file, then put it in the place of `path` durably; its folder is made if need be.

    On an error the temporary file is removed and `path` stays as it was.
    """
    temporary = temporary_path(path)
    with _naming(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as sink:
                write(sink)
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):  # of two errors the first says why
                temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """`write_atomic` for content that is already in memory."""
    write_atomic(path, lambda sink: sink.write(content))


def write_json_atomic(path: Path, value: object) -> None:
    """`write_atomic` of `canonical_json`."""
    write_bytes_atomic(path, canonical_json(value))


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys, no spaces and ASCII only: equal values give equal bytes.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def refuse_inside(path: Path) -> None:
    """Raise UsageError where `path` lies within a store or a folder of units, which hold what was made and no more."""
    for folder in path.resolve().parents:
        if any(all((folder / name).exists() for name in names) for names in _CLOSED):
            raise UsageError(
                f"{path} lies within {folder}, which holds networks and nothing else", hint="choose another place"
            )


def refuse_existing(path: Path) -> None:
    """Raise UsageError where something has the name already."""
    if path.exists():
        raise UsageError(f"{path} exists", hint="choose another name, or remove it first")


def check_writable(path: Path) -> None:
    """Raise what writing the file `path` would raise, before the work whose result it is to hold."""
    refuse_inside(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = temporary_path(path)
    with _naming(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(b"x")
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_atomic(path: Path, journal: str | None = None) -> Iterator[Path]:
    """A temporary folder that takes the name `path` when the block ends without an error.

    Every file inside is flushed to the disk first. What a killed process left of an earlier attempt is removed; but one
    in which a file called `journal` lies is given to the block again, and an interruption by the user leaves one too.
    Raises UsageError when something has the name already, when that is a file's, and within a store.
    """
    if path.suffix.lower() in _FILES:
        raise UsageError(f"{path} becomes a folder, and is named like a file", hint=f"such as {path.with_suffix('')}")
    refuse_inside(path)
    temporary = temporary_path(path)
    with _naming(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        _take_up(path, temporary, journal)
        try:
            yield temporary
            fsync_tree(temporary)
            # A rename would silently take the place of an empty folder.
            refuse_existing(path)
            temporary.rename(path)
        except BaseException as error:
            if not (isinstance(error, KeyboardInterrupt) and journal and (temporary / journal).exists()):
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_folder(path.parent)


@contextmanager
def folder_replacement(path: Path, check: Callable[[], None]) -> Iterator[Path]:
    """A temporary folder that takes the place of the folder `path` when the block ends without an error.

    `check` runs just before, while nobody else replaces a folder beside `path`; what it raises stops the replacement.
    Where the system can exchange two names there is a folder called `path` at every moment, else not for an instant.
    """
    temporary = temporary_path(path)
    with _naming(path, temporary):
        remove_leftovers(path.parent, path.name)
        temporary.mkdir()
        try:
            yield temporary
            fsync_tree(temporary)
            with locked(path.parent):
                check()
                if not _renameat2_exchange(temporary, path):
                    aside = temporary.with_name(f"{temporary.name}.aside")
                    path.rename(aside)
                    temporary.rename(path)
                    aside.rename(temporary)
                fsync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on the file or folder `path`, which the kernel takes back when this process dies.

    Without `wait` the block is given False, and holds nothing, where another process has the lock or has just put
    something else in the place of `path`. Raises OSError where nothing is there or the disk has no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            is_held = True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_held = False
            # A lock is on an inode: its name may have gone to another one while this process waited.
            if is_held and path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                yield True
                return
            if not wait:
                yield False
                return
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path, name: str | None = None, *, of_living: bool = False) -> list[Path]:
    """Remove the temporary files and folders that a killed process left in `folder`; returns what was removed.

    With `name` those of anything else stay. Those of a process that is still alive stay too, but for `of_living`: for
    callers who hold a lock, which says more than a process number, since that one may belong to another host.
    """
    removed = [path for path in _temporaries(folder, name) if of_living or not _is_alive(path)]
    for path in removed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return removed


def is_temporary(path: Path) -> bool:
    """Whether `path` has the name of an unfinished file or folder."""
    return _TEMPORARY.match(path.name) is not None


def sha256_file(path: Path, size: int | None = None) -> str:
    """The SHA-256 of a file's content, or of its first `size` bytes, in lowercase hex."""
    digest = hashlib.sha256()
    left = math.inf if size is None else size
    with path.open("rb") as source:
        while block := source.read(int(min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Make every file and name below `folder` durable."""
    for parent, _, names in os.walk(folder):
        for name in names:
            fsync_folder(Path(parent) / name)
        fsync_folder(Path(parent))


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Let an OSError that leaves the block name `path`: a full disk has no name, and `temporary` tells nobody much."""
    try:
        yield
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        if name.startswith(str(temporary)):
            error.filename = str(path) + name[len(str(temporary)) :]
        elif not name and error.errno in _WRITING:
            error.filename = str(path)
        raise


def _renameat2_exchange(first: Path, second: Path) -> bool:
    """Exchange atomically; False where the system can't."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    done = renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return done == 0


def _take_up(path: Path, temporary: Path, journal: str | None) -> None:
    """Make the folder `temporary`, of an earlier attempt at `path` that has a journal where there is one."""
    for leftover in _temporaries(path.parent, path.name):
        if _is_alive(leftover):
            continue
        if journal and not temporary.exists() and (leftover / journal).is_file():
            leftover.rename(temporary)
        elif leftover != temporary or not journal or not (temporary / journal).is_file():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    temporary.mkdir(exist_ok=True)


def _temporaries(folder: Path, name: str | None) -> list[Path]:
    # Names alone: a folder of units has many files, and this is asked for each unit.
    found = {entry: _TEMPORARY.match(entry) for entry in sorted(os.listdir(folder))}
    return [folder / entry for entry, match in found.items() if match is not None and name in (None, match["name"])]


def _is_alive(temporary: Path) -> bool:
    """Whether another process that writes to it may be running."""
    pid = int(temporary.name.split(".")[-2])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != os.getpid()
