"""Zip files read in place and with suspicion: every member in bounds, none twice, none over another, none extracted.

Python's zipfile reads a directory as fast, but trusts it: it takes the last of two equal names, reads members that
overlap, skips bytes before and behind the directory, and lets the 64-bit end overrule the other. What would have to be
parsed beside it to refuse that is most of what is here.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from zootool.errors import FormatError, IntegrityError, MissingError, UntrustedError, did_you_mean, printable
from zootool.untrusted.byte_source import ByteSource, FileSource, MemorySource, Window, errors_name
from zootool.untrusted.lazy_tensor import name_problem

_MAX_MEMBER_CHARS = 1_000
_MAX_MEMBERS = 2_000_000
_MAX_MEMBER_BYTES = 2 << 30
# How many bytes one packed byte may become.
_MAX_RATIO = 200
_MAX_DIRECTORY_BYTES = 1 << 28
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_MAX_COMMENT = (1 << 16) - 1
# What a field of 32 bits holds where the number stands elsewhere, in 64.
_WIDE = 0xFFFFFFFF
_ENCRYPTED = 0x2041
# The kind of file that Unix notes in the uppermost bits of a member's attributes.
_LINK = 0xA
_STORED, _DEFLATED = 0, 8
_IN_MEMORY_BYTES = 8 << 20
_JOINED = (
    "get it again; shards of a distributed checkpoint (.distcp) are joined by "
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth"
)


@dataclass(slots=True)
class Member:
    """One file in a zip: its bytes lie between its local header at `start` and `limit`, where the next begins."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed_bytes: int
    num_bytes: int
    start: int
    is_link: bool
    limit: int = 0


class ZipArchive:
    """The members of a zip file, whose directory is checked when it is opened: FormatError and UntrustedError."""

    def __init__(self, path: Path) -> None:
        self._source = FileSource(path)
        self.shown = self._source.shown
        with errors_name(self.shown):
            self._members = read_directory(self._source, _MAX_MEMBERS)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def read(self, name: str) -> bytes:
        """The content of a member, its CRC checked. Raises MissingError, FormatError and IntegrityError."""
        if name not in self._members:
            hint = did_you_mean(name, list(self._members)[:1000])
            raise MissingError(f"{self.shown} has no member {printable(name, 120)!r}", hint=printable(hint))
        with errors_name(self.shown):
            return bytes(_read_member(self._source, self._members[name]))

    def open(self, name: str) -> ByteSource:
        """A member to read from at any place, such as by `load_checkpoint`.

        A large one that is stored stays where it is, and its CRC is not checked: checkpoints bring their own.
        """
        member, shown = self._members[name], f"{self.shown} ({printable(name, 120)})"
        if member.method != _STORED or member.num_bytes <= _IN_MEMORY_BYTES:
            return MemorySource(self.read(name), shown)
        with errors_name(self.shown):
            return Window(self._source, stored_at(self._source, member), member.num_bytes, shown)


def check_member_name(name: str) -> None:
    """Raise UntrustedError for a member of an archive whose name could lead out of the folder it is put in."""
    problem = name_problem(name, _MAX_MEMBER_CHARS) or ("has a backslash" if "\\" in name else None)
    if problem or not name:
        raise UntrustedError(
            f"holds a member {printable(name, 80)!r}, which {problem or 'has no name'}", hint="don't use this archive"
        )


