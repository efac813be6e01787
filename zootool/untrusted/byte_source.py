"""Where bytes are read from at any place: memory, a file, or a stretch of either.

Files are read rather than mapped: one that is cut off by somebody else while it is read gives an error, not a signal.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from zootool.errors import BadDataError, FormatError, IntegrityError, MissingError, printable

_SMALL_BYTES = 8 << 20
_LARGE_BYTES = 256 << 20


@runtime_checkable
class ByteSource(Protocol):
    """Something with `size` bytes; `shown` is how errors name it."""

    size: int
    shown: str

    def read(self, start: int, size: int) -> memoryview:
        """Exactly `size` bytes from byte `start` on. Raises IntegrityError where there are fewer."""
        ...


class MemorySource:
    """Bytes that are in memory already."""

    def __init__(self, content: bytes | bytearray | memoryview, shown: str) -> None:
        self._content = memoryview(content).toreadonly().cast("B")
        self.size = len(self._content)
        self.shown = shown

    def read(self, start: int, size: int) -> memoryview:
        """Exactly `size` bytes from byte `start` on, not copied."""
        _check_span(self, start, size)
        return self._content[start : start + size]


class FileSource:
    """A file, opened for each read, that has to stay as it was at first. Raises MissingError and FormatError.

    What is larger than the memory that is free isn't read: MissingError.
    """

    def __init__(self, path: Path) -> None:
        self.shown = printable(path)
        self._path = path
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise MissingError(f"{self.shown} can't be read: {printable(error)}", hint="check the path") from error
        # Opening a pipe would wait for somebody to write into it.
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{self.shown} is no regular file")
        self._state = (status.st_size, status.st_mtime_ns)
        self.size = status.st_size

    def read(self, start: int, size: int) -> memoryview:
        """Exactly `size` bytes from byte `start` on. Raises IntegrityError where the file isn't the same any more."""
        _check_span(self, start, size)
        check_memory(size, self.shown)
        try:
            with self._path.open("rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                file.seek(start)
                content = file.read(size)
                if len(content) < size:
                    content += _read_up_to(file, size - len(content))
        except PermissionError as error:
            raise MissingError(f"{self.shown} can't be read: {printable(error.strerror)}") from error
        except OSError as error:
            raise IntegrityError(f"{self.shown} can't be read any more: {printable(error)}") from error
        if self._state != (status.st_size, status.st_mtime_ns) or len(content) != size:
            raise IntegrityError(f"{self.shown} changed while it was read", hint="try again when it is complete")
        return memoryview(content)


class Window:
    """`size` bytes of another source from its byte `start` on, such as a stored member of an archive."""

    def __init__(self, source: ByteSource, start: int, size: int, shown: str) -> None:
        _check_span(source, start, size)
        self._source = source
        self._start = start
        self.size = size
        self.shown = shown

    def read(self, start: int, size: int) -> memoryview:
        """Exactly `size` bytes from byte `start` on."""
        _check_span(self, start, size)
        return self._source.read(self._start + start, size)


def read_bounded(path: Path, max_bytes: int) -> tuple[bytes, str]:
    """The content of a file, and how errors name it. Raises MissingError, and FormatError for a large one."""
    source = FileSource(path)
    if source.size > max_bytes:
        raise FormatError(f"{source.shown} has {source.size} bytes, at most {max_bytes} are read")
    return bytes(source.read(0, source.size)), source.shown


@contextmanager
def errors_name(shown: str) -> Iterator[None]:
    """Have errors begin with the file that is read, and hints say it for '{file}'."""
    try:
        yield
    except BadDataError as error:
        if error.message.startswith(shown):
            raise
        message, hint = (text and text.replace("'{file}'", repr(shown)) for text in (error.message, error.hint))
        raise type(error)(f"{shown} {message}", hint=hint) from error


def check_memory(num_bytes: int, shown: str) -> None:
    """Raise MissingError where `num_bytes` are more than the memory that is free, before any is taken.

    A file may claim what it doesn't hold: one of 60 GB takes no place on a disk where it was never written.
    """
    free = _free_bytes() if num_bytes >= _LARGE_BYTES else None
    if free is not None and num_bytes > free:
        raise MissingError(
            f"{shown} needs {num_bytes / 1e9:.1f} GB of memory at once, {free / 1e9:.1f} GB are free",
            hint="read it where there is more memory, or give smaller files",
        )


def open_source(source: Path | bytes | bytearray | memoryview | IO[bytes] | ByteSource, max_bytes: int) -> ByteSource:
    """`source` as something that can be read at any place; small files and file objects are read at once.

    Raises MissingError where there is no file, FormatError for what is no regular file or has more than `max_bytes`.
    """
    opened: ByteSource
    if isinstance(source, Path):
        opened = FileSource(source)
        # One read of a small file costs less than one for each of its parts.
        if opened.size <= _SMALL_BYTES:
            opened = MemorySource(opened.read(0, opened.size), opened.shown)
    elif isinstance(source, bytes | bytearray | memoryview):
        opened = MemorySource(source, f"a buffer of {len(source)} bytes")
    elif isinstance(source, ByteSource):
        opened = source
    else:
        opened = MemorySource(_read_up_to(source, max_bytes + 1), printable(getattr(source, "name", "a file object")))
    if opened.size > max_bytes:
        raise FormatError(f"{opened.shown} has {opened.size} bytes, at most {max_bytes} are read")
    return opened


def _free_bytes() -> int | None:
    """What can be taken without swapping, None where the system doesn't say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    """All that is there, but not more than `size` bytes.

    Python makes room for all that is asked for, whether it is there or not: hence block by block.
    """
    blocks: list[bytes] = []
    while size > 0 and (block := file.read(min(size, _SMALL_BYTES))):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _check_span(source: ByteSource, start: int, size: int) -> None:
    if start < 0 or size < 0 or start + size > source.size:
        raise IntegrityError(f"{source.shown} has {source.size} bytes, byte {start + size} is asked for")
