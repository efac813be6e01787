"""A store behind http or https: ranges of bytes from any plain file server, by the standard library alone."""

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import numpy as np

from zootool.errors import IntegrityError
from zootool.fetch.web import open_url
from zootool.store.patience import Patience, patiently
from zootool.store.range_file import range_file
from zootool.store.storage_base import Bytes, Storage

_THREADS = 4
_MAX_WHOLE_BYTES = 1 << 31
"""Of a file that is read at once, such as nets.parquet."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_GONE = (401, 403, 404, 410)
"""Statuses of what isn't there; object stores say 403 where listing isn't allowed."""


class HttpStorage(Storage):
    """A folder on a web server, read-only. What breaks off, and 429 and 5xx, is tried again."""

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self.name = url
        self._root = url.rstrip("/")
        self._patience = patience or Patience()

    def read(self, path: str) -> bytes:
        return self._patiently(path, lambda: self._whole(path))

    def size(self, path: str) -> int | None:
        try:
            return self._patiently(path, lambda: self._head(path))
        except FileNotFoundError:
            return None

    def fetch(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Bytes]:
        def one(span: tuple[int, int]) -> Bytes:
            return self._patiently(path, lambda: self._range(path, *span))

        if len(ranges) == 1:
            return [one(ranges[0])]
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(one, ranges))

    def pin(self, paths: Iterable[str]) -> None:
        """Nothing: what is published under a URL stays what it is."""

    def open(self, path: str) -> Any:
        size = self.size(path)
        if size is None:
            raise FileNotFoundError(f"{self._root}/{path}")
        return range_file(self, path, size)

    def _patiently(self, path: str, call: Any) -> Any:
        return patiently(call, f"reading {self._root}/{path}", self._patience)

    def _whole(self, path: str) -> bytes:
        with self._request("GET", path) as response:
            length = response.headers.get("Content-Length", "")
            num_bytes = int(length) if length.isdecimal() else _MAX_WHOLE_BYTES + 1
            if num_bytes > _MAX_WHOLE_BYTES and length:
                raise IntegrityError(f"{self._root}/{path} claims {length} bytes", hint="fetch another copy")
            return _exactly(response, num_bytes) if length else response.read(num_bytes)

    def _head(self, path: str) -> int:
        with self._request("HEAD", path) as response:
            length = response.headers.get("Content-Length")
        if length is not None and length.isdecimal():
            return int(length)
        with self._request("GET", path, "bytes=0-0") as response:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            return int(found[3]) if found else len(response.read(_MAX_WHOLE_BYTES))

    def _range(self, path: str, start: int, stop: int) -> Bytes:
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
                raise FileNotFoundError(f"HTTP {error.code}: {self._root}/{path}") from error
            raise OSError(f"HTTP {error.code} {error.reason}") from error


def _exactly(response: Any, num_bytes: int) -> bytes:
    """The next bytes of an answer, never more than these: a server may send without end."""
    content = response.read(num_bytes)
    if len(content) != num_bytes:
        raise OSError(f"{len(content)} of {num_bytes} bytes came")
    return content
