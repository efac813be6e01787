"""Members of a tar archive, plain or gzipped, one after another: regular files alone, every size bounded."""

import gzip
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from zootool.errors import BadDataError, FormatError, MissingError, UntrustedError, printable
from zootool.untrusted.archives import ArchiveLimits
from zootool.untrusted.names import check_member_name

_BLOCK = 512
_SKIP_BYTES = 1 << 20
_MAX_NOTE_BYTES = 1 << 16
_FILES = (b"0", b"\0")
_FOLDER = b"5"
_LONG_NAME = b"L"
_NOTES, _NOTES_FOR_ALL = b"x", b"g"
_REFUSED = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe",
    b"K": "a link with a long name",
}  # fmt: skip


def read_tar(
    path: Path, names: Collection[str] | None = None, limits: ArchiveLimits | None = None
) -> Iterator[tuple[str, bytes]]:
    """Each regular file's name and content in the archive's order; those in `names` alone, where that is given.

    Raises FormatError for a broken or over-large archive, UntrustedError for one that holds links, devices, a name
    twice or a name that leads elsewhere, MissingError for no file. It may come after members that were fine.
    """
    limits = limits or ArchiveLimits()
    shown = printable(path)
    try:
        with ExitStack() as stack:
            stream = _Stream(stack.enter_context(path.open("rb")), limits, stack)
            yield from _members(stream, names, limits)
    except BadDataError as error:
        raise type(error)(f"{shown} {error.message}", hint=error.hint) from error
    except FileNotFoundError as error:
        raise MissingError(f"{shown} is not there", hint="check the path") from error
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise FormatError(f"{shown} is no readable tar archive: {printable(error)}", hint="get it again") from error


class _Stream:
    """The archive's bytes, expanded where they are gzipped, up to a multiple of the file's size."""

    def __init__(self, file: IO[bytes], limits: ArchiveLimits, stack: ExitStack) -> None:
        packed = file.seek(0, 2)
        file.seek(0)
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._left = packed * limits.max_ratio if is_gzip else packed
        self._source = stack.enter_context(gzip.GzipFile(fileobj=file)) if is_gzip else file

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        self._left -= size
        if self._left < 0:
            raise FormatError("claims or expands to far more bytes than it has: too much")
        content = self._source.read(size)
        if len(content) != size:
            raise FormatError("is cut off", hint="get the archive again")
        return content

    def skip(self, size: int) -> None:
        """Pass over `size` bytes."""
        while size:
            size -= len(self.take(min(size, _SKIP_BYTES)))


def _members(stream: _Stream, names: Collection[str] | None, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    notes: dict[str, str] = {}
    while (header := stream.take(_BLOCK)).strip(b"\0"):
        kind, size = header[156:157], _check_header(header)
        if kind in (_LONG_NAME, _NOTES, _NOTES_FOR_ALL):
            content = _take_note(stream, size)
            notes |= {"path": _text(content)} if kind == _LONG_NAME else _pax_notes(content, kind)
            continue
        name, size = notes.get("path", _header_name(header)), int(notes.get("size", size))
        notes = {}
        check_member_name(name)
        if kind == _FOLDER:
            continue
        _check_member(kind, name, size, seen, limits)
        padding = -size % _BLOCK
        if names is None or name in names:
            yield name, stream.take(size)
            stream.skip(padding)
        else:
            stream.skip(size + padding)


def _check_header(header: bytes) -> int:
    """The size of what follows."""
    if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise FormatError("is no tar archive, or damaged", hint="get it again")
    return _number(header[124:136])


def _check_member(kind: bytes, name: str, size: int, seen: set[str], limits: ArchiveLimits) -> None:
    if kind not in _FILES:
        what = _REFUSED.get(kind, f"a member of the type {kind!r}")
        raise UntrustedError(f"holds {what}, {printable(name, 80)!r}", hint="don't use this archive")
    if name in seen:
        raise UntrustedError(f"holds {printable(name, 80)!r} twice", hint="don't use this archive")
    if len(seen) == limits.max_members or not 0 <= size <= limits.max_member_bytes:
        raise FormatError(f"holds {printable(name, 80)!r} of {size} bytes, or too many members")
    seen.add(name)


def _take_note(stream: _Stream, size: int) -> bytes:
    if not 0 <= size <= _MAX_NOTE_BYTES:
        raise FormatError(f"holds {size} bytes about one member, at most {_MAX_NOTE_BYTES} are read")
    content = stream.take(size)
    stream.skip(-size % _BLOCK)
    return content


def _pax_notes(content: bytes, kind: bytes) -> dict[str, str]:
    """Name and size, where they stand in lines such as `17 path=some.file`; what is said of all members, isn't used."""
    notes = {}
    while content and kind == _NOTES:
        length = int(content[: content.index(b" ")])
        if not 0 < length <= len(content):
            raise FormatError("is damaged", hint="get the archive again")
        key, _, value = content[content.index(b" ") + 1 : length].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise FormatError("holds a sparse file")
        if key in (b"path", b"size"):
            notes[key.decode()] = value.rstrip(b"\n").decode("utf-8")
        content = content[length:]
    return notes


def _header_name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(content: bytes) -> str:
    return content.split(b"\0", 1)[0].decode("utf-8")


def _number(field: bytes) -> int:
    # GNU tar writes large numbers in binary.
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    return int(field.strip(b" \0") or b"0", 8)
