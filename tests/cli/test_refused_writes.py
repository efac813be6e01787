"""What the system refuses, in every command that writes: exit 4, the path, the next step, and nothing half-written."""

import errno
import os
import resource
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.dng.bench.cnn_zoos import NARROW, write_run_zoo
from tests.dng.bench.zoos import build_digits_zoo
from tests.zootool.store.unit_folders import write_unit_folder
from zootool.build import build_sirens, load_recipe
from zootool.errors import refusal_of
from zootool.files import folder_atomic, write_bytes_atomic
from zootool.formats.published_zoo import unpack_members
from zootool.images import load_images
from zootool.zoo import open_zoo

TRAIN = ("--steps", "1", "--set", "encoder.dim=8", "--set", "batch_size=4")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a zoo, its units, other units, and two trained runs."""
    folder = tmp_path_factory.mktemp("material")
    build_digits_zoo(folder, limit=(12, 4, 8), steps=5)
    write_run_zoo(folder / "cnns.zoo", NARROW)
    write_unit_folder(folder / "units", units=(4,))
    zoo = str(folder / "digits.zoo")
    run("train", "inr2jls", "--zoo", zoo, "--out", folder / "inr2jls", *TRAIN)
    run("train", "encoder", "--zoo", zoo, "--target", "label", "--out", folder / "encoder", *TRAIN)
    run("convert", folder / "units", folder / "other.zoo")
    return folder


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@contextmanager
def no_room() -> Iterator[None]:
    """Nothing can be written, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def commands(material: Path, out: Path) -> dict[str, tuple[object, ...]]:
    zoo, inr2jls, encoder = material / "digits.zoo", material / "inr2jls", material / "encoder"
    return {
        "convert": ("convert", material / "units", out),
        "subset": ("subset", zoo, out, "--where", "split=test"),
        "merge": ("merge", zoo, material / "other.zoo", out),
        "export": ("export", zoo, out),
        "export torch": ("export", zoo, out, "--layout", "torch"),
        "view": ("view", zoo, "--out", out.with_suffix(".html")),
        "embed": ("embed", zoo, "--model", inr2jls, "--out", out),
        "reconstruct": ("reconstruct", zoo, "--model", inr2jls, "--out", out),
        "predict": ("predict", zoo, "--model", encoder, "--out", out.with_suffix(".parquet")),
        "train": ("train", "inr2jls", "--zoo", zoo, "--out", out, *TRAIN),
        "build": ("build", "siren", "--dataset", "digits", "--limit", "2", "--steps", "1", "--out", out),
        "publish": ("publish", zoo, out),
        "pull": ("pull", zoo, out),
        "pull part": ("pull", zoo, out, "--limit", "2"),
        "bench": ("bench", "inr-classification", "--zoo", zoo, "--model", "dng", "--steps", "1", "--out", out),
        "tables": ("bench", "tables", "--only", "2", "--zoo", material / "cnns.zoo", "--out", out),
        "generalization": ("bench", "generalization", "--zoo", material / "cnns.zoo", "--seeds", "1", "--out", out),
        "editing": ("bench", "editing", "--zoo", zoo, "--seeds", "1", "--out", out),
        "efficiency": ("bench", "efficiency", "--markdown", out / "efficiency.md"),
        "forward-fit": ("bench", "forward-fit", "--preset", "quick", "--seeds", "1", "--out", out),
        "demo": ("demo", "--out", out),
    }


