"""Torch files without code in them, whose tensors, storages and containers lie."""

import math
import struct
from collections.abc import Iterator

import numpy as np

from tests.zootool.collect.hostile.assembler import (
    End,
    Entry,
    call,
    entries,
    group,
    integer,
    legacy,
    mapping,
    named,
    numbers,
    pickled,
    storage,
    tensor,
    text,
    torch_members,
    torch_zip,
    zip_file,
)  # fmt: skip
from tests.zootool.collect.hostile.case import Case
from zootool.errors import IntegrityError, NumericalError, UntrustedError

FOUR = {"0": np.arange(4, dtype="<f4").tobytes()}
HUGE = 10**10
FINE = tensor((2, 2), (2, 1))


def of(value: bytes, content: dict[str, bytes] | None = None) -> bytes:
    """A zip file whose state_dict has the one tensor x."""
    return torch_zip(pickled(mapping(x=value)), FOUR if content is None else content)


def tensor_cases() -> Iterator[Case]:
    for name, value, match in layouts():
        yield Case(f"{name} (zip)", of(value), match)
        yield Case(f"{name} (legacy)", legacy(pickled(mapping(x=value)), FOUR), match)
    yield from kinds()
    yield from storages()
    yield from names()
    yield Case("NaN", of(FINE, {"0": np.full(4, math.nan, "<f4").tobytes()}), "NaN", NumericalError)
    yield Case("infinity", of(FINE, {"0": np.full(4, -math.inf, "<f4").tobytes()}), "infinities", NumericalError)
    amplified = entries(*((f"x{i}", tensor((1 << 16,), (1,), 0, storage(1 << 16))) for i in range(300)))
    yield Case(
        "aliases of one large storage", torch_zip(pickled(amplified), {"0": bytes(1 << 18)}), "describes tensors of"
    )


def layouts() -> list[tuple[str, bytes, str]]:
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return [
        ("a stride-0 giant", tensor((HUGE,), (0,), 0, storage(4)), "it repeats them"),
        ("a stride-0 giant of many axes", tensor((2,) * 34, (0,) * 34), "at most 16"),
        ("a small tensor that repeats", tensor((4, 4), (0, 1)), "it repeats them"),
        ("a negative size", tensor((-2,), (1,)), "has the shape"),
        ("two negative sizes", tensor((-2, -2), (2, 1)), "has the shape"),
        ("a negative stride", tensor((2,), (-1,), 1), "strides"),
        ("a negative offset", tensor((2,), (1,), -1), "offset"),
        ("a size that overflows", tensor((2**63, 2), (2, 1)), "has the shape"),
        ("sizes whose product overflows", tensor((2**32, 2**32), (0, 0)), "no file can hold"),
        ("an empty tensor that overflows", tensor((0, 2**40, 2**40), (1, 1, 1)), "no file can hold"),
        ("a stride that overflows", tensor((2,), (2**62,)), "strides"),
        ("a stride beyond the storage", tensor((2, 2), (4, 1)), "ends at byte 24 of a storage of 16"),
        ("an offset beyond the storage", tensor((2,), (1,), 3), "ends at byte 20"),
        ("an empty tensor beyond the storage", tensor((0,), (1,), 5), "ends at byte 20"),
        ("more strides than sizes", tensor((2,), (1, 1)), "1 axes and 2 strides"),
        ("65 axes", tensor((1,) * 65, (1,) * 65), "65 axes"),
        (
            "sizes that are no integers",
            call(rebuild, storage(4), b"K\x00", group(b"\x88"), numbers((1,)), b"\x89", b"}"),
            "has the shape",
        ),
        (
            "sizes that are no tuple",
            call(rebuild, storage(4), b"K\x00", integer(4), integer(1), b"\x89", b"}"),
            "has the shape",
        ),
        (
            "a tensor without a storage",
            call(rebuild, text("0"), b"K\x00", numbers((1,)), numbers((1,)), b"\x89", b"}"),
            "without a storage",
        ),
        (
            "a parameter without a tensor",
            call(named("torch._utils", "_rebuild_parameter"), b"N", b"\x88", b"}"),
            "without a tensor",
        ),
        ("a storage by itself", storage(4), "bare storage"),
    ]


