"""Pickles, torch files and zip files put together byte by byte, as no writer would."""

import struct
import zlib
from dataclasses import dataclass
from functools import cache

STOP = b"."


def text(value: str) -> bytes:
    """A string."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def integer(value: int) -> bytes:
    """An integer of any size."""
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def named(module: str, name: str) -> bytes:
    """A class or function."""
    return f"c{module}\n{name}\n".encode()


def group(*items: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(items) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    """What a function returns."""
    return function + group(*arguments) + b"R"


def mapping(**items: bytes) -> bytes:
    """A dict."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def entries(*pairs: tuple[str, bytes]) -> bytes:
    """A dict whose keys are any text."""
    return b"}(" + b"".join(text(key) + value for key, value in pairs) + b"u"


def storage(count: int, key: str = "0", kind: str = "FloatStorage", place: str = "cpu", module: str = "torch") -> bytes:
    """A storage that lies outside of the pickle."""
    return group(text("storage"), named(module, kind), text(key), text(place), integer(count)) + b"Q"


def numbers(values: tuple[int, ...]) -> bytes:
    """A tuple of integers."""
    return group(*(integer(value) for value in values))


def tensor(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0, within: bytes = storage(4)) -> bytes:
    """A tensor over a storage."""
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    hooks = call(named("collections", "OrderedDict"))
    return call(rebuild, within, integer(offset), numbers(shape), numbers(strides), b"\x89", hooks)


def pickled(body: bytes, protocol: int = 2) -> bytes:
    """A whole pickle."""
    return b"\x80" + bytes([protocol]) + body + STOP


def legacy(pickle: bytes, storages: dict[str, bytes] | None = None, *, itemsize: int = 4, **changes: bytes) -> bytes:
    """A file of torch's older format."""
    storages = {} if storages is None else storages
    parts = {
        "magic": pickled(integer(0x1950A86A20F9469CFC6C)),
        "protocol": pickled(integer(1001)),
        "system": pickled(mapping(protocol_version=integer(1001), little_endian=b"\x88", type_sizes=b"}")),
        "pickle": pickle,
        "keys": pickled(b"](" + b"".join(text(key) for key in storages) + b"e"),
    } | changes
    counted = (struct.pack("<q", len(content) // itemsize) + content for content in storages.values())
    return b"".join(parts.values()) + b"".join(counted)


@dataclass(frozen=True)
class Entry:
    """A zip file's member, with everything that its headers say; None is what is true."""

    name: str
    content: bytes
    method: int = 0
    crc: int | None = None
    num_bytes: int | None = None
    local_name: str | None = None
    start: int | None = None
    flags: int = 0
    attributes: int = 0
    extra: bytes = b""
    packed: bytes | None = None


@dataclass(frozen=True)
class End:
    """The end of a zip file's directory; None is what is true."""

    count: int | None = None
    size: int | None = None
    start: int | None = None
    extra: bytes = b""
    wide: bytes = b""
    comment: bytes = b""


def zip_file(members: list[Entry], end: End | None = None) -> bytes:
    """A zip file."""
    end = end or End()
    body, directory = b"", b""
    for entry in members:
        start = len(body) if entry.start is None else entry.start
        packed = deflate(entry.content) if entry.method == 8 else entry.content
        packed = packed if entry.packed is None else entry.packed
        crc = zlib.crc32(entry.content) if entry.crc is None else entry.crc
        num_bytes = len(entry.content) if entry.num_bytes is None else entry.num_bytes
        name, local = entry.name.encode(), (entry.local_name or entry.name).encode()
        common = struct.pack("<5H3L", 20, entry.flags, entry.method, 0, 0, crc, len(packed), num_bytes)
        if entry.start is None:
            body += b"PK\3\4" + common + struct.pack("<2H", len(local), 0) + local + packed
        tail = struct.pack("<5H2L", len(name), len(entry.extra), 0, 0, 0, entry.attributes, start)
        directory += b"PK\1\2" + struct.pack("<H", 20) + common + tail + name + entry.extra
    directory += end.extra
    count = len(members) if end.count is None else end.count
    size = len(directory) if end.size is None else end.size
    start = len(body) if end.start is None else end.start
    record = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, start, len(end.comment))
    return body + directory + end.wide + record + end.comment


def deflate(content: bytes) -> bytes:
    """Raw deflate, as zip files have it."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return engine.compress(content) + engine.flush()


def torch_zip(
    pickle: bytes, storages: dict[str, bytes] | None = None, end: End | None = None, /, **changes: Entry
) -> bytes:
    """A file of torch's zip format; `changes` replace the members `pickle`, `byteorder` and `data_KEY`."""
    return zip_file(torch_members(pickle, storages, **changes), end)


def torch_members(pickle: bytes, storages: dict[str, bytes] | None = None, /, **changes: Entry) -> list[Entry]:
    """The members of a file of torch's zip format."""
    members = {
        "pickle": Entry("a/data.pkl", pickle),
        "byteorder": Entry("a/byteorder", b"little"),
        "version": Entry("a/version", b"3\n"),
        **{f"data_{key}": Entry(f"a/data/{key}", content) for key, content in (storages or {}).items()},
    }
    return list((members | changes).values())


@cache
def bomb() -> bytes:
    """400 MB of zeros, deflated."""
    engine = zlib.compressobj(1, zlib.DEFLATED, -15)
    megabyte = engine.compress(bytes(1 << 20)) + engine.flush(zlib.Z_FULL_FLUSH)
    return megabyte * 400 + engine.flush()


def bomb_member(name: str, num_bytes: int = 400 << 20) -> Entry:
    """A deflate bomb that says it holds `num_bytes`."""
    return Entry(name, b"", method=8, crc=0, num_bytes=num_bytes, packed=bomb())
