import io
import lzma
import tarfile
from pathlib import Path

import pytest

from zootool.catalog import PublishedFile, PublishedZoo, load_catalog
from zootool.errors import FormatError, IntegrityError, MissingError, UntrustedError
from zootool.formats import readers
from zootool.formats.published_zoo import collect_by_hand, collect_zoo, plan_collection, unpack_members

CONTENT = {"weights.npy": b"w" * 5000, "metrics.csv.gz": b"m" * 40, "layout.csv": b"l" * 10}


def write_tar(path: Path, members: dict[str, bytes], *, link: str | None = None, again: str | None = None) -> None:
    with lzma.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"zoo/{name}")
            info.size = len(content)
            if name == link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
            tar.addfile(info, io.BytesIO(content))
        if again:
            info = tarfile.TarInfo(f"other/{again}")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))


def zoo_of(path: Path, **parts: object) -> PublishedZoo:
    file = PublishedFile(path=f"cnns/{path.name}", urls=[path.as_uri()], **parts)  # type: ignore[arg-type]
    return PublishedZoo(
        title="CNNs", page="https://example.org/zoo", layout="small-cnn-zoo", licence="none", citation="none",
        description="none", expects=tuple(CONTENT), files=(file,),
    )  # fmt: skip


def test_an_archive_is_fetched_once_and_its_exact_members_are_written(tmp_path: Path) -> None:
    archive = tmp_path / "zoo.tar.xz"
    write_tar(archive, {**CONTENT, "../../escape": b"x", "readme.txt": b"r"})
    zoo = zoo_of(archive, size=archive.stat().st_size)
    folder = tmp_path / "data"
    plan = plan_collection(zoo, folder)
    assert plan.to_fetch == ("cnns/zoo.tar.xz",)
    assert plan.num_bytes == archive.stat().st_size
    assert plan.unpinned == ("cnns/zoo.tar.xz",)
    place = collect_zoo("cnns-x", zoo, folder)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == CONTENT
    assert plan_collection(zoo, folder).to_fetch == ()
    archive.unlink()
    assert collect_zoo("cnns-x", zoo, folder) == place
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_file_without_a_published_checksum_is_known_by_its_first_digest(tmp_path: Path) -> None:
    archive = tmp_path / "zoo.tar.xz"
    write_tar(archive, CONTENT)
    collect_zoo("x", zoo_of(archive), tmp_path / "data")
    fetched = tmp_path / "data" / "cnns" / "zoo.tar.xz"
    fetched.write_bytes(fetched.read_bytes() + b"0")
    with pytest.raises(IntegrityError, match="isn't what was fetched first"):
        collect_zoo("x", zoo_of(archive), tmp_path / "data")


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"link": "layout.csv"}, UntrustedError, "layout.csv is no single plain file"),
        ({"again": "layout.csv"}, UntrustedError, "layout.csv is no single plain file"),
        ({"members": {"weights.npy": b"w"}}, FormatError, "lacks metrics.csv.gz, layout.csv"),
    ],
)
def test_archives_that_are_not_as_published_are_refused(tmp_path: Path, parts: dict, error: type, message: str) -> None:
    archive = tmp_path / "zoo.tar.xz"
    write_tar(archive, parts.pop("members", CONTENT), **parts)
    with pytest.raises(error, match=message):
        unpack_members(archive, tmp_path / "out", tuple(CONTENT))


def test_a_cut_archive_is_broken_and_leaves_no_half_file(tmp_path: Path) -> None:
    archive = tmp_path / "zoo.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("weights.npy")
        info.size = 50_000
        tar.addfile(info, io.BytesIO(b"w" * 50_000))
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(FormatError, match="isn't a readable archive"):
        unpack_members(archive, tmp_path / "out", ("weights.npy",))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_zoo_without_links_says_what_to_get_from_where() -> None:
    zoo = load_catalog().zoo("nfn-siren-mnist")
    with pytest.raises(MissingError, match=r"siren_mnist_wts.*https://") as caught:
        collect_zoo("nfn-siren-mnist", zoo, Path("nowhere"))
    assert caught.value.hint is not None
    assert "--format" in caught.value.hint


def test_every_published_zoo_names_a_reader() -> None:
    known = readers()
    wanted = {name: zoo.layout for name, zoo in load_catalog().zoos.items()}
    assert {name: layout for name, layout in wanted.items() if layout not in known} == {}


def test_what_was_fetched_by_hand_is_known_by_its_first_digest(tmp_path: Path) -> None:
    zoo = load_catalog().zoo("nfn-siren-mnist")
    path = tmp_path / "siren_mnist_wts"
    (path / "randinit_smaller_7s").mkdir(parents=True)
    network = path / "randinit_smaller_7s" / "net3.pth"
    network.write_bytes(b"weights")
    digest = collect_by_hand("x", zoo, path, tmp_path / "data")
    assert collect_by_hand("x", zoo, path, tmp_path / "data") == digest
    network.write_bytes(b"Weights")
    with pytest.raises(IntegrityError, match="isn't what was fetched first"):
        collect_by_hand("x", zoo, path, tmp_path / "data")
    with pytest.raises(FormatError, match="isn't laid out as SIRENs"):
        collect_by_hand("y", zoo, tmp_path / "data", tmp_path / "data")
    with pytest.raises(MissingError, match="nothing at"):
        collect_by_hand("y", zoo, tmp_path / "absent", tmp_path / "data")
