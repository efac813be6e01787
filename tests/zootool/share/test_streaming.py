"""Reading a zoo behind a URL without downloading it."""

from pathlib import Path

import numpy as np
import pytest

from tests.zootool.servers import ServedFolder as Served
from tests.zootool.share.small_zoos import flipped
from zootool.errors import IntegrityError
from zootool.store.remote_storage import HttpStorage
from zootool.store.storage import CachedStorage, LocalStorage, prune
from zootool.zoo import open_zoo


def test_streaming_reads_each_chunk_once_in_a_lifetime(served: Served, tmp_path: Path) -> None:
    for _ in range(2):
        zoo = open_zoo(f"{served.url}/x.zoo")
        assert isinstance(zoo.store.storage, CachedStorage)
        seen = np.concatenate([batch.edges[0].numpy().ravel() for batch in zoo.loader(8, mode="streamed")])
    local = open_zoo(served.folder / "x.zoo")
    assert np.array_equal(seen, np.concatenate([b.edges[0].numpy().ravel() for b in local.loader(8)]))
    for shard in ("edges/c/0", "nodes/c/0"):
        assert served.sent[f"x.zoo/{shard}"] == (served.folder / "x.zoo" / shard).stat().st_size


def test_a_damaged_cache_is_read_past_and_a_full_one_emptied(served: Served, tmp_path: Path) -> None:
    url = f"{served.url}/x.zoo"
    expected = open_zoo(url).state_dict(0)
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(flipped(path.read_bytes()))
    again = open_zoo(url).state_dict(0)
    assert all(tensor.equal(again[key]) for key, tensor in expected.items())
    prune(tmp_path / "cache/zootool/chunks", 1)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    limited = CachedStorage(LocalStorage(served.folder / "x.zoo"), "id", tmp_path / "small", limit_bytes=2000)
    size = (served.folder / "x.zoo/edges/c/0").stat().st_size
    assert size < 4000
    for _ in range(3):
        limited.fetch("edges/c/0", [(0, 800)])
    assert sum(path.stat().st_size for path in (tmp_path / "small").rglob("*") if path.is_file()) <= 2000


def test_wrong_bytes_on_the_way_arent_kept(served: Served, tmp_path: Path) -> None:
    served.changes = {"x.zoo/edges/c/0": flipped}
    zoo = open_zoo(f"{served.url}/x.zoo")
    with pytest.raises(IntegrityError, match="edges/c/0 doesn't match its checksum"):
        zoo.state_dict(0)
    served.changes = {}
    assert open_zoo(f"{served.url}/x.zoo").state_dict(0)


def test_missing_files_over_http(served: Served) -> None:
    storage = HttpStorage(f"{served.url}/x.zoo")
    assert storage.size("nothing") is None
    with pytest.raises(FileNotFoundError):
        storage.read("nothing")
    (served.folder / "x.zoo/manifest.json").unlink()
    with pytest.raises(IntegrityError, match="never finished"):
        open_zoo(f"{served.url}/x.zoo")