def read_directory(source: ByteSource, max_members: int) -> dict[str, Member]:
    """Every member by its name, folders left out, in the order of the directory.

    Raises FormatError for a broken directory, UntrustedError for a name that leads elsewhere, a name given twice, a
    link, or members that overlap.
    """
    count, start, size = _find_end(source)
    if count > max_members or size > _MAX_DIRECTORY_BYTES:
        raise FormatError(f"claims {count} members, at most {max_members} are read")
    content = bytes(source.read(start, size))
    found: list[Member] = []
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > size:
            raise FormatError("has a zip directory that is cut off", hint="get the file again")
        fields = _CENTRAL.unpack_from(content, position)
        name_at = position + _CENTRAL.size
        extra_at = name_at + fields[10]
        position = extra_at + fields[11] + fields[12]
        if fields[0] != b"PK\x01\x02" or position > size:
            raise FormatError("has a broken zip directory", hint="get the file again")
        packed, full, place = fields[8], fields[9], fields[16]
        if _WIDE in (packed, full, place):
            full, packed, place = _wide_sizes((full, packed, place), content[extra_at : extra_at + fields[11]])
        raw_name = content[name_at:extra_at]
        is_link = fields[15] >> 28 == _LINK
        found.append(Member(_decode(raw_name), raw_name, fields[3], fields[4], fields[7], packed, full, place, is_link))
    if position != size:
        raise FormatError(f"has {size - position} bytes in its zip directory that describe nothing")
    return _members(found, start)


def stored_at(source: ByteSource, member: Member) -> int:
    """Where the bytes of a member that isn't compressed begin; its CRC is for the reader to check.

    Raises FormatError for one that is compressed, and where its own header says something else than the directory.
    """
    if member.method != _STORED or member.packed_bytes != member.num_bytes:
        raise FormatError(f"holds {printable(member.name, 80)} compressed, it has to be stored")
    return _data_start(source, member)


def _find_end(source: ByteSource) -> tuple[int, int, int]:
    """How many members the directory names, where it begins, and its bytes: as its end says, in 32 or 64 bits."""
    tail_bytes = min(source.size, _END.size + _MAX_COMMENT)
    tail = bytes(source.read(source.size - tail_bytes, tail_bytes))
    at = len(tail) - _END.size
    # Without a comment, as nearly always, nothing has to be looked for.
    if at < 0 or tail[at : at + 4] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\x05\x06")
        if not 0 <= at <= len(tail) - _END.size:
            raise FormatError("is a zip file without a directory: it is cut off", hint="get the file again")
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail) or disk or first_disk or here != count:
        raise FormatError("has a broken end of its zip directory", hint="get the file again")
    end = source.size - tail_bytes + at
    wide_end = _find_end64(source, end, (count, start, size))
    if wide_end is not None:
        count, start, size, end = wide_end
    if start + size != end:
        raise FormatError(f"has a zip directory that ends at byte {start + size} instead of {end}", hint=_JOINED)
    if count * _CENTRAL.size > size:
        raise FormatError(f"claims {count} members in a zip directory of {size} bytes")
    return count, start, size


