"""A driver that kills writers of a store at every boundary and looks at what they leave. Run as a script.

Each attempt is a fork of a process that has done nothing but import, and dies by SIGKILL at its n-th event: an open,
mkdir, rename or removal (seen by an audit hook), an fsync, an exchange of names, or a write to a shard, of which half
has reached the file.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zootool import files
from zootool.errors import ZooError
from zootool.files import is_temporary
from zootool.store import shards
from zootool.zoo import open_zoo, verify

_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.replace")
_COMPLETED, _KILLED, _FAILED = 0, -signal.SIGKILL, 1


def crash_everywhere(attempt: Callable[[], None], check: Callable[[int], None], stride: int, limit: int = 1000) -> int:
    """Kill `attempt` at every stride-th event and `check` what it left; returns an event that it never reached."""
    for number in range(0, limit, stride):
        outcome = _in_child(lambda: _killed_at(attempt, number))  # noqa: B023
        if outcome == _COMPLETED:
            return number
        assert outcome == _KILLED, f"event {number}: the attempt ended with {outcome}"
        outcome = _in_child(lambda: check(number))  # noqa: B023
        assert outcome == _COMPLETED, f"what the attempt left when killed at event {number} is wrong"
    raise AssertionError(f"more than {limit} events")


def check_no_half_store(folder: Path, *ids: str) -> None:
    """Every zoo in `folder` is a complete one with one of these ids; unfinished ones are refused, or are complete."""
    for path in sorted(folder.iterdir()):
        if path.suffix != ".zoo" and not is_temporary(path):
            continue
        try:
            zoo = open_zoo(path)
        except ZooError:
            assert is_temporary(path), f"{path} is there, but can't be opened"
            continue
        assert verify(path, "deep").passed, f"{path} is damaged"
        assert zoo.id in ids, f"{path} is another zoo"


def _in_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(_FAILED)
        os._exit(_COMPLETED)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _killed_at(attempt: Callable[[], None], number: int) -> None:
    seen = -1

    def happened() -> bool:
        nonlocal seen
        seen += 1
        return seen == number

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        is_read = event == "open" and not (isinstance(arguments[1], str) and set("wxa+") & set(arguments[1]))
        if event in _EVENTS and not is_read and happened():
            die()

    def fsync(descriptor: int, original: Callable[[int], None] = os.fsync) -> None:
        if happened():
            die()
        original(descriptor)

    def write(shard: Any, content: Any, original: Callable[..., None] = shards._OpenShard._write) -> None:
        if happened():
            original(shard, bytes(content)[: len(content) // 2])
            shard._sink.flush()
            die()
        original(shard, content)

    def exchange(first: Path, second: Path, original: Callable[..., bool] = files._renameat2_exchange) -> bool:
        if happened():
            die()
        done = original(first, second)
        if happened():
            die()
        return done

    sys.addaudithook(audit)
    files._renameat2_exchange = exchange
    os.fsync = fsync  # type: ignore[assignment]
    shards._OpenShard._write = write  # type: ignore[method-assign]
    attempt()
