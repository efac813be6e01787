"""`publishing.json`: one publisher's claim on a place, and what has arrived there.

It lets the same command go on after an interruption, and publishers notice each other. A folder is locked besides and
the hub refuses the later commit, so the claim decides on object stores alone. There a claim that was renewed within
`LEASE_SECONDS` is respected; its owner renews it, finds out when somebody has taken it over, and stops. An upload that
was under way at that moment can't be called back: `docs/sharing.md` says what that leaves open.
"""

import os
import platform
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import RLock

from zootool.errors import FormatError, UsageError, ZooError, printable
from zootool.files import canonical_json
from zootool.records import from_plain, parse_json, to_plain
from zootool.share.targets import Found, Target

LISTING = "publishing.json"
LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class Listing:
    """What publishing.json says. `renewed` is in seconds of Unix time, 0 when the publisher has given up.

    `paths` are all files that belong to this place's zoos, the old version's included.
    """

    publisher: str
    host: str = ""
    process: int = 0
    renewed: float = 0.0
    arrived: dict[str, Found] = field(default_factory=dict)
    paths: tuple[str, ...] = ()


def read_listing(target: Target) -> Listing | None:
    """The listing of an unfinished upload. One that can't be read says nothing: everything is uploaded again."""
    content = target.read(LISTING)
    if content is None:
        return None
    try:
        return from_plain(Listing, parse_json(content, LISTING), LISTING)
    except FormatError:
        return Listing("")


class Claim:
    """This process's claim on `target`. Where the place is `held` by itself, nobody else can have one."""

    def __init__(self, target: Target, held: bool, arrived: Mapping[str, Found], paths: Iterable[str]) -> None:
        self._target, self._held = target, held
        # Workers note what has arrived and renew the claim while the main thread does.
        self._lock = RLock()
        self._listing = Listing(
            uuid.uuid4().hex, platform.node(), os.getpid(), arrived=dict(arrived), paths=tuple(sorted(paths))
        )

    @property
    def arrived(self) -> dict[str, Found]:
        """What is there by content."""
        return self._listing.arrived

    def take(self) -> None:
        """Claim the place. Raises UsageError where another publisher is at work."""
        other = None if self._held else read_listing(self._target)
        if other is not None and _is_at_work(other):
            raise self._busy(other)
        if self._held or other is not None:
            self._write(time.time())
        elif not self._target.create(LISTING, self._content(time.time())):
            raise self._busy(read_listing(self._target))
        self.check()

    def note(self, path: str, arrived: Found | None) -> None:
        """A file is there, or with None isn't after all."""
        with self._lock:
            self._listing.arrived.pop(path, None)
            if arrived is not None:
                self._listing.arrived[path] = arrived

    def check(self) -> None:
        """Raise UsageError where another publisher has taken the place over."""
        found = None if self._held else read_listing(self._target)
        if not self._held and (found is None or found.publisher != self._listing.publisher):
            raise UsageError(
                f"another process has begun to publish to {printable(self._target.name)}",
                hint="let it finish, then publish again what shall stay: what both wrote may be mixed",
            )

    def renew(self, older_than: float = 0.0) -> None:
        """Say that this process is at work and what has arrived, where the last time is so many seconds ago."""
        with self._lock:
            if time.time() - self._listing.renewed >= older_than:
                self.check()
                self._write(time.time())

    def release(self) -> None:
        """Give up, and leave what has arrived to the next attempt; where that can't be said, it finds out."""
        with suppress(ZooError, OSError), self._lock:
            self.check()
            self._write(0.0)

    def _write(self, renewed: float) -> None:
        content = self._content(renewed)
        if not self._target.is_atomic:  # there, an unfinished upload leaves no trace
            self._target.put_bytes(LISTING, content)

    def _content(self, renewed: float) -> bytes:
        self._listing = replace(self._listing, renewed=renewed)
        return canonical_json(to_plain(self._listing))

    def _busy(self, other: Listing | None) -> UsageError:
        who = f"process {other.process} on {printable(other.host, 60)}" if other else "another process"
        return UsageError(
            f"{who} is publishing to {printable(self._target.name)}",
            hint=f"wait for it; if it was killed, run the same command again in {LEASE_SECONDS:.0f} seconds",
        )


def _is_at_work(listing: Listing) -> bool:
    """Whether its publisher has renewed its claim lately, and isn't known to be dead."""
    if time.time() - listing.renewed > LEASE_SECONDS:
        return False
    # Of our own process there is one that gave up without saying so, or one in another thread: time tells.
    if listing.host == platform.node() and listing.process != os.getpid():
        try:
            os.kill(listing.process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass  # it is somebody else's, and alive
    return True
