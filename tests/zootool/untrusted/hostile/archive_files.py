"""Hostile archives around checkpoints: zip and tar."""

import gzip
import io
import tarfile
from collections.abc import Iterator
from typing import Any

from tests.zootool.untrusted.hostile.assembler import Entry, bomb_member, zip_file
from tests.zootool.untrusted.hostile.case import Case
from zootool.errors import IntegrityError, UntrustedError

UNREADABLE = "isn't a readable archive"


def tar_of(*files: tuple[str, bytes], **fields: Any) -> bytes:
    """A tar archive; `fields` are set on each member."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=fields.pop("format", tarfile.GNU_FORMAT)) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def tar_cases() -> Iterator[Case]:
    refused = {
        "a symbolic link": tar_of(("a", b""), type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "a hard link": tar_of(("a", b""), type=tarfile.LNKTYPE, linkname="../../x"),
        "a link with a long name": tar_of(("a", b""), type=tarfile.SYMTYPE, linkname="x/" * 200),
        "a character device": tar_of(("a", b""), type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        "a block device": tar_of(("a", b""), type=tarfile.BLKTYPE),
        "a pipe": tar_of(("a", b""), type=tarfile.FIFOTYPE),
        "a path upwards": tar_of(("../../etc/x", b"x")),
        "an absolute path": tar_of(("/etc/x", b"x")),
        "a long path upwards": tar_of(("x/" * 80 + "../" * 100 + "etc/x", b"x")),
        "a path upwards in a note": tar_of(("x/" * 80 + "../" * 100 + "etc/ä", b"x"), format=tarfile.PAX_FORMAT),
        "escapes in a name": tar_of(("\x1b[2J", b"x")),
        "a name twice": tar_of(("a", b"x"), ("a", b"y")),
        "an unknown type": tar_of(("a", b"x"), type=b"Z"),
        "a sparse file": tar_of(("a", b"x"), type=tarfile.GNUTYPE_SPARSE),
    }
    for name, content in refused.items():
        match = "is no single plain file|leads out of its folder|an absolute path|control characters"
        yield Case(f"tar: {name}", content, match, UntrustedError, "tar", "zoo.tar")
        yield Case(f"tar.gz: {name}", gzip.compress(content), match, UntrustedError, "tar", "zoo.tar.gz")
    fine = tar_of(("a", b"x" * 2000))
    lying = bytearray(fine)
    lying[124:136] = b"77777777777\0"
    lying[148:156] = b"%06o\0 " % (sum(lying[:148]) + sum(lying[156:512]) + 8 * 32)
    endless = bytearray(fine)
    endless[124:136] = b"\x80" + (1 << 80).to_bytes(11, "big")
    endless[148:156] = b"%06o\0 " % (sum(endless[:148]) + sum(endless[156:512]) + 8 * 32)
    wide = tar_of(("a", b""), pax_headers={"comment": "x" * 200_000}, format=tarfile.PAX_FORMAT)
    broken = {
        "a checksum that is wrong": (fine[:10] + b"?" + fine[11:], UNREADABLE),
        "a size that lies": (bytes(lying), "of 8589934591 bytes"),
        "a size of 2^80": (bytes(endless), "of 1208925819614629174706176 bytes: too much"),
        "cut off": (fine[:1500], UNREADABLE),
        "200 kB of notes": (wide, "bytes about one member"),
        "a gzip bomb": (gzip.compress(tar_of(("a", bytes(100_000_000)))), "too much"),
        "damaged gzip": (gzip.compress(fine)[:-30] + bytes(30), UNREADABLE),
        "cut-off gzip": (gzip.compress(fine)[:40], UNREADABLE),
        "a zip": (zip_file([Entry("a", b"x" * 1000)]), UNREADABLE),
        "nothing": (b"", UNREADABLE),
    }
    for name, (content, match) in broken.items():
        yield Case(f"tar: {name}", content, match, reader="tar", file_name="zoo.tar")


def archive_cases() -> Iterator[Case]:
    bomb, lying = bomb_member("a"), bomb_member("a", num_bytes=2000)
    contents = {
        "a deflate bomb": ([bomb], "too much", Case.error),
        "a deflate bomb that denies it": ([lying], "CRC", IntegrityError),
        "a path upwards": ([Entry("../x", b"x")], "leads out", UntrustedError),
        "an absolute path": ([Entry("/x", b"x")], "absolute", UntrustedError),
        "a link": ([Entry("a", b"/etc/passwd", attributes=0xA1FF0000)], "a link", UntrustedError),
        "a name twice": ([Entry("a", b"x"), Entry("a", b"y")], "twice", UntrustedError),
        "an unknown compression": ([Entry("a", b"x", method=12)], "method 12", Case.error),
        "a size of 2^31": ([Entry("a", b"x", num_bytes=2**31)], "too much", Case.error),
        "encrypted": ([Entry("a", b"x", flags=1)], "encrypted", Case.error),
    }
    for name, (members, match, error) in contents.items():
        yield Case(f"archive: {name}", zip_file(members), match, error, "archive", "zoo.zip")
    yield Case("archive: a tar", tar_of(("a", b"x")), "without a directory", reader="archive", file_name="zoo.zip")
