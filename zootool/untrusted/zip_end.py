"""The end of a zip file, which says where its directory is: in 32 bits, or in 64, or in both."""

import struct
from dataclasses import dataclass

from zootool.errors import FormatError
from zootool.untrusted.byte_source import ByteSource

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_MAX_COMMENT = (1 << 16) - 1
_MIN_ENTRY_BYTES = 46
_JOINED = (
    "get it again; shards of a distributed checkpoint (.distcp) are joined by "
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth"
)


@dataclass(frozen=True, slots=True)
class End:
    """How many members the directory names, and where its bytes are; `at` is the byte behind them."""

    count: int
    start: int
    size: int
    at: int


def find_end(source: ByteSource) -> End:
    """The end record of the zip file that `source` is. Raises FormatError where there is none or two disagree."""
    size = min(source.size, _END.size + _MAX_COMMENT)
    tail = bytes(source.read(source.size - size, size))
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\x05\x06")
        if not 0 <= at <= len(tail) - _END.size:
            raise FormatError("is a zip file without a directory: it is cut off", hint="get the file again")
    _, disk, first_disk, here, count, length, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail) or disk or first_disk or here != count:
        raise FormatError("has a broken end of its zip directory", hint="get the file again")
    position = source.size - size + at
    return _check_end(_find_end64(source, End(count, start, length, position)))


def _find_end64(source: ByteSource, end: End) -> End:
    """The 64-bit end of the directory, where there is one; what both say has to agree."""
    is_short = 0xFFFF in (end.count,) or 0xFFFFFFFF in (end.start, end.size)
    at = end.at - _END64_LOCATOR.size
    locator = _END64_LOCATOR.unpack(source.read(at, _END64_LOCATOR.size)) if at >= 0 else (b"", 0, 0, 0)
    if locator[0] != b"PK\x06\x07":
        if is_short:
            raise FormatError("has a zip directory that points to a 64-bit one, which isn't there")
        return end
    if locator[1] or locator[3] > 1 or not 0 <= locator[2] <= at - _END64.size:
        raise FormatError("has a broken 64-bit zip directory", hint=_JOINED)
    fields = _END64.unpack(source.read(locator[2], _END64.size))
    _, length, _, _, disk, first_disk, here, count, size, start = fields
    if fields[0] != b"PK\x06\x06" or disk or first_disk or here != count or locator[2] + 12 + length != at:
        raise FormatError("has a broken 64-bit zip directory", hint=_JOINED)
    for short, wide, most in ((end.count, count, 0xFFFF), (end.start, start, 2**32 - 1), (end.size, size, 2**32 - 1)):
        if short not in (wide, most):
            raise FormatError(f"has two zip directories that differ: one says {short}, the other {wide}")
    return End(count, start, size, locator[2])


def _check_end(end: End) -> End:
    if end.start + end.size != end.at:
        raise FormatError(
            f"has a zip directory that ends at byte {end.start + end.size} instead of {end.at}",
            hint=_JOINED,
        )
    if end.count * _MIN_ENTRY_BYTES > end.size:
        raise FormatError(f"claims {end.count} members in a zip directory of {end.size} bytes")
    return end
