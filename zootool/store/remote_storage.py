"""A store behind a URL: any that fsspec knows, and http and https by requests of our own.

fsspec's file system for http follows redirects from https to http, waits for slow servers without end, believes a
server that answers with other bytes than it was asked for, and needs aiohttp, which nothing else here does.
"""

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import fsspec
import numpy as np
from fsspec.spec import AbstractBufferedFile

from zootool.errors import IntegrityError, MissingError, printable
from zootool.fetch.web import open_url
from zootool.store.patience import Result, patiently
from zootool.store.storage_base import MAX_WHOLE_BYTES, Bytes, Storage

NEEDED = "read a folder, http(s)://, s3:// (pip install 'zootool[s3]'), hf:// (pip install 'zootool[hub]')"

_THREADS = 4
_BUFFER_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_GONE = (401, 403, 404, 410)
"""Statuses of what isn't there; object stores say 403 where listing isn't allowed."""


class RemoteStorage(Storage):
    """A folder behind an fsspec URL, such as `s3://` or `memory://`. What may pass is tried again."""

    def __init__(self, url: str) -> None:
        self.name = url
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise MissingError(f"can't read {printable(url)}: {printable(error)}", hint=NEEDED) from error
        self._root = root.rstrip("/")

    def read(self, path: str) -> bytes:
        return self._patiently(self._whole, path)

    def size(self, path: str) -> int | None:
        try:
            return self._patiently(self._size, path)
        except FileNotFoundError:
            return None

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        parts = self._patiently(self._ranges, path, *ranges)
        return [np.frombuffer(part, dtype=np.uint8) for part in parts]

    def open(self, path: str) -> Any:
        return self._fs.open(self._full(path), "rb")

    def pin(self, paths: Iterable[str]) -> None:
        """Nothing: what is published under a URL stays what it is."""

    def _patiently(self, call: Callable[..., Result], path: str, *ranges: tuple[int, int]) -> Result:
        return patiently(lambda: call(path, *ranges), f"reading {self.name.rstrip('/')}/{path}")

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _whole(self, path: str) -> bytes:
        return self._fs.cat_file(self._full(path))

    def _size(self, path: str) -> int:
        found = self._fs.info(self._full(path))
        if found["type"] == "directory":
            raise FileNotFoundError(f"{path} is a folder")
        return int(found["size"])

    def _ranges(self, path: str, *ranges: tuple[int, int]) -> list[bytes]:
        starts, stops = zip(*ranges, strict=True)
        return self._fs.cat_ranges([self._full(path)] * len(ranges), list(starts), list(stops), on_error="raise")


class HttpStorage(RemoteStorage):
    """A folder on any plain file server. What breaks off, and 429 and 5xx, is tried again."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._root = url.rstrip("/")

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        # Each range by itself is tried again: of many, one or another breaks off.
        if len(ranges) == 1:
            return [self._patiently(self._range, path, ranges[0])]
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(lambda span: self._patiently(self._range, path, span), ranges))

    def open(self, path: str) -> Any:
        size = self.size(path)
        if size is None:
            raise FileNotFoundError(self._full(path))
        return _RangeFile(self, path, "rb", _BUFFER_BYTES, size=size)

    def _whole(self, path: str) -> bytes:
        with self._request("GET", path) as response:
            length = response.headers.get("Content-Length", "")
            num_bytes = int(length) if length.isdecimal() else MAX_WHOLE_BYTES + 1
            if num_bytes > MAX_WHOLE_BYTES and length:
                raise IntegrityError(f"{self._full(path)} claims {length} bytes", hint="fetch another copy")
            return _exactly(response, num_bytes) if length else response.read(num_bytes)

    def _size(self, path: str) -> int:
        with self._request("HEAD", path) as response:
            length = response.headers.get("Content-Length")
        if length is not None and length.isdecimal():
            return int(length)
        with self._request("GET", path, "bytes=0-0") as response:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            return int(found[3]) if found else len(response.read(MAX_WHOLE_BYTES))

    def _range(self, path: str, span: tuple[int, int]) -> Bytes:
        start, stop = span
        if start >= stop:
            return np.empty(0, dtype=np.uint8)
        with self._request("GET", path, f"bytes={start}-{stop - 1}") as response:
            if response.status == http.client.PARTIAL_CONTENT:
                found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
                if found is None or (int(found[1]), int(found[2])) != (start, stop - 1):
                    raise OSError(f"asked for bytes {start}-{stop - 1}, got {response.headers.get('Content-Range')}")
                content = _exactly(response, stop - start)
            else:
                # A server without ranges sends the whole file.
                content = _exactly(response, stop)[start:]
        return np.frombuffer(content, dtype=np.uint8)

    def _request(self, method: str, path: str, wanted: str | None = None) -> Any:
        headers = {"User-Agent": "zootool", "Accept-Encoding": "identity"} | ({"Range": wanted} if wanted else {})
        request = urllib.request.Request(f"{self._root}/{quote(path)}", headers=headers, method=method)
        try:
            return open_url(request)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _GONE:
                raise FileNotFoundError(f"HTTP {error.code}: {self._full(path)}") from error
            raise OSError(f"HTTP {error.code} {error.reason}") from error


class _RangeFile(AbstractBufferedFile):
    """A file object for libraries that want one, over ranges of a file on a server."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.fetch(self.path, [(start, end)])[0].tobytes()


def _exactly(response: Any, num_bytes: int) -> bytes:
    """The next bytes of an answer, never more than these: a server may send without end."""
    content = response.read(num_bytes)
    if len(content) != num_bytes:
        raise OSError(f"{len(content)} of {num_bytes} bytes came")
    return content