NAMES = list(commands(Path(), Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_named_with_a_next_step(material: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    with no_room():
        result = run(*commands(material, out)[name])
    assert result.exit_code == 4, result.output
    assert "File too large" in result.stderr
    assert str(out) in result.stderr
    assert "next: " in result.stderr
    assert "Traceback" not in result.stderr
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size and path.suffix != ".part"]
    assert left == []


@pytest.mark.parametrize("name", NAMES)
def test_a_place_below_a_file_is_named(material: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    result = run(*commands(material, tmp_path / "file" / "out")[name])
    assert result.exit_code == 4, result.output
    assert str(tmp_path / "file") in result.stderr
    assert "next: " in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize("name", sorted({*NAMES} - {"export torch", "pull part", "view", "publish"}))
def test_nothing_is_written_into_a_store(material: Path, name: str) -> None:
    before = sorted((material / "digits.zoo").rglob("*"))
    result = run(*commands(material, material / "digits.zoo" / "out")[name])
    assert result.exit_code == 2, result.output
    assert "lies within" in result.stderr
    assert sorted((material / "digits.zoo").rglob("*")) == before


@pytest.mark.parametrize("owner", ["digits.zoo", "sirens"])
@pytest.mark.parametrize(
    "words",
    [("view", "digits.zoo", "--out", "{}/x.html"), ("publish", "other.zoo", "{}/x.zoo"),
     ("report", "inr2jls", "--zoo", "digits.zoo", "--out", "{}/x.html"),
     ("collect", "nfn-siren-mnist", "--folder", "{}"), ("collect", "nfn-siren-mnist", "--path", ".", "--folder", "{}")],
    ids=str,
)  # fmt: skip
def test_neither_pages_nor_downloads_go_into_folders_of_networks(
    material: Path, monkeypatch: pytest.MonkeyPatch, owner: str, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(material)
    result = run(*(word.format(owner) for word in words))
    assert result.exit_code == 2, result.output
    assert "lies within" in result.stderr


def test_the_page_of_a_store_may_be_named(material: Path, tmp_path: Path) -> None:
    shutil.copytree(material / "digits.zoo", tmp_path / "x.zoo")
    assert run("view", tmp_path / "x.zoo", "--out", tmp_path / "x.zoo" / "view.html").exit_code == 0
    assert run("verify", tmp_path / "x.zoo").exit_code == 0


def test_a_full_disk_is_no_broken_archive(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x" * 1000)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "a.csv", "a.csv")
    with no_room(), pytest.raises(OSError, match="File too large"):
        unpack_members(tmp_path / "x.tar", tmp_path / "out", ["a.csv"])


def test_names_that_are_not_utf8_are_refused(material: Path, tmp_path: Path) -> None:
    result = run("convert", material / "units", tmp_path / "a\udcff.zoo")
    assert result.exit_code == 2, result.output
    assert "a\\udcff.zoo" in result.stderr
    assert "has bytes that aren't UTF-8" in result.stderr


def test_the_folder_of_a_run_is_no_source(material: Path, tmp_path: Path) -> None:
    result = run("show", material / "encoder")
    assert result.exit_code == 3, result.output
    assert "is the folder of a `zoo train` run" in result.stderr
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "results.json").write_text('{"models": []}')
    result = run("convert", tmp_path, tmp_path / "x.zoo")
    assert result.exit_code == 3, result.output
    assert "is the folder of a `zoo bench` run" in result.stderr
    result = run("report", tmp_path, "--zoo", material / "digits.zoo")
    assert result.exit_code == 2, result.output
    assert "holds the run of another benchmark" in result.stderr


def test_appending_to_a_store_on_a_full_disk_leaves_it(material: Path, tmp_path: Path) -> None:
    shutil.copytree(material / "digits.zoo", tmp_path / "x.zoo")
    shutil.copytree(material / "sirens", tmp_path / "sirens")
    recipe = load_recipe("inr-nfn", "digits", {"init": "shared", "steps": 5, "lr": 2e-4, "copies": 0})
    build_sirens(load_images("digits"), recipe, str(tmp_path / "sirens"), limit=(14, 4, 8))
    before = open_zoo(tmp_path / "x.zoo").id
    with no_room():
        result = run("convert", tmp_path / "sirens", tmp_path / "x.zoo", "--append")
    assert result.exit_code == 4, result.output
    assert str(tmp_path / "x.zoo") in result.stderr
    assert open_zoo(tmp_path / "x.zoo").id == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sirens", "x.zoo"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_without_a_name_gets_the_final_one(number: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as raised, folder_atomic(tmp_path / "x.zoo"):
        raise OSError(number, os.strerror(number))
    refusal = refusal_of(raised.value)
    assert refusal is not None
    assert str(tmp_path / "x.zoo") in refusal.message
    assert refusal.hint


def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long") as raised:
        write_bytes_atomic(tmp_path / ("n" * 300), b"")
    refusal = refusal_of(raised.value)
    assert refusal is not None
    assert refusal.hint == "choose a shorter name"
    assert ".tmp" not in refusal.message


def test_an_error_of_another_kind_is_none_of_the_system() -> None:
    assert refusal_of(OSError("a")) is None
    assert refusal_of(OSError(errno.EBADF, "a")) is None
