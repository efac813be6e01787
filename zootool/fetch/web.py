"""Opening a URL from some byte onwards, for http, https and file: redirects stay within encryption, slow servers go.

By the standard library, which finds proxies in the environment; urllib3 and requests would still need what is here:
the pace of heads and bodies, and a continuation that is compared with what was noted of the file.
"""

import http.client
import io
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from zootool.errors import MissingError, UsageError, printable
from zootool.fetch.downloaded import Origin

TIMEOUT_VARIABLE = "ZOO_TIMEOUT"
RATE_VARIABLE = "ZOO_MIN_RATE"

_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class SourceError(Exception):
    """A source didn't deliver. `is_passing` says whether trying again may help."""

    def __init__(self, reason: str, *, is_passing: bool) -> None:
        super().__init__(reason)
        self.is_passing = is_passing


@dataclass(frozen=True)
class Answer:
    """An open source: `stream` holds the file from byte `start`."""

    stream: IO[bytes]
    start: int
    origin: Origin

    def read(self, num_bytes: int) -> bytes:
        """The next bytes, none at the end. Raises SourceError when the connection breaks."""
        try:
            return self.stream.read(num_bytes)
        except (MissingError, OSError, http.client.HTTPException) as error:
            raise _source_error(error) from error


@contextmanager
def open_source(origin: Origin, offset: int) -> Iterator[Answer]:
    """The file from byte `offset` on, or from the start where that isn't offered or it isn't the same any more.

    `origin` is the URL and what is known of the bytes that are there. Raises SourceError.
    """
    if origin.url.startswith("file://"):
        answer = _open_file(origin, offset)
    else:
        answer = (_request(origin, offset) if offset else None) or _request(Origin(origin.url), 0)
    if answer is None:
        raise SourceError("the server answers a plain request with a part of the file", is_passing=False)
    with answer.stream:
        yield answer


def open_url(request: urllib.request.Request) -> Any:
    """The server's answer, whose body `read` gives.

    Fewer than $ZOO_MIN_RATE bytes a second over $ZOO_TIMEOUT seconds of waiting are too few; without any byte for that
    long, the connection counts as broken. Raises what urllib raises, and MissingError for a redirect that isn't
    followed and, here or in `read`, for a server that is too slow.
    """
    seconds, min_rate = _number(TIMEOUT_VARIABLE, 30.0, 0.01), _number(RATE_VARIABLE, 1000.0, 0.0)
    return urllib.request.build_opener(_Redirects, _Paced((seconds, min_rate))).open(request, timeout=seconds)


def _open_file(known: Origin, offset: int) -> Answer:
    parts = urlsplit(known.url)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(f"a file URL with the host {parts.netloc!r}", is_passing=False)
    path = Path(urllib.request.url2pathname(parts.path))
    try:
        status = path.stat()
        stream = path.open("rb")
    except OSError as error:
        raise SourceError(_reason(error), is_passing=False) from error
    validator = f"{status.st_mtime_ns}-{status.st_size}"
    start = offset if known.validator in (None, validator) and offset <= status.st_size else 0
    stream.seek(start)
    return Answer(stream, start, Origin(known.url, validator, status.st_size))


def _request(known: Origin, offset: int) -> Answer | None:
    """The server's answer, or None where it is not the continuation that was asked for."""
    headers = {"User-Agent": "zootool", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if known.validator is not None:
            headers["If-Range"] = known.validator
    try:
        response = open_url(urllib.request.Request(known.url, headers=headers))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            return None
        raise SourceError(f"HTTP {error.code} {error.reason}", is_passing=error.code in _PASSING_STATUS) from error
    except (MissingError, OSError, http.client.HTTPException, ValueError) as error:
        raise _source_error(error) from error
    # A weak ETag promises an equal meaning, not equal bytes, and If-Range doesn't take one.
    etag = response.headers.get("ETag")
    validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    if response.status != http.client.PARTIAL_CONTENT:
        length = response.headers.get("Content-Length", "")
        return Answer(response, 0, Origin(known.url, validator, int(length) if length.isdecimal() else None))
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    total = int(found[2]) if found and found[2] != "*" else None
    # Some servers honour Range and ignore If-Range, hence the comparison with what was noted.
    if (
        found
        and int(found[1]) == offset > 0
        and known.validator in (None, validator)
        and (known.total is None or total in (None, known.total))
    ):
        return Answer(response, offset, Origin(known.url, validator, total))
    response.close()
    return None


def _source_error(error: Exception) -> SourceError:
    """A connection that breaks may come back; what a server is too slow for, or an address no URL, stays so."""
    if isinstance(error, MissingError):
        return SourceError(str(error), is_passing=False)
    return SourceError(_reason(error), is_passing=not isinstance(error, ValueError))


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return printable(str(cause) or type(cause).__name__)


class _PacedStream(io.RawIOBase):
    """A connection's bytes, heads and bodies, while they come fast enough. Only time spent waiting counts."""

    def __init__(self, inner: io.RawIOBase, seconds: float, min_rate: float) -> None:
        self._inner, self._seconds, self._min_rate = inner, seconds, min_rate
        self._waited, self._came = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        started = time.monotonic()
        count = self._inner.readinto(buffer)
        self._waited += time.monotonic() - started
        self._came += count or 0
        if count and self._waited >= self._seconds:
            if self._came < self._min_rate * self._waited:
                raise MissingError(
                    f"the server sent {self._came:,} bytes in {self._waited:.3g} s, "
                    f"fewer than {self._min_rate:g} bytes/s",
                    hint=f"try later or another address, or take a slow one with {RATE_VARIABLE}=0; "
                    "what has come is kept where a command can go on",
                )
            self._waited, self._came = 0.0, 0
        return count

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, pace: tuple[float, float], **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_PacedStream(self.fp.detach(), *pace))


class _Paced(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens connections whose answers are read at a pace."""

    def __init__(self, pace: tuple[float, float]) -> None:
        super().__init__()
        self._pace = pace

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(self._connection, http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(self._connection, http.client.HTTPSConnection), req)

    def _connection(self, kind: Any, host: str, **options: Any) -> http.client.HTTPConnection:
        connection = kind(host, **options)
        connection.response_class = partial(_Response, pace=self._pace)
        return connection


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within http and https, and never from https down to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            fp.close()
            raise MissingError(f"a redirect to {printable(newurl, 100)} is not followed", hint="use another address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _number(name: str, default: float, least: float) -> float:
    text = os.environ.get(name, "").strip()
    try:
        found = float(text) if text else default
    except ValueError:
        found = -1.0
    if not least <= found < float("inf"):
        raise UsageError(f"${name} is {printable(text, 40)!r}", hint=f"give a number, such as {name}={default:g}")
    return found