def _find_end64(source: ByteSource, end: int, said: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Count, start and size by the 64-bit end of the directory and where that lies; None where there is none.

    What both ends say has to agree: `said` is what stands in the other.
    """
    at = end - _END64_LOCATOR.size
    locator = _END64_LOCATOR.unpack(source.read(at, _END64_LOCATOR.size)) if at >= 0 else (b"", 0, 0, 0)
    if locator[0] != b"PK\x06\x07":
        if said[0] == 0xFFFF or _WIDE in said[1:]:
            raise FormatError("has a zip directory that points to a 64-bit one, which isn't there")
        return None
    if locator[1] or locator[3] > 1 or not 0 <= locator[2] <= at - _END64.size:
        raise FormatError("has a broken 64-bit zip directory", hint=_JOINED)
    fields = _END64.unpack(source.read(locator[2], _END64.size))
    _, length, _, _, disk, first_disk, here, count, size, start = fields
    if fields[0] != b"PK\x06\x06" or disk or first_disk or here != count or locator[2] + 12 + length != at:
        raise FormatError("has a broken 64-bit zip directory", hint=_JOINED)
    for short, wide, most in zip(said, (count, start, size), (0xFFFF, _WIDE, _WIDE), strict=True):
        if short not in (wide, most):
            raise FormatError(f"has two zip directories that differ: one says {short}, the other {wide}")
    return count, start, size, locator[2]


def _wide_sizes(sizes: tuple[int, int, int], extra: bytes) -> tuple[int, int, int]:
    """Full and packed size and place of a member; what doesn't fit 32 bits stands in this order in its extra field."""
    wide: list[int] = []
    while len(extra) >= 4 and not wide:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            wide = [number for (number,) in struct.iter_unpack("<Q", extra[4 : 4 + length // 8 * 8])]
        extra = extra[4 + length :]
    if len(wide) < sizes.count(_WIDE):
        raise FormatError("has a zip directory whose 64-bit sizes are missing")
    full, packed, start = (wide.pop(0) if size == _WIDE else size for size in sizes)
    return full, packed, start


def _members(found: list[Member], directory_start: int) -> dict[str, Member]:
    members: dict[str, Member] = {}
    limits = dict(pairwise([*sorted(member.start for member in found), directory_start]))
    if len(limits) != len(found):
        raise UntrustedError("holds members that overlap", hint="don't use this file")
    for member in found:
        name, member.limit = member.name, limits[member.start]
        check_member_name(name)
        if member.is_link:
            raise UntrustedError(f"holds a link {printable(name, 80)!r}", hint="don't use this file")
        if name in members:
            raise UntrustedError(f"holds {printable(name, 80)} twice", hint="don't use this file")
        if member.start + _LOCAL.size + len(member.raw_name) + member.packed_bytes > member.limit:
            raise UntrustedError(f"holds members that overlap: {printable(name, 80)}", hint="don't use this file")
        members[name] = member
    return {name: member for name, member in members.items() if not name.endswith("/")}


def _data_start(source: ByteSource, member: Member) -> int:
    if member.flags & _ENCRYPTED:
        raise FormatError(f"holds {printable(member.name, 80)} encrypted")
    header = source.read(member.start, _LOCAL.size + len(member.raw_name))
    fields = _LOCAL.unpack_from(header)
    start = member.start + len(header) + fields[10]
    told = fields[0], fields[3], fields[9], header[_LOCAL.size :]
    if told != (b"PK\x03\x04", member.method, len(member.raw_name), member.raw_name):
        raise UntrustedError(
            f"has two headers for {printable(member.name, 80)} that differ", hint="don't use this file"
        )
    if start + member.packed_bytes > member.limit:
        raise UntrustedError(f"holds members that overlap: {printable(member.name, 80)}", hint="don't use this file")
    return start


def _read_member(source: ByteSource, member: Member) -> bytes | memoryview:
    """The content of a member, stored or deflated, its CRC checked. Raises IntegrityError and FormatError.

    Nothing is expanded beyond the size that the directory states, and that is bounded.
    """
    shown = printable(member.name, 80)
    if member.num_bytes > min(_MAX_MEMBER_BYTES, _MAX_RATIO * member.packed_bytes + 1024):
        raise FormatError(f"holds {shown} of {member.num_bytes} bytes, packed into {member.packed_bytes}: too much")
    if member.method not in (_STORED, _DEFLATED):
        raise FormatError(f"holds {shown} compressed by method {member.method}, deflate alone is read")
    content: bytes | memoryview = source.read(_data_start(source, member), member.packed_bytes)
    if member.method == _DEFLATED:
        engine = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = engine.decompress(content, member.num_bytes + 1)
        except zlib.error as error:
            raise IntegrityError(f"{shown} is damaged", hint="get the file again") from error
        if not engine.eof and len(content) <= member.num_bytes:
            raise IntegrityError(f"{shown} is cut off", hint="get the file again")
    if len(content) != member.num_bytes or zlib.crc32(content) != member.crc:
        raise IntegrityError(f"{shown} doesn't match its CRC", hint="the copy is damaged: get the file again")
    return content


def _decode(raw_name: bytes) -> str:
    try:
        return raw_name.decode("utf-8")
    except UnicodeDecodeError:
        # What zip files used before they could say utf-8.
        return raw_name.decode("cp437")
