"""A web server for a folder, with ranges, that misbehaves as it is told."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

Fault = Callable[[bytes], bytes]


@dataclass
class Served:
    """What the server has and how it behaves.

    `statuses` are given by the first requests for a path; `cuts` are the body bytes after which the next answers for a
    path break off; `changes` alter a path's whole content, every time. `sent` counts body bytes by path.
    """

    folder: Path
    statuses: dict[str, list[int]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    changes: dict[str, Fault] = field(default_factory=dict)
    knows_ranges: bool = True
    sent: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        served, path = self.served, unquote(self.path).lstrip("/")
        served.asked.append(path)
        if served.statuses.get(path):
            self._answer(served.statuses[path].pop(0), 0)
            return
        file = served.folder / path
        if not file.is_file():
            self._answer(404, 0)
            return
        change = served.changes.get(path)
        changed = change(file.read_bytes()) if change else None
        size = file.stat().st_size if changed is None else len(changed)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = 0, size
        if found and served.knows_ranges:
            start, stop = int(found[1]), min(int(found[2]) + 1, size)
            self._answer(206, stop - start, f"bytes {start}-{stop - 1}/{size}")
        else:
            self._answer(200, size)
        if self.command == "GET":
            content = _part(file, start, stop) if changed is None else changed[start:stop]
            if served.cuts.get(path):
                content = content[: served.cuts[path].pop(0)]
            served.sent[path] = served.sent.get(path, 0) + len(content)
            self.wfile.write(content)

    def _answer(self, status: int, length: int, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _part(file: Path, start: int, stop: int) -> bytes:
    with file.open("rb") as source:
        source.seek(start)
        return source.read(stop - start)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve a folder until the block ends."""
    served = Served(folder)
    handler = type("Handler", (_Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
