"""Where a zoo is published: a folder that can be written to, here or behind any URL that fsspec writes to."""

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from zootool.errors import IntegrityError, MissingError, UsageError, printable
from zootool.files import is_temporary, sha256_file, write_atomic, write_bytes_atomic
from zootool.share.failures import locked
from zootool.store.patience import Result, patiently

_BLOCK_BYTES = 1 << 20
_MARKS = ("ETag", "etag", "md5Hash")
"""What object stores call that which changes with a file's bytes; each is the same in listings and single answers."""


@dataclass(frozen=True)
class Found:
    """A file that is there: its size in bytes, and its SHA-256 where the place's listing has it, or it was put there.

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
    public_url: str | None = None
    """Where others find the zoo, None where the name says it on this machine alone."""

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
    def put(self, path: str, source: Path | bytes, sha256: str) -> str | None:
        """Upload a file or content, in the place of what has its name; returns its `Found.mark`.

        Raises IntegrityError, and leaves the place as it is, where the source's bytes don't have that digest.
        """

    def put_bytes(self, path: str, content: bytes) -> None:
        """`put` of content that no digest is known of."""
        self.put(path, content, hashlib.sha256(content).hexdigest())

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

    @contextmanager
    def held(self) -> Iterator[bool]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, f"another process is publishing to {printable(self.name)}") as is_alone:
            try:
                if is_alone:
                    # What publishers that were killed had begun.
                    for path in filter(is_temporary, self._files()):
                        path.unlink(missing_ok=True)
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

    def put(self, path: str, source: Path | bytes, sha256: str) -> str | None:
        def copy(sink: BinaryIO) -> None:
            digest = hashlib.sha256()
            with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as opened:
                while block := opened.read(_BLOCK_BYTES):
                    digest.update(block)
                    sink.write(block)
            check_sent(path, digest.hexdigest(), sha256)

        write_atomic(self.folder / path, copy)

    def put_bytes(self, path: str, content: bytes) -> None:
        write_bytes_atomic(self.folder / path, content)

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            (self.folder / path).unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        for parent, _, names in os.walk(self.folder):
            yield from (Path(parent) / name for name in names)


class ObjectStoreTarget(Target):
    """A folder behind a URL. Object stores show an upload when it is complete."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.name = self.public_url = url
        try:
            # What fsspec remembers of listings may be older than another process's upload.
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError, TypeError, OSError) as error:
            raise MissingError(
                f"can't write to {printable(url)}: {printable(error)}",
                hint="install what the URL's protocol needs, or publish to a folder, s3://, gs:// or hf://",
            ) from error
        self._root = root.rstrip("/")

    def listing(self) -> dict[str, Found]:
        self._fs.invalidate_cache()
        try:
            found = patiently(lambda: self._fs.find(self._root, detail=True), f"listing {self.name}")
        except FileNotFoundError:
            found = {}
        return {path[len(self._root) :].lstrip("/"): _found_of(info) for path, info in found.items()}

    def read(self, path: str) -> bytes | None:
        try:
            return patiently(lambda: self._fs.cat_file(self._place(path)), f"reading {self.name}/{path}")
        except FileNotFoundError:
            return None

    def put(self, path: str, source: Path | bytes, sha256: str) -> str | None:
        if isinstance(source, bytes):
            check_sent(path, hashlib.sha256(source).hexdigest(), sha256)
            self.put_bytes(path, source)
        else:
            before = source.stat()
            check_sent(path, sha256_file(source), sha256)
            self._upload(path, lambda: self._fs.put_file(str(source), self._place(path)))
            after = source.stat()
            # The client reads the file once more: it has to be the one that was digested.
            is_same = (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
            check_sent(path, sha256 if is_same else "", sha256)
        return _found_of(patiently(lambda: self._fs.info(self._place(path)), f"reading {self.name}/{path}")).mark

    def put_bytes(self, path: str, content: bytes) -> None:
        self._upload(path, lambda: self._fs.pipe_file(self._place(path), content))

    def create(self, path: str, content: bytes) -> bool:
        try:
            self._fs.pipe_file(self._place(path), content, mode="create")
        except FileExistsError:
            return False
        # Clients and servers that don't know the condition say so in ways of their own.
        except Exception:
            if self.read(path) is not None:
                return False
            self.put_bytes(path, content)
        return True

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                patiently(lambda path=path: self._fs.rm_file(self._place(path)), f"removing {self.name}/{path}")
            except (FileNotFoundError, KeyError):
                continue

    def _upload(self, path: str, call: Callable[[], Result]) -> Result:
        try:
            return patiently(call, f"uploading {self.name}/{path}")
        except NotImplementedError as error:
            raise UsageError(
                f"{printable(self.name)} can't be written to", hint="publish to a folder, s3://, gs:// or hf://"
            ) from error

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}"


def check_sent(path: str, sha256: str, wanted: str) -> None:
    """Raise IntegrityError where a file that goes up isn't the one that the manifest lists."""
    if sha256 != wanted:
        raise IntegrityError(
            f"{path} isn't what the manifest lists, or changed while it was read", hint="run `zoo verify` on the zoo"
        )


def _found_of(info: dict[str, Any]) -> Found:
    """What a client says about a file."""
    mark = next((str(info[name]).strip('"') for name in _MARKS if info.get(name)), None)
    return Found(int(info["size"]), mark=mark)
