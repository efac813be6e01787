"""moto's S3 server with faults in front of it."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass
class Faults:
    """What happens to requests whose path holds a word: statuses instead of answers, bodies cut after some bytes.

    Each is used up from the front of its list. `seen` are all requests, as "PUT /bucket/key".
    """

    statuses: dict[str, list[int]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    url: str = ""

    def clear(self) -> None:
        """No faults, nothing seen."""
        self.statuses, self.cuts, self.seen = {}, {}, []


def _faulty(app: Any, faults: Faults) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        faults.seen.append(request)
        for word, statuses in faults.statuses.items():
            if word in request and statuses:
                start_response(f"{statuses.pop(0)} Fault", [("Content-Length", "0")])
                return [b""]
        body = app(environ, start_response)
        for word, cuts in faults.cuts.items():
            if word in request and cuts:
                # Fewer bytes than the headers have announced: the connection ends early.
                return [b"".join(body)[: cuts.pop(0)]]
        return body

    return answer


@contextmanager
def faulty_s3() -> Iterator[Faults]:
    """Serve until the block ends."""
    moto, serving = import_module("moto.server"), import_module("werkzeug.serving")
    faults = Faults()
    app = _faulty(moto.DomainDispatcherApplication(moto.create_backend_app), faults)
    server = serving.make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    faults.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield faults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
