"""A part of a zoo: few bytes, each network checked, and a zoo of its own in the end."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.zootool.servers import ServedFolder as Served
from tests.zootool.share.killed import killed
from tests.zootool.share.small_zoos import DIGITS, contents, flipped, remote, write_zoo
from tests.zootool.store.small_stores import SMALL_CHUNKS, random_block, reseal
from zootool.errors import IntegrityError, MissingError, UsageError
from zootool.nets.siren import siren_architecture
from zootool.share.address import Address
from zootool.share.pull import pull
from zootool.store import WriteOptions, write_store
from zootool.store.blocks import MemorySource, SourceInfo
from zootool.store.layout import crc32c
from zootool.zoo import open_zoo, verify


def test_a_part_is_a_zoo_of_its_own(served: Served, tmp_path: Path) -> None:
    source = open_zoo(served.folder / "x.zoo")
    pull(remote(served), tmp_path / "y.zoo", where="split=test", limit=3, columns=["label"])
    part = open_zoo(tmp_path / "y.zoo")
    assert verify(tmp_path / "y.zoo", "deep").passed
    assert part.info.parent == source.id
    assert part.nets["net_id"].tolist() == source.select(split="test").nets["net_id"].tolist()[:3]
    assert "label" in part.nets
    assert "psnr" not in part.nets
    for i in range(3):
        theirs = source.select(split="test").state_dict(i)
        assert all(theirs[key].equal(tensor) for key, tensor in part.state_dict(i).items())


def test_a_part_takes_no_more_than_it_needs(served: Served, tmp_path: Path) -> None:
    pull(remote(served), tmp_path / "y.zoo", limit=1)
    shards = [path for path in served.sent if "edges/c/" in path]
    assert shards == ["x.zoo/edges/c/0"]
    assert served.sent[shards[0]] < (served.folder / shards[0]).stat().st_size
    with pytest.raises(UsageError, match="no column 'lable'"):
        pull(remote(served), tmp_path / "z.zoo", limit=1, columns=["lable"])
    with pytest.raises(MissingError, match="no network"):
        pull(remote(served), tmp_path / "z.zoo", where="label=77")
    assert not list(tmp_path.glob(".*"))


def test_networks_and_tables_that_differ_are_refused(served: Served, tmp_path: Path) -> None:
    served.changes = {"x.zoo/nets.parquet": flipped}
    with pytest.raises(IntegrityError, match=r"nets\.parquet"):
        pull(remote(served), tmp_path / "y.zoo", limit=2)
    # Where the table's own page checksums don't look.
    served.changes = {"x.zoo/nets.parquet": lambda content: content.replace(b"parquet-cpp", b"parquet-CPP")}
    with pytest.raises(IntegrityError, match=r"nets\.parquet has another content than listed"):
        pull(remote(served), tmp_path / "y.zoo", limit=2)
    served.changes = {}
    assert not list(tmp_path.glob(".*"))
    # A publisher whose table is wrong: the manifest and every checksum agree, the digests of the networks don't.
    write_zoo(tmp_path / "other.zoo", seed=9)
    shard = served.folder / "x.zoo/edges/c/0"
    shard.write_bytes((tmp_path / "other.zoo/edges/c/0").read_bytes())
    reseal(served.folder / "x.zoo", "edges/c/0")
    with pytest.raises(IntegrityError, match=r"network 0 of .* differs from its digest"):
        pull(remote(served), tmp_path / "y.zoo", limit=2)
    assert not (tmp_path / "y.zoo").exists()


def shards_of(served: Served) -> dict[str, int]:
    """Every shard's path on the server, and its size."""
    files = contents(served.folder / "x.zoo")
    return {f"x.zoo/{path}": len(content) for path, content in files.items() if "/c/" in path}


@pytest.mark.parametrize("end", ["killed", "no connection"])
def test_an_interrupted_part_fetches_no_more_than_a_shard_again(served: Served, tmp_path: Path, end: str) -> None:
    if end == "killed":
        killed("pull-part", f"{served.url}/x.zoo", tmp_path / "y.zoo", 5)
    else:
        served.statuses = {"x.zoo/edges/c/2": [500] * 100}
        with pytest.raises(MissingError, match="failed 6 times"):
            pull(remote(served), tmp_path / "y.zoo", where="split=train")
        served.statuses = {}
    before = Counter(served.sent)
    assert any("/c/" in path for path in before)
    assert not (tmp_path / "y.zoo").exists()
    served.sent.clear()
    pull(remote(served), tmp_path / "y.zoo", where="split=train")
    sizes = shards_of(served)
    again = {path: before[path] + sent - sizes.get(path, sent) for path, sent in served.sent.items() if before[path]}
    assert sum(count for path, count in again.items() if "/c/" in path and count > 0) <= max(sizes.values())
    assert set(served.sent) <= {*sizes, "x.zoo/manifest.json"}
    assert verify(tmp_path / "y.zoo", "deep").passed
    assert len(open_zoo(tmp_path / "y.zoo")) == 23
    assert not list(tmp_path.glob(".*"))


