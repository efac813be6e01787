"""Opening a URL from some byte onwards, for http, https and file."""

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from zootool.errors import MissingError, printable
from zootool.fetch.web import Pace, open_url

_USER_AGENT = "zootool"
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE_NOT_SATISFIABLE = 416
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class SourceError(Exception):
    """A source didn't deliver. `is_passing` says whether trying again may help."""

    def __init__(self, reason: str, *, is_passing: bool) -> None:
        super().__init__(reason)
        self.is_passing = is_passing


@dataclass(frozen=True)
class Resume:
    """What is already there of a file: its first `offset` bytes, of a version and size that were noted then."""

    offset: int = 0
    validator: str | None = None
    total: int | None = None


@dataclass(frozen=True)
class Answer:
    """An open source: `stream` holds the file from byte `start`; `total` is the whole file's size where it is known."""

    stream: IO[bytes]
    start: int
    total: int | None
    validator: str | None

    def read(self, num_bytes: int) -> bytes:
        """The next bytes, none at the end. Raises SourceError when the connection breaks."""
        try:
            return self.stream.read(num_bytes)
        except MissingError as error:
            raise SourceError(str(error), is_passing=False) from error
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(_reason(error), is_passing=True) from error


@contextmanager
def open_source(url: str, resume: Resume, wanted: Pace | None) -> Iterator[Answer]:
    """`url` from `resume.offset` on, or from the start where that isn't offered or the file isn't the same any more.

    Raises SourceError.
    """
    answer = _open_file(url, resume) if url.startswith("file://") else _open_http(url, resume, wanted)
    with answer.stream:
        yield answer


def _open_file(url: str, resume: Resume) -> Answer:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(f"a file URL with the host {parts.netloc!r}", is_passing=False)
    path = Path(urllib.request.url2pathname(parts.path))
    try:
        status = path.stat()
        stream = path.open("rb")
    except OSError as error:
        raise SourceError(_reason(error), is_passing=False) from error
    validator = f"{status.st_mtime_ns}-{status.st_size}"
    start = resume.offset if resume.validator in (None, validator) and resume.offset <= status.st_size else 0
    stream.seek(start)
    return Answer(stream, start, status.st_size, validator)


def _open_http(url: str, resume: Resume, wanted: Pace | None) -> Answer:
    if resume.offset:
        answer = _request(url, resume, wanted)
        if answer is not None:
            return answer
    answer = _request(url, Resume(), wanted)
    if answer is None:
        raise SourceError("the server answers a plain request with a part of the file", is_passing=False)
    return answer


def _request(url: str, resume: Resume, wanted: Pace | None) -> Answer | None:
    """The server's answer, or None where it is not the continuation that was asked for."""
    headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
    if resume.offset:
        headers["Range"] = f"bytes={resume.offset}-"
        if resume.validator is not None:
            headers["If-Range"] = resume.validator
    try:
        request = urllib.request.Request(url, headers=headers)
        response = open_url(request, wanted)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE and resume.offset:
            return None
        raise SourceError(f"HTTP {error.code} {error.reason}", is_passing=error.code in _PASSING_STATUS) from error
    except MissingError as error:
        raise SourceError(str(error), is_passing=False) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceError(_reason(error), is_passing=not isinstance(error, ValueError)) from error
    answer = _answer(response)
    if response.status == http.client.PARTIAL_CONTENT and not _continues(answer, resume):
        response.close()
        return None
    return answer


def _answer(response: Any) -> Answer:
    validator = _validator(response.headers)
    if response.status == http.client.PARTIAL_CONTENT:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        start, total = (int(found[1]), found[2]) if found else (-1, "*")
        return Answer(response, start, None if total == "*" else int(total), validator)
    length = response.headers.get("Content-Length", "")
    return Answer(response, 0, int(length) if length.isdecimal() else None, validator)


def _continues(answer: Answer, resume: Resume) -> bool:
    # Some servers honour Range and ignore If-Range, hence the comparison with what was noted.
    return (
        answer.start == resume.offset > 0
        and resume.validator in (None, answer.validator)
        and (resume.total is None or answer.total in (None, resume.total))
    )


def _validator(headers: Message) -> str | None:
    etag = headers.get("ETag")
    # A weak ETag promises an equal meaning, not equal bytes, and If-Range doesn't take one.
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", None) or error
    return printable(str(cause) or type(cause).__name__)