def kinds() -> Iterator[Case]:
    """Tensors that aren't dense arrays of real numbers."""
    utils = "torch._utils"
    hooks = call(named("collections", "OrderedDict"))
    complex_storage = storage(2, kind="ComplexFloatStorage")
    values: dict[str, tuple[bytes, str]] = {
        "complex": (tensor((2,), (1,), 0, complex_storage), "complex numbers"),
        "quantized": (call(named(utils, "_rebuild_qtensor"), storage(4, kind="QInt8Storage"), b"K\x00"), "quantized"),
        "a quantized storage": (tensor((4,), (1,), 0, storage(16, kind="QInt8Storage")), "quantized"),
        "sparse": (call(named(utils, "_rebuild_sparse_tensor"), b"N", b"N"), "sparse"),
        "sparse rows": (call(named(utils, "_rebuild_sparse_csr_tensor"), b"N", b"N"), "sparse"),
        "meta": (
            call(named(utils, "_rebuild_meta_tensor_no_storage"), named("torch", "float32"), numbers((HUGE,))),
            "meta",
        ),
        "a storage on meta": (tensor((4,), (1,), 0, storage(4, place="meta")), "'meta', which has no bytes"),
        "nested": (call(named(utils, "_rebuild_nested_tensor"), b"N"), "nested"),
        "float8": (
            call(
                named(utils, "_rebuild_tensor_v3"), storage(4), b"K\x00", numbers((4,)), numbers((1,)), b"\x89", hooks
            ),
            "dtype",
        ),
        "an unknown storage": (tensor((4,), (1,), 0, storage(4, kind="ObjectStorage")), "asks for torch.ObjectStorage"),
        "a class as storage": (tensor((4,), (1,), 0, storage(4, kind="dict", module="builtins")), "no known type"),
    }
    for name, (value, match) in values.items():
        error = UntrustedError if "asks for" in match else Case.error
        yield Case(f"{name} tensor (zip)", of(value), match, error)
        yield Case(f"{name} tensor (legacy)", legacy(pickled(mapping(x=value)), FOUR), match, error)


def storages() -> Iterator[Case]:
    """Storages that aren't what the pickle says."""
    one = pickled(mapping(x=FINE))
    yield Case("a storage smaller than said", torch_zip(one, {"0": bytes(12)}), "has 12 bytes for storage 0")
    yield Case("a storage larger than said", torch_zip(one, {"0": bytes(20)}), "has 20 bytes for storage 0")
    yield Case("a storage that is missing", torch_zip(one, {"1": bytes(16)}), "lacks the storage 0")
    giant = tensor((1,), (1,), 0, storage(1 << 46))
    yield Case("a giant storage", of(giant), "has 16 bytes for storage 0, its pickle says")
    yield Case("a giant storage (legacy)", legacy(pickled(mapping(x=giant)), FOUR), "has 4 elements for storage 0")
    yield Case("a storage of -1 elements", of(tensor((1,), (1,), 0, storage(-1))), "a storage of -1 elements")
    yield Case("a storage's path", of(tensor((1,), (1,), 0, storage(4, key="../data.pkl"))), "names a storage")
    yield Case(
        "a storage that is said twice",
        torch_zip(pickled(mapping(x=FINE, y=tensor((4,), (1,), 0, storage(4, kind="IntStorage")))), FOUR),
        "says two things about storage 0",
    )
    identity = group(text("module"), named("torch", "FloatStorage"), text("0"), text("cpu"), b"K\x04") + b"Q"
    yield Case("an identity that is no storage", of(identity), "outside of it that is no storage", UntrustedError)
    yield Case("an identity that is text", of(text("storage") + b"Q"), "no storage", UntrustedError)
    yield Case("an identity in a line", of(b"Pstorage\n"), "opcode PERSID", UntrustedError)
    fine = legacy(one, FOUR)
    yield Case("bytes behind the last storage", fine + b"\0", "1 bytes behind")
    yield Case("a storage that is cut off (legacy)", fine[:-1], "cut off in storage 0")
    yield Case("a count that is cut off (legacy)", fine[:-20], "bytes, byte", IntegrityError)
    yield Case(
        "a count that lies (legacy)", fine[:-24] + struct.pack("<q", 1 << 60) + fine[-16:], "elements for storage 0"
    )
    yield Case("a negative count (legacy)", fine[:-24] + struct.pack("<q", -4) + fine[-16:], "has -4 elements")
    keys = pickled(b"](" + text("0") + text("0") + b"e")
    yield Case("a storage listed twice (legacy)", legacy(one, FOUR, keys=keys), "no list of its storages")
    yield Case("storages that aren't listed (legacy)", legacy(one, {"1": bytes(16)}), "lists 1 storages")