def test_what_a_kill_at_the_very_end_left_goes_with_the_next_pull(served: Served, tmp_path: Path) -> None:
    pull(remote(served), tmp_path / "y.zoo", limit=2)
    leftover = tmp_path / ".y.zoo.pull"
    leftover.mkdir()
    (leftover / "nets.parquet").write_bytes(b"x")
    with pytest.raises(UsageError, match="exists"):
        pull(remote(served), tmp_path / "y.zoo", limit=2)
    assert not leftover.exists()
    assert len(open_zoo(tmp_path / "y.zoo")) == 2


def test_no_more_is_asked_than_is_needed(served: Served, tmp_path: Path) -> None:
    pull(remote(served), tmp_path / "y.zoo", limit=1)
    untouched = shards_of(served).keys() - {"x.zoo/edges/c/0", "x.zoo/nodes/c/0"}
    assert untouched
    assert not untouched & set(served.asked)


def test_shards_that_arent_what_is_listed_are_named(served: Served, tmp_path: Path) -> None:
    served.changes = {"x.zoo/edges/c/0": lambda content: content + b"more"}
    with pytest.raises(IntegrityError, match=r"edges/c/0 has \d+ bytes, the manifest says"):
        pull(remote(served), tmp_path / "y.zoo", limit=2)
    served.changes = {"x.zoo/edges/c/0": flipped}
    with pytest.raises(IntegrityError, match="edges/c/0 doesn't match its checksum"):
        pull(remote(served), tmp_path / "y.zoo", limit=2)
    (served.folder / "x.zoo/nodes/c/0").rename(tmp_path / "aside")
    served.changes = {}
    with pytest.raises(IntegrityError, match="nodes/c/0 is missing"):
        pull(remote(served), tmp_path / "y.zoo", limit=2)
    (tmp_path / "aside").rename(served.folder / "x.zoo/nodes/c/0")
    # Nothing of what was wrong is in the way.
    pull(remote(served), tmp_path / "y.zoo", limit=2)
    assert verify(tmp_path / "y.zoo", "deep").passed


def test_networks_that_are_not_finite_come_along(served: Served, tmp_path: Path) -> None:
    block = random_block(siren_architecture(2, (3,), 1), 6)
    next(iter(block.tensors.values()))[2] = np.nan
    source = MemorySource(SourceInfo("strange", sources=(DIGITS,), licence="MIT"), (block,))
    write_store(served.folder / "strange.zoo", source, WriteOptions(nonfinite="keep"))
    pull(Address(f"{served.url}/strange.zoo"), tmp_path / "y.zoo", limit=4)
    assert open_zoo(tmp_path / "y.zoo").nets["is_finite"].tolist() == [True, True, False, True]


def write_with_images(path: Path) -> np.ndarray:
    """Twelve networks with an image each, in several shards; returns the images."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), dtype=np.uint8)
    block = random_block(siren_architecture(2, (3,), 1), 12)
    source = MemorySource(SourceInfo("seen", sources=(DIGITS,), licence="MIT"), (block,))
    write_store(path, source, SMALL_CHUNKS, images=lambda keys: pixels[keys])
    return pixels


def test_images_come_along_and_are_checked(served: Served, tmp_path: Path) -> None:
    pixels = write_with_images(served.folder / "x2.zoo")
    address = Address(f"{served.url}/x2.zoo")
    shards = sorted(path for path in served.folder.glob("x2.zoo/images/c/**/*") if path.is_file())
    assert len(shards) > 1
    pull(address, tmp_path / "y.zoo", limit=2)
    images = open_zoo(tmp_path / "y.zoo").store.images
    assert images is not None
    assert np.array_equal(images.read(0, 2), pixels[:2])
    assert sum("images/c" in path for path in served.sent) == 1

    def repainted(content: bytes) -> bytes:
        """Another picture with a checksum that fits: nothing but the file's digest tells."""
        chunk_bytes = 3 * 256
        chunk = bytes(255 - value for value in content[:chunk_bytes])
        return chunk + crc32c(chunk) + content[chunk_bytes + 4 :]

    name = shards[0].relative_to(served.folder).as_posix()
    served.changes = {name: repainted}
    with pytest.raises(IntegrityError, match=r"images/c/\S+ has another content than listed"):
        pull(address, tmp_path / "z.zoo", limit=2)
