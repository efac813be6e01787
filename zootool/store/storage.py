"""Where a store's bytes are: a local folder that is mapped into memory, or a URL, with a cache of what was streamed.

The cache is one per user and bounded: chunks of shards by zoo id, file and range. A stored chunk and a shard's index
each end with their CRC32C. Only ranges that match theirs are kept, and each is checked again when it is taken from the
cache: a damaged disk or connection costs another download, nothing else.
"""

import os
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from zootool.data_dir import cache_dir
from zootool.errors import MissingError, UsageError, printable
from zootool.files import temporary_path
from zootool.store.layout import CRC_BYTES, crc32c
from zootool.store.storage_base import Bytes, LocalStorage, Storage

__all__ = ["Bytes", "CachedStorage", "LocalStorage", "Storage", "cached", "check_url", "open_storage", "prune"]

CACHE_BYTES = 4 << 30
"""How much all zoos together may take, per user."""

_PRUNED_SHARE = 0.9
_SCHEMES = r"https?|s3|gs|gcs|hf|az|abfs|ftp"
_NO_HOST = re.compile(rf"({_SCHEMES})://(/.*)?")
_LACKS_SLASH = re.compile(rf"({_SCHEMES}|file):(?!//)")
_LIKE = "write it like s3://bucket/x.zoo"


def check_url(path_or_url: str | Path) -> None:
    """Raise UsageError for an empty text, a URL without a server or bucket, and one that lacks a slash."""
    text = printable(path_or_url, 100)
    if isinstance(path_or_url, str) and not path_or_url.removeprefix("file://"):
        raise UsageError("an empty text is no place", hint="give a folder or a URL; . is the folder that you are in")
    if isinstance(path_or_url, str) and _NO_HOST.fullmatch(path_or_url):
        raise UsageError(f"{text} names no server or bucket", hint=_LIKE)
    if _LACKS_SLASH.match(str(path_or_url)) and not Path(path_or_url).exists():
        raise UsageError(f"{text} is neither a URL nor a folder", hint=_LIKE)


def open_storage(path_or_url: str | Path) -> Storage:
    """The storage behind a path or URL. Raises MissingError when there is no such folder."""
    check_url(path_or_url)
    if isinstance(path_or_url, str) and "://" in path_or_url and not path_or_url.startswith("file://"):
        from zootool.store.remote_storage import HttpStorage, RemoteStorage

        kind = HttpStorage if path_or_url.startswith(("http://", "https://")) else RemoteStorage
        return kind(path_or_url)
    folder = Path(str(path_or_url).removeprefix("file://"))
    if not folder.exists():
        raise MissingError(f"there is no zoo at {folder}", hint="make one with `zoo convert SRC DST.zoo`")
    return LocalStorage(folder)


def cached(storage: Storage, zoo_id: str) -> Storage:
    """The storage with a cache on this disk, where it is behind a network."""
    if isinstance(storage, LocalStorage) or storage.name.startswith("memory://"):
        return storage
    return CachedStorage(storage, zoo_id)


class CachedStorage(Storage):
    """`inner`, which holds the zoo `zoo_id`, with the chunks that were read before on this disk.

    Where the cache can't be written, everything is read as if there were none.
    """

    def __init__(self, inner: Storage, zoo_id: str, folder: Path | None = None, limit_bytes: int = CACHE_BYTES) -> None:
        self.name = inner.name
        self.inner = inner
        self._root = folder or cache_dir() / "chunks"
        self._folder = self._root / zoo_id[:32]
        self._limit = limit_bytes
        self._unpruned = limit_bytes  # so that the first write looks at what earlier processes left

    def read(self, path: str) -> bytes:
        return self.inner.read(path)

    def size(self, path: str) -> int | None:
        return self.inner.size(path)

    def open(self, path: str) -> Any:
        return self.inner.open(path)

    def pin(self, paths: Iterable[str]) -> None:
        self.inner.pin(paths)

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        if "/c/" not in path:
            return self.inner.fetch(path, ranges)
        places = [self._folder / sha256(f"{path} {a} {b}".encode()).hexdigest()[:32] for a, b in ranges]
        found = [_kept(place) for place in places]
        lacking = [i for i, content in enumerate(found) if content is None]
        fetched = self.inner.fetch(path, [ranges[i] for i in lacking]) if lacking else []
        for i, content in zip(lacking, fetched, strict=True):
            found[i] = content
            if _is_sound(content):
                self._keep(places[i], content)
        return [content for content in found if content is not None]

    def _keep(self, place: Path, content: Bytes) -> None:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            # Threads may keep the same chunk at once, so the name alone isn't enough.
            temporary = temporary_path(place.with_name(f"{place.name}.{id(content)}"))
            temporary.write_bytes(content.tobytes())
            temporary.replace(place)
            self._unpruned += len(content)
            if self._unpruned > self._limit // 16:
                prune(self._root, self._limit)
                self._unpruned = 0
        except OSError:
            return


def prune(root: Path, limit_bytes: int) -> None:
    """Remove the files that were used longest ago until 90 % of the limit are left, where there are more than it."""
    files = [(path, path.stat()) for path in root.glob("*/*")]
    total = sum(status.st_size for _, status in files)
    if total <= limit_bytes:
        return
    for path, status in sorted(files, key=lambda file: file[1].st_mtime_ns):
        path.unlink(missing_ok=True)
        total -= status.st_size
        if total <= _PRUNED_SHARE * limit_bytes:
            return


def _kept(place: Path) -> Bytes | None:
    try:
        content = np.frombuffer(place.read_bytes(), dtype=np.uint8)
        if _is_sound(content):
            os.utime(place)
            return content
    except OSError:
        pass
    return None


def _is_sound(content: Bytes) -> bool:
    return len(content) > CRC_BYTES and crc32c(content[:-CRC_BYTES]) == content[-CRC_BYTES:].tobytes()
