"""An HTTP server on this computer that serves bytes with ranges, and misbehaves as it is told."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What the server has at /file, how it behaves, and what it was asked.

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
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def do_GET(self) -> None:
        served = self.served
        served.asked.append(self.headers.get("Range"))
        if served.failures:
            self._answer(served.failures.pop(0), {"Content-Length": "0"})
            return
        if served.redirect is not None and self.path == "/file":
            self._answer(302, {"Location": served.redirect, "Content-Length": "0"})
            return
        start = self._start()
        if start > len(served.content):
            self._answer(416, {"Content-Range": f"bytes */{len(served.content)}", "Content-Length": "0"})
            return
        headers = {"ETag": served.etag, "Last-Modified": served.last_modified}
        if served.sends_length:
            headers["Content-Length"] = str(len(served.content) - start)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(served.content) - 1}/{len(served.content)}"
        self._answer(206 if start else 200, headers)
        body = served.content[start:]
        self.wfile.write(body[: served.drops.pop(0)] if served.drops else body)

    def _start(self) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        wanted = self.headers.get("If-Range")
        is_other = wanted is not None and wanted not in (self.served.etag, self.served.last_modified)
        if not found or not self.served.knows_ranges or (is_other and self.served.minds_if_range):
            return 0
        return int(found[1])

    def _answer(self, status: int, headers: dict[str, str | None]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Serve until the block ends; `served.url` is the file's address."""
    handler = type("Handler", (_Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}/file"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