def names() -> Iterator[Case]:
    """Names of tensors that would do harm where they are shown or used as paths."""
    harmful = {
        "a path upwards": ("../../etc/x", "leads out"),
        "an absolute path": ("/etc/x", "absolute"),
        "an absolute path of Windows": ("C:\\x", "absolute"),
        "terminal escapes": ("\x1b]0;owned\x07\x1b[2J", r"x1b\]0;owned"),
        "a line break": ("x\r\nFINISHED", "control characters"),
        "text that runs backwards": ("x\u202egnp.exe", "control characters"),
        "a zero byte": ("x\0y", "control characters"),
        "10,000 characters": ("x" * 10_000, "characters, at most 256"),
    }
    for shown, (name, match) in harmful.items():
        yield Case(f"a tensor's name: {shown}", torch_zip(pickled(entries((name, FINE))), FOUR), match)
        inside = mapping(model=entries((name, FINE)))
        if "absolute" not in match:
            yield Case(f"a tensor's name, further in: {shown}", legacy(pickled(inside), FOUR), match)


def container_cases() -> Iterator[Case]:
    """Zip files and legacy files that are damaged or lie about their parts."""
    one = pickled(mapping(x=FINE))
    fine = torch_zip(one, FOUR)
    bomb = Entry("a/data.pkl", bytes(100_000_000), method=8)
    yield Case(
        "a deflate bomb as pickle",
        torch_zip(one, FOUR, pickle=bomb),
        "compressed, it has to be stored|pickle of 100000000",
    )
    yield Case("a deflated pickle", torch_zip(one, FOUR, pickle=Entry("a/data.pkl", one * 50, method=8)), "compressed")
    yield Case(
        "a deflate bomb as storage",
        torch_zip(
            pickled(mapping(x=tensor((25_000_000,), (1,), 0, storage(25_000_000)))),
            data_0=Entry("a/data/0", bytes(100_000_000), method=8),
        ),
        "describes tensors of|compressed",
    )
    yield Case(
        "an unknown compression",
        torch_zip(one, data_0=Entry("a/data/0", FOUR["0"], method=99)),
        "two headers|compressed",
    )
    yield Case(
        "a wrong CRC of the pickle", torch_zip(one, FOUR, pickle=Entry("a/data.pkl", one, crc=1)), "CRC", IntegrityError
    )
    yield Case(
        "a wrong CRC of a storage", torch_zip(one, data_0=Entry("a/data/0", FOUR["0"], crc=1)), "CRC", IntegrityError
    )
    yield Case("encrypted", torch_zip(one, FOUR, pickle=Entry("a/data.pkl", one, flags=1)), "encrypted")
    yield Case(
        "a size that lies",
        torch_zip(one, FOUR, pickle=Entry("a/data.pkl", one, num_bytes=2**31)),
        "pickle of 2147483648",
    )
    for name in ("../x", "/etc/x", "a/../../x", "a\\x", "a/\x1b[2J", "a/" + "x" * 2000):
        members = [*torch_members(one, FOUR), Entry(name, b"x")]
        yield Case(f"a member {name[:12]!r}", zip_file(members), "holds a member|leads out", UntrustedError)
    link = Entry("a/link", b"/etc/passwd", attributes=0xA1FF0000)
    yield Case("a link", zip_file([*torch_members(one, FOUR), link]), "holds a link", UntrustedError)
    yield Case(
        "a pickle twice", zip_file([*torch_members(one, FOUR), Entry("a/data.pkl", one)]), "twice", UntrustedError
    )
    inner = [*torch_members(one, FOUR), Entry("a/data/1", bytes(8), start=10)]
    yield Case("a member inside another", zip_file(inner), "overlap", UntrustedError)
    same = [*torch_members(one, FOUR), Entry("a/data/1", FOUR["0"], start=0)]
    yield Case("two members at one place", zip_file(same), "overlap", UntrustedError)
    yield Case(
        "two names for one member",
        torch_zip(one, FOUR, pickle=Entry("a/data.pkl", one, local_name="a/data.pkx")),
        "two headers",
        UntrustedError,
    )
    longer = Entry("a/data.pkl", one, local_name="a/data.pkl.x")
    yield Case("a longer name for one member", torch_zip(one, FOUR, pickle=longer), "two headers", UntrustedError)
    yield Case("a file cut off in its directory", fine[:-30], "cut off|without a directory")
    yield Case("a file cut off in the middle", fine[: len(fine) // 2], "without a directory")
    yield Case("a file's beginning", fine[:4], "without a directory")
    yield Case(
        "a directory with more in it", torch_zip(one, FOUR, End(extra=b"PK\1\2" + bytes(10))), "describe nothing"
    )
    yield Case("fewer members than claimed", torch_zip(one, FOUR, End(count=5)), "cut off|claims")
    yield Case("65,534 members claimed", torch_zip(one, FOUR, End(count=65534)), "claims 65534 members")
    yield Case("a directory elsewhere", torch_zip(one, FOUR, End(start=0)), "ends at byte")
    yield Case("a directory far beyond", torch_zip(one, FOUR, End(size=2**31)), "ends at byte")
    yield Case("an end behind the end", torch_zip(one, FOUR, End(comment=fine[-22:])), "ends at byte|broken")
    yield from wide_directories(one)
    yield Case("big-endian", torch_zip(one, FOUR, byteorder=Entry("a/byteorder", b"big")), "byte order 'big'")
    yield Case("code of TorchScript", torch_zip(one, FOUR, data_x=Entry("a/constants.pkl", one)), "TorchScript")
    yield Case("no pickle", zip_file([Entry("a/x", b"x")]), "without data.pkl")
    yield Case("two folders", zip_file([*torch_members(one, FOUR), Entry("b/x", b"x")]), "one folder")
    system = pickled(mapping(protocol_version=integer(1001), little_endian=b"\x89"))
    yield Case("big-endian (legacy)", legacy(one, FOUR, system=system), "byte order")
    yield Case("another protocol (legacy)", legacy(one, FOUR, protocol=pickled(integer(1002))), "protocol 1002")
    yield Case("another magic number", legacy(one, FOUR, magic=pickled(integer(5))), "that torch didn't write")
    yield Case("a code in the magic number's place", legacy(one, FOUR, magic=pickled(FINE)), "torch didn't write")


def wide_directories(one: bytes) -> Iterator[Case]:
    """Zip files whose 64-bit directory isn't true."""

    def wide(count: int, size: int, start: int, at: int, length: int = 44) -> bytes:
        record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", length, 45, 45, 0, 0, count, count, size, start)
        return record + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)

    members = torch_members(one, FOUR)
    plain = zip_file(members)
    size, start = struct.unpack("<2L", plain[-10:-2])
    at = start + size
    ends = {
        "a 64-bit directory that is missing": (End(count=0xFFFF), "isn't there"),
        "a 64-bit directory that says otherwise": (
            End(wide=wide(2, size, start, at)),
            "two zip directories that differ",
        ),
        "a 64-bit directory of 2^60 members": (End(count=0xFFFF, wide=wide(2**60, size, start, at)), "claims"),
        "a 64-bit directory of 2^60 bytes": (
            End(size=0xFFFFFFFF, wide=wide(len(members), 2**60, start, at)),
            "ends at byte",
        ),
        "a 64-bit directory that is elsewhere": (End(wide=wide(len(members), size, start, 0)), "broken 64-bit"),
        "a 64-bit directory beyond the file": (End(wide=wide(len(members), size, start, 2**62)), "broken 64-bit"),
        "a 64-bit directory of a wrong length": (End(wide=wide(len(members), size, start, at, 2**40)), "broken 64-bit"),
    }
    for name, (end, match) in ends.items():
        yield Case(name, zip_file(members, end), match)
    for name, extra in (("no", b""), ("too short a", struct.pack("<HHL", 1, 4, 7))):
        entry = Entry("a/data/0", FOUR["0"], num_bytes=0xFFFFFFFF, extra=extra)
        yield Case(f"{name} 64-bit size", torch_zip(one, data_0=entry), "64-bit sizes are missing")
    giant = Entry("a/data/0", FOUR["0"], num_bytes=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 2**62))
    yield Case("a 64-bit size of 2^62", torch_zip(one, data_0=giant), "has 4611686018427387904 bytes for storage 0")
