"""Torch files whose containers are damaged or lie: the zip format's directory, the legacy format's parts."""

import struct
from collections.abc import Iterator

from tests.zootool.untrusted.hostile.assembler import (
    End,
    Entry,
    bomb_member,
    integer,
    legacy,
    mapping,
    pickled,
    storage,
    tensor,
    torch_members,
    torch_zip,
    zip_file,
)  # fmt: skip
from tests.zootool.untrusted.hostile.case import Case
from tests.zootool.untrusted.hostile.tensor_files import FINE, FOUR
from zootool.errors import IntegrityError, UntrustedError


def container_cases() -> Iterator[Case]:
    """Zip files and legacy files that are damaged or lie about their parts."""
    one = pickled(mapping(x=FINE))
    yield from _lying_members(one)
    yield from _unwanted_members(one)
    yield from _broken_directories(one)
    yield from wide_directories(one)
    yield from _legacy_files(one)


def _lying_members(one: bytes) -> Iterator[Case]:
    bomb = bomb_member("a/data.pkl")
    yield Case(
        "a deflate bomb as pickle",
        torch_zip(one, FOUR, pickle=bomb),
        "compressed, it has to be stored|pickle of 419430400",
    )
    yield Case("a deflated pickle", torch_zip(one, FOUR, pickle=Entry("a/data.pkl", one * 50, method=8)), "compressed")
    yield Case(
        "a deflate bomb as storage",
        torch_zip(
            pickled(mapping(x=tensor((100 << 20,), (1,), 0, storage(100 << 20)))),
            data_0=bomb_member("a/data/0"),
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


def _unwanted_members(one: bytes) -> Iterator[Case]:
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
    yield Case("big-endian", torch_zip(one, FOUR, byteorder=Entry("a/byteorder", b"big")), "byte order 'big'")
    yield Case("code of TorchScript", torch_zip(one, FOUR, data_x=Entry("a/constants.pkl", one)), "TorchScript")
    yield Case("no pickle", zip_file([Entry("a/x", b"x")]), "without data.pkl")
    yield Case("two folders", zip_file([*torch_members(one, FOUR), Entry("b/x", b"x")]), "one folder")


def _broken_directories(one: bytes) -> Iterator[Case]:
    fine = torch_zip(one, FOUR)
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


def _legacy_files(one: bytes) -> Iterator[Case]:
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
