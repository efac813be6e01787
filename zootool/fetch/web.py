"""Requests to web servers: redirects stay within http and https, and a server that is too slow is given up."""

import http.client
import io
import os
import time
import urllib.request
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.parse import urlsplit

from zootool.errors import MissingError, UsageError, printable

TIMEOUT_VARIABLE = "ZOO_TIMEOUT"
RATE_VARIABLE = "ZOO_MIN_RATE"


@dataclass(frozen=True)
class Pace:
    """What is asked of a server: fewer than `min_rate` bytes a second over `seconds` of waiting are too few.

    Without any byte for that long, the connection counts as broken. $ZOO_TIMEOUT and $ZOO_MIN_RATE say otherwise.
    """

    seconds: float = 30.0
    min_rate: float = 1000.0


def pace() -> Pace:
    """What the environment asks of servers. Raises UsageError for what is no number."""
    return Pace(_number(TIMEOUT_VARIABLE, Pace.seconds, 0.01), _number(RATE_VARIABLE, Pace.min_rate, 0.0))


def open_url(request: urllib.request.Request, wanted: Pace | None = None) -> Any:
    """The server's answer, whose body `read` gives.

    Raises what urllib raises, and MissingError for a redirect that isn't followed and, here or in `read`, for a server
    that is too slow.
    """
    wanted = wanted or pace()
    opener = urllib.request.build_opener(_Redirects, _Http(wanted), _Https(wanted))
    return opener.open(request, timeout=wanted.seconds)


class _PacedStream(io.RawIOBase):
    """A connection's bytes, heads and bodies, while they come fast enough. Only time spent waiting counts."""

    def __init__(self, inner: io.RawIOBase, wanted: Pace) -> None:
        self._inner, self._wanted = inner, wanted
        self._waited, self._came = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        started = time.monotonic()
        count = self._inner.readinto(buffer)
        self._waited += time.monotonic() - started
        self._came += count or 0
        if count and self._waited >= self._wanted.seconds:
            if self._came < self._wanted.min_rate * self._waited:
                raise MissingError(
                    f"the server sent {self._came:,} bytes in {self._waited:.3g} s, "
                    f"fewer than {self._wanted.min_rate:g} bytes/s",
                    hint=f"try later or another address, or take a slow one with {RATE_VARIABLE}=0; "
                    "what has come is kept where a command can go on",
                )
            self._waited, self._came = 0.0, 0
        return count

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, wanted: Pace, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_PacedStream(self.fp.detach(), wanted))


class _Http(urllib.request.HTTPHandler):
    def __init__(self, wanted: Pace) -> None:
        super().__init__()
        self._wanted = wanted

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(_connection, http.client.HTTPConnection, self._wanted), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, wanted: Pace) -> None:
        super().__init__()
        self._wanted = wanted

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(_connection, http.client.HTTPSConnection, self._wanted), req)


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


def _connection(kind: Any, wanted: Pace, host: str, **options: Any) -> http.client.HTTPConnection:
    connection = kind(host, **options)
    connection.response_class = partial(_Response, wanted=wanted)
    return connection


def _number(name: str, default: float, least: float) -> float:
    text = os.environ.get(name, "").strip()
    try:
        found = float(text) if text else default
    except ValueError:
        found = -1.0
    if not least <= found < float("inf"):
        raise UsageError(f"${name} is {printable(text, 40)!r}", hint=f"give a number, such as {name}={default:g}")
    return found
