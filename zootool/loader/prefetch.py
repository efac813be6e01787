"""Running an iterator some steps ahead of its consumer."""

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

Item = TypeVar("Item")

_POLL_SECONDS = 0.1


def ahead(items: Iterator[Item], count: int) -> Iterator[Item]:
    """The same items, of which a thread keeps up to `count` ready. What the iterator raises comes at its place.

    The thread ends with the iteration, also where the consumer leaves it early.
    """
    ready: Queue[tuple[str, Any]] = Queue(count)
    stopped = Event()

    def work() -> None:
        try:
            for item in items:
                if not _put(ready, ("item", item), stopped):
                    return
            _put(ready, ("end", None), stopped)
        except BaseException as error:
            _put(ready, ("error", error), stopped)

    thread = Thread(target=work, name="zoo-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stopped.set()
        _drain(ready)
        thread.join()


def _put(ready: "Queue[tuple[str, Any]]", entry: tuple[str, Any], stopped: Event) -> bool:
    while not stopped.is_set():
        try:
            ready.put(entry, timeout=_POLL_SECONDS)
        except Full:
            continue
        return True
    return False


def _drain(ready: "Queue[tuple[str, Any]]") -> None:
    try:
        while True:
            ready.get_nowait()
    except Empty:
        return
