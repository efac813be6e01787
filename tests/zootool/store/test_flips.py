"""A flipped bit anywhere in a store is refused, or changes nothing of what is read."""

import os
import shutil
from pathlib import Path

import pytest

from tests.golden.test_golden_store import FOLDER
from tests.zootool.store.small_stores import random_block, write_small_store
from zootool.errors import IntegrityError, ZooError
from zootool.nets.siren import siren_architecture
from zootool.store import reader
from zootool.zoo import open_zoo

FLIPS = 600


def everything_read(store: Path) -> tuple[object, ...]:
    """What opening, the table and one network say; not the id, which a flip in a digest of the manifest changes."""
    zoo = open_zoo(store)
    _, tensors = zoo.tensors(0)
    return (
        zoo.info,
        tuple(zoo.architectures),
        zoo.nets.to_arrow().to_pydict(),
        {key: tensor.tobytes() for key, tensor in tensors.items()},
    )


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "format-1.0.zoo", tmp_path / "x.zoo", copy_function=shutil.copyfile))


def test_a_flip_anywhere_is_refused_or_harmless(golden: Path) -> None:
    expected = everything_read(golden)
    files = sorted(path for path in golden.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in files)
    num_refused = 0
    for path in files:
        content = path.read_bytes()
        stride = max(1, total // FLIPS) if path.name != "nets.parquet" else 41
        for place in range(len(path.name) % stride, len(content), stride):
            flipped = bytearray(content)
            flipped[place] ^= 1 << (place % 8)
            path.write_bytes(flipped)
            try:
                assert everything_read(golden) == expected, f"{path.name}, byte {place}"
            except ZooError:
                num_refused += 1
        path.write_bytes(content)
    assert num_refused > FLIPS // 3
    assert everything_read(golden) == expected


def test_a_table_that_was_compared_once_is_compared_again_when_it_changes(golden: Path) -> None:
    table = golden / "nets.parquet"
    content = table.read_bytes()
    os.utime(table, (1_000_000_000, 1_000_000_000))
    open_zoo(golden)
    assert any(key[0] == str(golden) for key in reader._compared)
    table.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(IntegrityError, match=r"nets\.parquet isn't what the manifest lists.*zoo verify"):
        open_zoo(golden)


def test_a_large_table_is_compared_when_it_is_first_used(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_WHOLE_TABLE_BYTES", 100)
    table = golden / "nets.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 4
    table.write_bytes(content)
    zoo = open_zoo(golden)
    with pytest.raises(IntegrityError, match=r"nets\.parquet isn't what the manifest lists"):
        zoo.nets["label"]


def test_the_table_behind_a_url_is_compared_too(tmp_path: Path) -> None:
    import fsspec

    write_small_store(tmp_path / "x.zoo", random_block(siren_architecture(2, (4,), 1), 5))
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "x.zoo"), "/flipped.zoo", recursive=True)
    content = bytearray(memory.cat_file("/flipped.zoo/nets.parquet"))
    content[-40] ^= 1
    memory.pipe_file("/flipped.zoo/nets.parquet", bytes(content))
    zoo = open_zoo("memory://flipped.zoo")
    with pytest.raises(IntegrityError, match=r"nets\.parquet isn't what the manifest lists"):
        zoo.nets["label"]
    memory.rm("/flipped.zoo", recursive=True)


def test_a_table_that_has_just_changed_is_never_taken_for_the_one_compared(golden: Path) -> None:
    table = golden / "nets.parquet"
    changed_ns = table.stat().st_mtime_ns
    open_zoo(golden)
    content = bytearray(table.read_bytes())
    content[-20] ^= 1
    table.write_bytes(content)
    os.utime(table, ns=(changed_ns, changed_ns))
    with pytest.raises(IntegrityError, match=r"nets\.parquet isn't what the manifest lists"):
        open_zoo(golden)
