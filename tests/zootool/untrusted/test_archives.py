import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from zootool.errors import FormatError, IntegrityError, MissingError
from zootool.untrusted.archives import ArchiveLimits, ZipArchive
from zootool.untrusted.tar_stream import read_tar

FILES = {
    "zoo/readme.txt": b"hello",
    "zoo/net 1/ä.pth": bytes(range(256)) * 100,
    "zoo/empty": b"",
    "zoo/" + "long/" * 40 + "name": b"x" * 1000,
}


def write_zip(path: Path, method: int) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("zoo")
        for name, content in FILES.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_a_zip_are_read_by_their_names(tmp_path: Path, method: int) -> None:
    write_zip(tmp_path / "zoo.zip", method)
    archive = ZipArchive(tmp_path / "zoo.zip")
    assert list(archive) == list(FILES)
    assert len(archive) == len(FILES)
    for name, content in FILES.items():
        assert archive.read(name) == content
        assert archive.num_bytes(name) == len(content)
        member = archive.open(name)
        assert member.size == len(content)
        assert bytes(member.read(0, member.size)) == content
        assert "zoo.zip (zoo/" in member.shown


def test_a_zip_with_64_bit_sizes_and_a_comment(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zoo.zip", "w") as archive:
        archive.comment = b"a zoo of networks"
        with archive.open("a", "w", force_zip64=True) as member:
            member.write(b"hello")
        for i in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"b{i}"), b"")
    found = ZipArchive(tmp_path / "zoo.zip")
    assert len(found) == 70_001
    assert found.read("a") == b"hello"


def test_a_name_that_is_not_there_is_told_with_those_near_to_it(tmp_path: Path) -> None:
    write_zip(tmp_path / "zoo.zip", zipfile.ZIP_STORED)
    with pytest.raises(MissingError, match=r"has no member 'zoo/readme'.*zoo/readme\.txt"):
        ZipArchive(tmp_path / "zoo.zip").read("zoo/readme")
    with pytest.raises(MissingError, match="can't be read"):
        ZipArchive(tmp_path / "none.zip")


def test_a_damaged_member_is_noticed(tmp_path: Path) -> None:
    write_zip(tmp_path / "zoo.zip", zipfile.ZIP_STORED)
    content = (tmp_path / "zoo.zip").read_bytes()
    (tmp_path / "zoo.zip").write_bytes(content.replace(b"hello", b"hallo"))
    with pytest.raises(IntegrityError, match=r"zoo\.zip zoo/readme\.txt doesn't match its CRC"):
        ZipArchive(tmp_path / "zoo.zip").read("zoo/readme.txt")


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    write_zip(tmp_path / "zoo.zip", zipfile.ZIP_STORED)
    archive = ZipArchive(tmp_path / "zoo.zip")
    with (tmp_path / "zoo.zip").open("ab") as file:
        file.write(b"more")
    with pytest.raises(IntegrityError, match="changed while it was read"):
        archive.read("zoo/readme.txt")


def test_limits_of_archives_can_be_set(tmp_path: Path) -> None:
    write_zip(tmp_path / "zoo.zip", zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="claims 5 members"):
        ZipArchive(tmp_path / "zoo.zip", ArchiveLimits(max_members=4))
    with pytest.raises(FormatError, match="too much"):
        ZipArchive(tmp_path / "zoo.zip", ArchiveLimits(max_member_bytes=1000)).read("zoo/net 1/ä.pth")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("is_gzip", [False, True], ids=["tar", "tar.gz"])
def test_members_of_a_tar_come_in_its_order(tmp_path: Path, form: int, is_gzip: bool) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        folder = tarfile.TarInfo("zoo")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = 0.5 if form == tarfile.PAX_FORMAT else 0
            archive.addfile(member, io.BytesIO(content))
    path = tmp_path / "zoo.tar"
    path.write_bytes(gzip.compress(sink.getvalue()) if is_gzip else sink.getvalue())
    assert list(read_tar(path)) == list(FILES.items())
    assert list(read_tar(path, {"zoo/readme.txt", "zoo/none"})) == [("zoo/readme.txt", b"hello")]
    with pytest.raises(FormatError, match="of 25600 bytes"):
        list(read_tar(path, limits=ArchiveLimits(max_member_bytes=20_000)))


def test_a_tar_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="is not there"):
        list(read_tar(tmp_path / "none.tar"))
