"""Where a zoo is published: a folder that can be written to, here or behind a URL."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from zootool.errors import IntegrityError, UsageError, printable
from zootool.files import is_temporary, sha256_file, write_atomic, write_bytes_atomic
from zootool.share.failures import locked
from zootool.store.storage import check_url

HUB = "hf://"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Found:
    """A file that is there already: its size in bytes, and its SHA-256 where the place's listing has it.

    `mark` is another whenever the file got other bytes, such as an ETag; None where the place has none.
    """

    size: int
    sha256: str | None = None
    mark: str | None = None


class Target(ABC):
    """A writable folder. A file appears under its name whole or not at all.

    Where `is_atomic`, nothing that was put or removed is seen before `commit`.
    """

    name: str
    is_atomic = False

    @property
    def public_url(self) -> str | None:
        """Where others find the zoo, None where the name says it on this machine alone."""
        return self.name

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Publish inside this block. Whether the place itself keeps other publishers out, or refuses the later one.

        Raises UsageError where another one is at work already.
        """
        yield self.is_atomic

    @abstractmethod
    def listing(self) -> dict[str, Found]:
        """Every file below the folder, by its path with forward slashes."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """A small file, None when it isn't there."""

    def digest(self, path: str, found: Found) -> str | None:
        """The SHA-256 of a file that is there, None where the place doesn't know and reading it is dear."""
        return found.sha256

    @abstractmethod
    def put(self, path: str, source: Path, sha256: str) -> str | None:
        """Upload a file, in the place of what has its name; returns its `Found.mark`.

        Raises IntegrityError, and leaves the place as it is, where the source's bytes don't have that digest.
        """

    @abstractmethod
    def put_bytes(self, path: str, content: bytes) -> None:
        """`put` of content that is in memory."""

    def create(self, path: str, content: bytes) -> bool:
        """`put_bytes`, but False where the file is there already and the place tells in the same moment."""
        self.put_bytes(path, content)
        return True

    @abstractmethod
    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; some may be gone already."""

    def commit(self, message: str) -> None:
        """Let everything appear at once, where `is_atomic`."""
        assert not self.is_atomic


class LocalTarget(Target):
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.folder = folder

    @property
    def public_url(self) -> str | None:
        return None

    @contextmanager
    def held(self) -> Iterator[bool]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, f"another process is publishing to {printable(self.name)}") as is_alone:
            try:
                if is_alone:
                    self._remove_leftovers()
                yield is_alone
            finally:
                # Where nothing came of it, no trace stays.
                with suppress(OSError):
                    self.folder.rmdir()

    def listing(self) -> dict[str, Found]:
        found = {}
        for path in self._files():
            # Another publisher may have removed it since.
            with suppress(FileNotFoundError):
                found[path.relative_to(self.folder).as_posix()] = Found(path.stat().st_size)
        return found

    def read(self, path: str) -> bytes | None:
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None

    def digest(self, path: str, found: Found) -> str | None:
        return sha256_file(self.folder / path)

    def put(self, path: str, source: Path, sha256: str) -> str | None:
        def copy(sink: BinaryIO) -> None:
            digest = hashlib.sha256()
            with source.open("rb") as opened:
                while block := opened.read(_BLOCK_BYTES):
                    digest.update(block)
                    sink.write(block)
            check_sent(path, digest.hexdigest(), sha256)

        self._make_room_for(path)
        write_atomic(self.folder / path, copy)

    def put_bytes(self, path: str, content: bytes) -> None:
        self._make_room_for(path)
        write_bytes_atomic(self.folder / path, content)

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            (self.folder / path).unlink(missing_ok=True)

    def _make_room_for(self, path: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)

    def _files(self) -> Iterator[Path]:
        for parent, _, names in os.walk(self.folder):
            yield from (Path(parent) / name for name in names)

    def _remove_leftovers(self) -> None:
        """What publishers that were killed had begun."""
        for path in self._files():
            if is_temporary(path):
                path.unlink(missing_ok=True)


def check_sent(path: str, sha256: str, wanted: str) -> None:
    """Raise IntegrityError where a file that goes up isn't the one that the manifest lists."""
    if sha256 != wanted:
        raise IntegrityError(
            f"{path} isn't what the manifest lists, or changed while it was read", hint="run `zoo verify` on the zoo"
        )


def open_target(url: str) -> Target:
    """The target that `url` names: a path, `file://`, `hf://datasets/owner/name`, or any fsspec URL.

    Raises UsageError for what can't be written to, MissingError where a package is missing.
    """
    check_url(url)
    if url.startswith(("http://", "https://")):
        raise UsageError(
            f"{printable(url)} can be read but not written to",
            hint="publish to the folder that the web server serves, or to s3://, gs:// or hf://datasets/OWNER/NAME",
        )
    if url.startswith(HUB):
        from zootool.share.hub import HubTarget

        return HubTarget(url)
    if "://" not in url or url.startswith("file://"):
        return LocalTarget(Path(url.removeprefix("file://")))
    from zootool.share.object_store import ObjectStoreTarget

    return ObjectStoreTarget(url)
