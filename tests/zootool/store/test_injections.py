"""Every harm that can come to a store's files is noticed and named, by `verify` and never answered with numbers."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.zootool.store.small_stores import random_block, reseal, write_small_store
from zootool.errors import BadDataError, ZooError
from zootool.nets.siren import siren_architecture
from zootool.store.manifest import parse_manifest
from zootool.zoo import verify

Injection = Callable[[Path, list[str], random.Random], list[str]]
"""Harms the store at a path, whose files are listed; returns the names of which the report must have one."""

ROUNDS = 1200


def flip_bit(store: Path, files: list[str], rng: random.Random) -> list[str]:
    name = rng.choice(files)
    content = bytearray((store / name).read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    (store / name).write_bytes(content)
    return anything_about(name)


def truncate(store: Path, files: list[str], rng: random.Random) -> list[str]:
    name = rng.choice(files)
    content = (store / name).read_bytes()
    (store / name).write_bytes(content[: rng.randrange(len(content))])
    return anything_about(name)


def lengthen(store: Path, files: list[str], rng: random.Random) -> list[str]:
    name = rng.choice(files)
    (store / name).write_bytes((store / name).read_bytes() + rng.randbytes(rng.randrange(1, 9)))
    return anything_about(name)


def delete(store: Path, files: list[str], rng: random.Random) -> list[str]:
    name = rng.choice(files)
    (store / name).unlink()
    return anything_about(name)


def zero_a_stretch(store: Path, files: list[str], rng: random.Random) -> list[str]:
    name = rng.choice(files)
    content = bytearray((store / name).read_bytes())
    start = rng.randrange(len(content))
    stop = min(len(content), start + rng.randrange(1, 64))
    if not any(content[start:stop]):
        content[start] = 1
    else:
        content[start:stop] = bytes(stop - start)
    (store / name).write_bytes(content)
    return anything_about(name)


def swap_shards(store: Path, files: list[str], rng: random.Random) -> list[str]:
    shards = [name for name in files if "/c/" in name]
    by_content = {(store / name).read_bytes(): name for name in shards}
    (content, name), (other_content, other) = rng.sample(sorted(by_content.items()), 2)
    (store / name).write_bytes(other_content)
    (store / other).write_bytes(content)
    return [name, other]


def add_a_file(store: Path, files: list[str], rng: random.Random) -> list[str]:
    name = rng.choice(["edges/c/99", "notes.txt", "edges/c/0.tmp", "images/zarr.json"])
    (store / name).parent.mkdir(exist_ok=True)
    (store / name).write_bytes(b"x")
    return [name]


def make_the_manifest_stale(store: Path, files: list[str], rng: random.Random) -> list[str]:
    shutil.copy(store.parent / "other.zoo" / "manifest.json", store / "manifest.json")
    return ["manifest", *files]


def drop_a_listed_file(store: Path, files: list[str], rng: random.Random) -> list[str]:
    """The file goes and the manifest with it: only what the store must have tells."""
    name = rng.choice([name for name in files if name != "manifest.json"])
    (store / name).unlink()
    reseal(store, name)
    return anything_about(name)


INJECTIONS: tuple[Injection, ...] = (
    flip_bit,
    flip_bit,
    truncate,
    lengthen,
    delete,
    zero_a_stretch,
    swap_shards,
    add_a_file,
    make_the_manifest_stale,
    drop_a_listed_file,
)


def anything_about(name: str) -> list[str]:
    # Damage to the manifest shows as a manifest that is unreadable, or as files that differ from it.
    return [name] if name != "manifest.json" else ["manifest", "zarr.json", "nets.parquet", "architectures", "/c/"]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    write_small_store(folder / "small.zoo")
    write_small_store(folder / "other.zoo", random_block(siren_architecture(2, (8, 4), 1), 30, 7))
    return folder


def report_of(store: Path) -> str:
    try:
        return "\n".join(verify(store, "deep").problems)
    except BadDataError as error:
        return str(error)


def test_a_pristine_store_passes(pristine: Path) -> None:
    result = verify(pristine / "small.zoo", "deep")
    assert result.passed
    assert len(list((pristine / "small.zoo" / "edges" / "c").iterdir())) > 2


def test_every_random_injection_is_noticed_and_named(pristine: Path) -> None:
    store = pristine / "small.zoo"
    files = [*sorted(parse_manifest((store / "manifest.json").read_bytes(), "").files), "manifest.json"]
    contents = {name: (store / name).read_bytes() for name in files}
    for number in range(ROUNDS):
        rng = random.Random(number)
        inject = INJECTIONS[number % len(INJECTIONS)]
        wanted = inject(store, files, rng)
        report = report_of(store)
        assert any(name in report for name in wanted), f"{inject.__name__}, round {number}: {report!r} not of {wanted}"
        restore(store, contents)
    assert verify(store, "deep").passed


def restore(store: Path, contents: dict[str, bytes]) -> None:
    for path in store.rglob("*"):
        if path.is_file() and path.relative_to(store).as_posix() not in contents:
            path.unlink()
    for name, content in contents.items():
        if not (store / name).exists() or (store / name).read_bytes() != content:
            (store / name).write_bytes(content)


def test_quick_verification_sees_sizes_and_names(pristine: Path, tmp_path: Path) -> None:
    shutil.copytree(pristine / "small.zoo", tmp_path / "x.zoo")
    (tmp_path / "x.zoo" / "edges" / "c" / "0").unlink()
    with pytest.raises(ZooError, match="edges/c/0 is missing"):
        verify(tmp_path / "x.zoo", "quick")
