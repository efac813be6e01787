import pickle
from pathlib import Path

import fsspec
import pytest
import torch

from tests.zootool.store.small_stores import SMALL_CHUNKS, write_small_store
from zootool.errors import IntegrityError, MissingError
from zootool.store import WriteOptions
from zootool.store.remote_storage import RemoteStorage
from zootool.store.storage import LocalStorage
from zootool.zoo import open_zoo, verify
from zootool.zoo.export import subset


@pytest.fixture(params=[None, 3])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    options = WriteOptions(zstd_level=request.param, chunk_bytes=800, shard_bytes=2400)
    write_small_store(tmp_path / "x.zoo", options=options)
    url = f"memory://{tmp_path.name}/x.zoo"
    fs, root = fsspec.core.url_to_fs(url)
    for path in (tmp_path / "x.zoo").rglob("*"):
        if path.is_file():
            fs.pipe_file(f"{root}/{path.relative_to(tmp_path / 'x.zoo').as_posix()}", path.read_bytes())
    return url


def test_a_zoo_behind_a_url_is_the_same_zoo(url: str, tmp_path: Path) -> None:
    remote, local = open_zoo(url), open_zoo(tmp_path / "x.zoo")
    assert isinstance(remote.store.storage, RemoteStorage)
    assert remote.id == local.id
    for mode in ("resident", "mapped", "streamed"):
        batches = zip(remote.loader(8, True, mode=mode), local.loader(8, True, mode=mode), strict=True)
        for batch, other in batches:
            assert all(torch.equal(a, b) for a, b in zip(batch.edges, other.edges, strict=True))
    assert verify(url, "deep").passed
    assert torch.equal(pickle.loads(pickle.dumps(remote)).graph(3).edges[0], local.graph(3).edges[0])


def test_a_zoo_behind_a_url_can_be_taken_home(url: str, tmp_path: Path) -> None:
    subset(open_zoo(url).select(split="test"), tmp_path / "y.zoo", options=SMALL_CHUNKS)
    assert len(open_zoo(tmp_path / "y.zoo")) == 7


def test_damage_on_the_way_is_noticed(url: str) -> None:
    fs, root = fsspec.core.url_to_fs(url)
    zoo = open_zoo(url)
    content = bytearray(fs.cat_file(f"{root}/edges/c/1"))
    content[3] ^= 1
    fs.pipe_file(f"{root}/edges/c/1", bytes(content))
    with pytest.raises(IntegrityError, match="edges/c/1 doesn't match its checksum"):
        list(zoo.loader(30, mode="streamed"))
    fs.rm_file(f"{root}/edges/c/1")
    with pytest.raises(IntegrityError, match="edges/c/1 is missing"):
        open_zoo(url)


def test_urls_without_a_zoo_or_a_protocol_are_missing() -> None:
    with pytest.raises(MissingError, match="there is no zoo at memory://nothing"):
        open_zoo("memory://nothing/here.zoo")
    with pytest.raises(MissingError, match="can't read warp"):
        open_zoo("warp://x.zoo")


def test_file_urls_are_local(tmp_path: Path) -> None:
    write_small_store(tmp_path / "x.zoo")
    assert isinstance(open_zoo(f"file://{tmp_path}/x.zoo").store.storage, LocalStorage)
