import gzip
import io
import tarfile
from pathlib import Path

import pytest

from tests.zootool.images.published_sets import write_files, write_tar
from zootool.errors import FormatError
from zootool.images.published import Located, read_contents

LIMITS = {"a/x": 100, "a/y": 100}


def test_members_are_taken_by_exact_name_and_nothing_else_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    write_tar(archive, {"x": b"1", "b/a/x": b"2", "a/x": b"3", "a/x.bak": b"4", "a/y": b"5", "huge": bytes(1000)})
    located = {name: Located(archive, name) for name in ("a/y", "a/x")}
    assert read_contents(located, LIMITS) == {"a/x": b"3", "a/y": b"5"}


def test_a_member_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar.gz", {"a/x": b"3"})
    with pytest.raises(FormatError, match=r"a\.tar\.gz holds no a/y"):
        read_contents({"a/y": Located(tmp_path / "a.tar.gz", "a/y")}, LIMITS)


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("a/x")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    with pytest.raises(FormatError, match=r"a\.tar\.gz"):
        read_contents({"a/x": Located(tmp_path / "a.tar.gz", "a/x")}, LIMITS)


@pytest.mark.parametrize("kind", ["gz", "tar"])
def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "gz":
        place = Located(tmp_path / "x.gz")
        place.path.write_bytes(gzip.compress(bytes(10**7)))
    else:
        place = Located(tmp_path / "a.tar.gz", "a/x")
        write_tar(place.path, {"a/x": bytes(10**7)})
    with pytest.raises(FormatError, match="holds more than 100 bytes"):
        read_contents({"a/x": place}, LIMITS)


@pytest.mark.parametrize("length", [0, 5, 40])
def test_a_truncated_archive_is_a_format_error(tmp_path: Path, length: int) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        info = tarfile.TarInfo("a/x")
        info.size = 50
        tar.addfile(info, io.BytesIO(bytes(range(50))))
    files = {"a.tar.gz": content.getvalue()[:length], "x.gz": gzip.compress(bytes(range(50)))[: min(length, 40)]}
    write_files(tmp_path, files)
    for place in (Located(tmp_path / "a.tar.gz", "a/x"), Located(tmp_path / "x.gz")):
        if place.path.name == "x.gz" and length == 0:
            continue  # an empty gzip file is an empty file, which the format's reader refuses
        with pytest.raises(FormatError, match="is truncated or damaged"):
            read_contents({"a/x": place}, LIMITS)
