"""The directory of a zip file, read with suspicion: every member in bounds, none twice, none over another.

Python's zipfile trusts more: it takes the last of two equal names, and reads overlapping members.
"""

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise

from zootool.errors import FormatError, IntegrityError, UntrustedError, printable
from zootool.untrusted.byte_source import ByteSource, Window
from zootool.untrusted.names import check_member_name
from zootool.untrusted.zip_end import find_end

_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x2041
# The kind of file that Unix notes in the uppermost bits of a member's attributes.
_LINK = 0xA
STORED, DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a zip: its bytes lie between its local header at `start` and `limit`."""

    name: str
    raw_name: bytes
    method: int
    flags: int
    crc: int
    packed_bytes: int
    num_bytes: int
    start: int
    limit: int


def read_directory(source: ByteSource, max_members: int, max_bytes: int = 1 << 28) -> dict[str, Member]:
    """Every member by its name, folders left out, in the order of the directory.

    Raises FormatError for a broken directory, UntrustedError for a name that leads elsewhere, a name given twice or
    members that overlap.
    """
    end = find_end(source)
    if end.count > max_members or end.size > max_bytes:
        raise FormatError(f"claims {end.count} members, at most {max_members} are read")
    content = bytes(source.read(end.start, end.size))
    found: list[tuple[int, int, int, bytes, tuple[int, ...]]] = []
    position = 0
    for _ in range(end.count):
        if position + _CENTRAL.size > end.size:
            raise FormatError("has a zip directory that is cut off", hint="get the file again")
        fields = _CENTRAL.unpack_from(content, position)
        length = _CENTRAL.size + fields[10] + fields[11] + fields[12]
        if fields[0] != b"PK\x01\x02" or position + length > end.size:
            raise FormatError("has a broken zip directory", hint="get the file again")
        raw_name = content[position + _CENTRAL.size : position + _CENTRAL.size + fields[10]]
        extra = content[position + _CENTRAL.size + fields[10] :][: fields[11]] if _is_saturated(fields) else b""
        found.append((*_sizes(fields, extra), raw_name, fields))
        position += length
    if position != end.size:
        raise FormatError(f"has {end.size - position} bytes in its zip directory that describe nothing")
    return _members(found, end.start)


def open_stored(source: ByteSource, member: Member) -> Window:
    """The bytes of a member that isn't compressed, in place; its CRC is for the reader to check.

    Raises FormatError for one that is compressed, and where its own header says something else than the directory.
    """
    if member.method != STORED or member.packed_bytes != member.num_bytes:
        raise FormatError(f"holds {printable(member.name, 80)} compressed, it has to be stored")
    return Window(source, _data_start(source, member), member.num_bytes, source.shown)


def read_member(source: ByteSource, member: Member, max_bytes: int, max_ratio: int) -> bytes | memoryview:
    """The content of a member, stored or deflated, its CRC checked. Raises IntegrityError and FormatError.

    Nothing is expanded beyond the size that the directory states, and that is at most `max_bytes` and `max_ratio`
    times the packed one.
    """
    shown = printable(member.name, 80)
    if member.num_bytes > max_bytes or member.num_bytes > max_ratio * member.packed_bytes + 1024:
        raise FormatError(f"holds {shown} of {member.num_bytes} bytes, packed into {member.packed_bytes}: too much")
    if member.method not in (STORED, DEFLATED):
        raise FormatError(f"holds {shown} compressed by method {member.method}, deflate alone is read")
    packed = source.read(_data_start(source, member), member.packed_bytes)
    content = packed if member.method == STORED else _inflate(packed, member)
    if len(content) != member.num_bytes or zlib.crc32(content) != member.crc:
        raise IntegrityError(f"{shown} doesn't match its CRC", hint="the copy is damaged: get the file again")
    return content


def _is_saturated(fields: tuple[int, ...]) -> bool:
    return 0xFFFFFFFF in (fields[8], fields[9], fields[16])


def _sizes(fields: tuple[int, ...], extra: bytes) -> tuple[int, int, int]:
    """Local header's place, packed and full size; what doesn't fit 32 bits stands in the extra field."""
    packed, full, start = fields[8], fields[9], fields[16]
    if not _is_saturated(fields):
        return start, packed, full
    wide = _wide_numbers(extra)
    values = []
    for value in (full, packed, start):
        if value == 0xFFFFFFFF:
            if not wide:
                raise FormatError("has a zip directory whose 64-bit sizes are missing")
            value = wide.pop(0)
        values.append(value)
    full, packed, start = values
    return start, packed, full


def _wide_numbers(extra: bytes) -> list[int]:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        content = extra[position + 4 : position + 4 + length]
        if kind == 1:
            return list(struct.unpack(f"<{len(content) // 8}Q", content[: len(content) // 8 * 8]))
        position += 4 + length
    return []


def _members(found: list[tuple[int, int, int, bytes, tuple[int, ...]]], directory_start: int) -> dict[str, Member]:
    members: dict[str, Member] = {}
    # Where each one's bytes have to end: at the next header.
    limits = dict(pairwise([*sorted(item[0] for item in found), directory_start]))
    if len(limits) != len(found):
        raise UntrustedError("holds members that overlap", hint="don't use this file")
    for start, packed, full, raw_name, fields in found:
        name = _decode(raw_name)
        check_member_name(name)
        if fields[15] >> 28 == _LINK:
            raise UntrustedError(f"holds a link {printable(name, 80)!r}", hint="don't use this file")
        if name in members:
            raise UntrustedError(f"holds {printable(name, 80)} twice", hint="don't use this file")
        if start + _LOCAL.size + len(raw_name) + packed > limits[start]:
            raise UntrustedError(f"holds members that overlap: {printable(name, 80)}", hint="don't use this file")
        members[name] = Member(name, raw_name, fields[4], fields[3], fields[7], packed, full, start, limits[start])
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


def _inflate(packed: memoryview, member: Member) -> bytes:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = engine.decompress(packed, member.num_bytes + 1)
    except zlib.error as error:
        raise IntegrityError(f"{printable(member.name, 80)} is damaged", hint="get the file again") from error
    if not engine.eof and len(content) <= member.num_bytes:
        raise IntegrityError(f"{printable(member.name, 80)} is cut off", hint="get the file again")
    return content


def _decode(raw_name: bytes) -> str:
    try:
        return raw_name.decode("utf-8")
    except UnicodeDecodeError:
        # What zip files used before they could say utf-8.
        return raw_name.decode("cp437")
