"""Members of zip and tar archives, by their exact names, read in place: nothing is ever extracted.

An archive that holds links, devices, a name twice or a name that leads out of its folder is refused as a whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zootool.errors import BadDataError, MissingError, did_you_mean, printable
from zootool.untrusted.byte_source import ByteSource, FileSource, MemorySource, Window
from zootool.untrusted.zip_directory import STORED, Member, open_stored, read_directory, read_member

_IN_MEMORY_BYTES = 8 << 20


@dataclass(frozen=True)
class ArchiveLimits:
    """Bounds on one archive. `max_ratio` is how many bytes one packed byte may become."""

    max_members: int = 2_000_000
    max_member_bytes: int = 2 << 30
    max_ratio: int = 200


class ZipArchive:
    """A zip file whose directory has been read and checked. Raises FormatError and UntrustedError when opened."""

    def __init__(self, path: Path, limits: ArchiveLimits | None = None) -> None:
        self._limits = limits or ArchiveLimits()
        self._source = FileSource(path)
        self.shown = self._source.shown
        try:
            self._members = read_directory(self._source, self._limits.max_members)
        except BadDataError as error:
            raise self._located(error) from error

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def num_bytes(self, name: str) -> int:
        """The size of a member once it is expanded, as the directory states it."""
        return self._member(name).num_bytes

    def read(self, name: str) -> bytes:
        """The content of a member, its CRC checked. Raises MissingError, FormatError and IntegrityError."""
        try:
            member = self._member(name)
            return bytes(read_member(self._source, member, self._limits.max_member_bytes, self._limits.max_ratio))
        except BadDataError as error:
            raise self._located(error) from error

    def open(self, name: str) -> ByteSource:
        """A member to read from at any place, such as by `load_checkpoint`.

        A large one that is stored stays where it is, and its CRC is not checked: checkpoints bring their own.
        """
        member = self._member(name)
        shown = f"{self.shown} ({printable(name, 120)})"
        if member.method != STORED or member.num_bytes <= _IN_MEMORY_BYTES:
            return MemorySource(self.read(name), shown)
        try:
            window = open_stored(self._source, member)
        except BadDataError as error:
            raise self._located(error) from error
        return Window(window, 0, window.size, shown)

    def _member(self, name: str) -> Member:
        if name not in self._members:
            hint = did_you_mean(name, list(self._members)[:1000])
            raise MissingError(f"{self.shown} has no member {printable(name, 120)!r}", hint=printable(hint))
        return self._members[name]

    def _located(self, error: BadDataError) -> BadDataError:
        return type(error)(f"{self.shown} {error.message.removeprefix(self.shown)}", hint=error.hint)
