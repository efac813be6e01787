"""Web servers on this machine, with ranges, that misbehave as they are told."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

Fault = Callable[[bytes], bytes]


@dataclass
class ServedFolder:
    """A folder, and how its server behaves.

    `statuses` are given by the first requests for a path; `cuts` are the body bytes after which the next answers for a
    path break off, `slips` change the bytes of one answer each; `changes` alter a path's whole content, every time.
    `sent` counts body bytes by path.
    """

    folder: Path
    statuses: dict[str, list[int]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    slips: dict[str, list[Fault]] = field(default_factory=dict)
    changes: dict[str, Fault] = field(default_factory=dict)
    knows_ranges: bool = True
    drips: str = ""
    sent: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: "_Handler") -> None:
        """Answer one request."""
        path = unquote(handler.path).lstrip("/")
        self.asked.append(path)
        file = self.folder / path
        if self.statuses.get(path) or not file.is_file():
            handler.head(self.statuses[path].pop(0) if self.statuses.get(path) else 404, {"Content-Length": "0"})
            return
        change = self.changes.get(path)
        changed = change(file.read_bytes()) if change else None
        size = file.stat().st_size if changed is None else len(changed)
        wanted = handler.range() if self.knows_ranges else None
        start, stop = (wanted[0], min(wanted[1] or size, size)) if wanted else (0, size)
        part = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if wanted else {}
        handler.head(206 if wanted else 200, part | {"Content-Length": str(stop - start)})
        if handler.command == "GET":
            content = _part(file, start, stop) if changed is None else changed[start:stop]
            if self.slips.get(path):
                content = self.slips[path].pop(0)(content)
            if self.cuts.get(path):
                content = content[: self.cuts[path].pop(0)]
            self.sent[path] = self.sent.get(path, 0) + len(content)
            handler.wfile.write(content)


@dataclass
class ServedFile:
    """What is at /file and how its server behaves; `asked` are the ranges of the requests.

    `drops` are the numbers of body bytes after which the connection is cut, one per answer; `failures` the status
    codes of the first answers.
    """

    content: bytes
    etag: str | None = '"one"'
    last_modified: str | None = None
    knows_ranges: bool = True
    minds_if_range: bool = True
    sends_length: bool = True
    drops: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    redirect: str | None = None
    drips: str = ""
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: "_Handler") -> None:
        """Answer one request."""
        self.asked.append(handler.headers.get("Range"))
        if self.failures:
            handler.head(self.failures.pop(0), {"Content-Length": "0"})
        elif self.redirect is not None and handler.path == "/file":
            handler.head(302, {"Location": self.redirect, "Content-Length": "0"})
        elif (start := self._start(handler)) > len(self.content):
            handler.head(416, {"Content-Range": f"bytes */{len(self.content)}", "Content-Length": "0"})
        else:
            headers = {"ETag": self.etag, "Last-Modified": self.last_modified}
            if self.sends_length:
                headers["Content-Length"] = str(len(self.content) - start)
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
            handler.head(206 if start else 200, headers)
            body = self.content[start:]
            handler.wfile.write(body[: self.drops.pop(0)] if self.drops else body)

    def _start(self, handler: "_Handler") -> int:
        wanted, condition = handler.range(), handler.headers.get("If-Range")
        is_other = condition is not None and condition not in (self.etag, self.last_modified)
        if wanted is None or not self.knows_ranges or (is_other and self.minds_if_range):
            return 0
        return wanted[0]


Served = TypeVar("Served", ServedFolder, ServedFile)


class _Drip:
    """Sends byte by byte, until nobody waits any more."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def write(self, content: bytes) -> None:
        with suppress(OSError):
            for byte in content:
                self._sink.write(bytes([byte]))
                time.sleep(0.02)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


class _Handler(BaseHTTPRequestHandler):
    """Answers as it is told; where `served.drips` is "head" or "body", every byte from there on takes its time."""

    served: ServedFolder | ServedFile

    def do_HEAD(self) -> None:
        self.served.answer(self)

    def do_GET(self) -> None:
        self.served.answer(self)

    def range(self) -> tuple[int, int | None] | None:
        """First byte and end of what is asked for, None for all of it."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        return (int(found[1]), int(found[2]) + 1 if found[2] else None) if found else None

    def head(self, status: int, headers: dict[str, str] | dict[str, str | None]) -> None:
        if self.served.drips == "head":
            self.wfile = _Drip(self.wfile)  # type: ignore[bad-assignment]
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.served.drips == "body":
            self.wfile = _Drip(self.wfile)  # type: ignore[bad-assignment]

    def log_message(self, format: str, *args: object) -> None:
        pass


def _part(file: Path, start: int, stop: int) -> bytes:
    with file.open("rb") as source:
        source.seek(start)
        return source.read(stop - start)


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Serve until the block ends; `served.url` is the address of the folder, or of the file."""
    handler = type("Handler", (_Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}" + ("/file" if isinstance(served, ServedFile) else "")
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
