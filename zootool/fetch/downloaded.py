"""Downloads on the disk: whole files, which are compared with what was published, and the unfinished `NAME.part`.

Where the bytes of a part came from stands in `NAME.part.json`.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from zootool.catalog import PublishedFile
from zootool.errors import IntegrityError
from zootool.files import fsync_folder, write_json_atomic

_BLOCK_BYTES = 1 << 20


def check_digest(chunks: Iterable[bytes], shown: str, *, md5: str | None = None, sha256: str | None = None) -> None:
    """Compare with the SHA-256, or where none is known with the MD5. Raises IntegrityError."""
    wanted = sha256 or md5
    if wanted is None:
        return
    kind = "sha256" if sha256 else "md5"
    digest = hashlib.new(kind, usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    if digest.hexdigest() != wanted:
        raise IntegrityError(
            f"{shown} has {kind} {digest.hexdigest()}, the published file has {wanted}",
            hint="the copy is damaged or another file: delete it and get it again",
        )


def check_file(path: Path, published: PublishedFile) -> None:
    """Compare a file on disk with what its publisher states. Raises IntegrityError."""
    size = path.stat().st_size
    if published.size is not None and size != published.size:
        raise IntegrityError(
            f"{path} has {size} bytes, the published file has {published.size}", hint="delete it and get it again"
        )
    with path.open("rb") as source:
        check_digest(_blocks(source), str(path), md5=published.md5, sha256=published.sha256)


@dataclass(frozen=True)
class Origin:
    """Where the bytes of a file come from: the URL, what the server calls this version of the file, its full size."""

    url: str
    validator: str | None = None
    total: int | None = None


class PartFile:
    """An open `.part` file of `size` bytes; `hexdigest` is over all of them, those of an earlier run included."""

    def __init__(self, target: Path, sink: BinaryIO, algorithm: str) -> None:
        self.target = target
        self.origin = _read_origin(_origin_path(target))
        self._sink = sink
        self._algorithm = algorithm
        self._forget()
        sink.seek(0)
        for block in _blocks(sink):
            self._digest.update(block)
            self.size += len(block)

    def _forget(self) -> None:
        self.size = 0
        self._digest = hashlib.new(self._algorithm, usedforsecurity=False)

    @property
    def hexdigest(self) -> str:
        """The checksum so far, in lowercase hex."""
        return self._digest.hexdigest()

    def append(self, block: bytes) -> None:
        """Add bytes at the end."""
        self._sink.write(block)
        self._digest.update(block)
        self.size += len(block)

    def restart(self) -> None:
        """Forget what is there."""
        self._sink.seek(0)
        self._sink.truncate()
        self._forget()

    def note_origin(self, origin: Origin) -> None:
        """Remember durably where the bytes come from, so that another run can go on."""
        if origin != self.origin:
            write_json_atomic(_origin_path(self.target), asdict(origin))
            self.origin = origin

    def finish(self) -> None:
        """Give the file its final name, durably."""
        self._sink.flush()
        os.fsync(self._sink.fileno())
        _part_path(self.target).replace(self.target)
        _origin_path(self.target).unlink(missing_ok=True)
        fsync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the unfinished file."""
        _part_path(self.target).unlink(missing_ok=True)
        _origin_path(self.target).unlink(missing_ok=True)


@contextmanager
def open_part(target: Path, algorithm: str) -> Iterator[PartFile]:
    """The part of `target`, locked: another process that wants the same file waits until this one is through."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = _part_path(target)
    while True:
        with path.open("a+b") as sink:
            fcntl.flock(sink, fcntl.LOCK_EX)
            if _is_still(path, sink):
                yield PartFile(target, sink, algorithm)
                return


def _is_still(path: Path, sink: BinaryIO) -> bool:
    """Whether `path` is the file that was locked, rather than one that took its place while this process waited."""
    try:
        return os.path.samestat(path.stat(), os.fstat(sink.fileno()))
    except FileNotFoundError:
        return False


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: source.read(_BLOCK_BYTES), b"")


def _part_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _origin_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _read_origin(path: Path) -> Origin | None:
    try:
        return Origin(**json.loads(path.read_text(encoding="utf-8")))
    # A torn or foreign file only means that nothing is known of the bytes beside it.
    except (OSError, ValueError, TypeError):
        return None
