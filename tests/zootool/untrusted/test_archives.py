import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from zootool.errors import FormatError, IntegrityError, MissingError, UntrustedError
from zootool.formats import published_zoo
from zootool.formats.published_zoo import unpack_members
from zootool.untrusted import zip_files
from zootool.untrusted.zip_files import ZipArchive

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
    assert len(list(archive)) == len(FILES)
    for name, content in FILES.items():
        assert archive.read(name) == content
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
    assert len(list(found)) == 70_001
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


def test_limits_of_archives_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(tmp_path / "zoo.zip", zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zip_files, "_MAX_MEMBER_BYTES", 1000)
    with pytest.raises(FormatError, match="too much"):
        ZipArchive(tmp_path / "zoo.zip").read("zoo/net 1/ä.pth")
    monkeypatch.setattr(zip_files, "_MAX_MEMBERS", 4)
    with pytest.raises(FormatError, match="claims 5 members"):
        ZipArchive(tmp_path / "zoo.zip")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("is_gzip", [False, True], ids=["tar", "tar.gz"])
def test_members_of_a_tar_are_written_as_they_are(tmp_path: Path, form: int, is_gzip: bool) -> None:
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
    wanted = {name.rpartition("/")[2]: content for name, content in FILES.items()}
    found = unpack_members(path, tmp_path / "out", list(wanted))
    assert [(file.name, file.read_bytes()) for file in found] == list(wanted.items())
    unpack_members(path, tmp_path / "one", ["readme.txt"])
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "one").iterdir()] == [("readme.txt", b"hello")]
    with pytest.raises(FormatError, match="lacks none"):
        unpack_members(path, tmp_path / "two", ["readme.txt", "none"])


def test_limits_of_tars_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "zoo.tar", "w") as archive:
        for name in ("a", "b", "c"):
            member = tarfile.TarInfo(name)
            member.size = 25_600
            archive.addfile(member, io.BytesIO(bytes(25_600)))
    monkeypatch.setattr(published_zoo, "_MAX_MEMBER_BYTES", 20_000)
    with pytest.raises(UntrustedError, match="a is no single plain file"):
        unpack_members(tmp_path / "zoo.tar", tmp_path / "out", ["a"])
    monkeypatch.setattr(published_zoo, "_MAX_MEMBERS", 1)
    with pytest.raises(FormatError, match="more than 1 members"):
        unpack_members(tmp_path / "zoo.tar", tmp_path / "out", ["c"])
    assert list((tmp_path / "out").iterdir()) == []
