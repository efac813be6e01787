import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.zootool.servers import ServedFolder as Served
from tests.zootool.servers import serving
from tests.zootool.share.small_zoos import contents, write_zoo
from tests.zootool.store.small_stores import reseal
from zootool.errors import FormatError, IntegrityError, MissingError, UsageError
from zootool.files import canonical_json
from zootool.share import download as download_module
from zootool.share.address import Address, parse_address
from zootool.share.pull import pull
from zootool.share.pull_part import pull_part
from zootool.store.cached_storage import CachedStorage, prune
from zootool.store.http_storage import HttpStorage
from zootool.store.storage import LocalStorage
from zootool.zoo import open_zoo, verify

ROOT = Path(__file__).parents[3]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    write_zoo(tmp_path / "www" / "x.zoo")
    with serving(Served(tmp_path / "www")) as server:
        yield server


def remote(served: Served) -> Address:
    return Address(f"{served.url}/x.zoo")


def test_a_pulled_zoo_is_the_published_one(served: Served, tmp_path: Path) -> None:
    done = pull(remote(served), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(served.folder / "x.zoo")
    assert done.zoo_id == open_zoo(served.folder / "x.zoo").id
    with pytest.raises(UsageError, match="exists"):
        pull(remote(served), tmp_path / "y.zoo")


def test_faults_that_pass_are_outlived(served: Served, tmp_path: Path) -> None:
    served.statuses = {"x.zoo/edges/c/0": [429, 500], "x.zoo/manifest.json": [503]}
    served.cuts = {"x.zoo/edges/c/1": [7, 0], "x.zoo/nets.parquet": [100]}
    pull(remote(served), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(served.folder / "x.zoo")
    assert not any(served.cuts.values())
    assert not any(served.statuses.values())


def test_servers_without_ranges_serve_too(served: Served, tmp_path: Path) -> None:
    served.knows_ranges = False
    pull(remote(served), tmp_path / "y.zoo")
    assert verify(tmp_path / "y.zoo", "deep").passed
    streamed, local = open_zoo(f"{served.url}/x.zoo").state_dict(29), open_zoo(tmp_path / "y.zoo").state_dict(29)
    assert all(local[key].equal(tensor) for key, tensor in streamed.items())


def test_faults_that_stay_are_named(served: Served, tmp_path: Path) -> None:
    served.statuses = {"x.zoo/edges/c/0": [500] * 50}
    with pytest.raises(MissingError, match=r"edges/c/0 failed 6 times.*HTTP 500"):
        pull(remote(served), tmp_path / "y.zoo")
    with pytest.raises(MissingError, match="there is no zoo"):
        pull(Address(f"{served.url}/z.zoo"), tmp_path / "z.zoo")
    assert not (tmp_path / "y.zoo").exists()


def flipped(content: bytes) -> bytes:
    return content[:20] + bytes([content[20] ^ 1]) + content[21:]


@pytest.mark.parametrize("path", ["edges/c/1", "nets.parquet", "zoo.json"])
def test_tampered_and_truncated_files_are_refused_by_name(served: Served, tmp_path: Path, path: str) -> None:
    served.changes = {f"x.zoo/{path}": flipped}
    with pytest.raises(IntegrityError, match=path):
        pull(remote(served), tmp_path / "y.zoo")
    served.changes = {f"x.zoo/{path}": lambda content: content[:-3]}
    with pytest.raises(IntegrityError, match=rf"{path} has \d+ bytes, listed are"):
        pull(remote(served), tmp_path / "y.zoo")
    assert not (tmp_path / "y.zoo").exists()
    served.changes = {}
    pull(remote(served), tmp_path / "y.zoo")
    assert verify(tmp_path / "y.zoo", "deep").passed


def test_a_manifest_cant_lead_out_of_the_folder(served: Served, tmp_path: Path) -> None:
    entry = {"size": 3, "sha256": "0" * 64}
    for path in ("../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "a//b", "~/.ssh/x"):
        evil = {"format": "zoo", "format_version": "1.0", "files": {path: entry}, "derived": []}
        served.changes = {"x.zoo/manifest.json": lambda _, evil=evil: canonical_json(evil)}
        with pytest.raises(FormatError, match="lists a path that no store has"):
            pull(remote(served), tmp_path / "deep" / "y.zoo")
    assert not list(tmp_path.rglob("evil"))


def test_a_pinned_id_takes_no_other_version(served: Served, tmp_path: Path) -> None:
    zoo_id = open_zoo(served.folder / "x.zoo").id
    address = parse_address(f"{served.url}/x.zoo@{zoo_id[:16]}")
    assert address == Address(f"{served.url}/x.zoo", zoo_id[:16])
    assert parse_address("s3://user@host/x.zoo") == Address("s3://user@host/x.zoo")
    pull(address, tmp_path / "y.zoo")
    wrong = Address(address.url, "0" * 16)
    with pytest.raises(IntegrityError, match=f"now the version {zoo_id[:16]}, wanted is 0000"):
        pull(wrong, tmp_path / "z.zoo")
    with pytest.raises(IntegrityError, match="now the version"):
        pull_part(wrong, tmp_path / "z.zoo", limit=2)


def test_a_disk_that_is_too_small_is_noticed_first(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(MissingError, match=r"the disk of .* has 100"):
        pull(remote(served), tmp_path / "y.zoo")
    assert "x.zoo/edges/c/0" not in served.asked


_KILLED = """
import os, signal, sys
from pathlib import Path
from zootool.share.address import Address
from zootool.share.pull import pull
from zootool.store.http_storage import HttpStorage
fetch, count = HttpStorage.fetch, 0
def dying(self, path, ranges):
    global count
    count += 1
    if count > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return fetch(self, path, ranges)
HttpStorage.fetch = dying
pull(Address(sys.argv[1]), Path(sys.argv[2]), workers=1)
"""


def test_a_download_that_was_killed_goes_on(served: Served, tmp_path: Path) -> None:
    words = [sys.executable, "-c", _KILLED, f"{served.url}/x.zoo", str(tmp_path / "y.zoo"), "7"]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "y.zoo").exists()
    pull(remote(served), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(served.folder / "x.zoo")
    sizes = {f"x.zoo/{path}": len(content) for path, content in contents(served.folder / "x.zoo").items()}
    twice = {path: sent for path, sent in served.sent.items() if sent > sizes[path]}
    assert set(twice) <= {"x.zoo/manifest.json", "x.zoo/zoo.json"}


def test_an_unfinished_file_is_gone_on_with_or_begun_anew(served: Served, tmp_path: Path) -> None:
    content = (served.folder / "x.zoo/edges/c/0").read_bytes()
    for start, sent in ((content[:100], len(content) - 100), (b"?" * 100, 2 * len(content) - 100)):
        part = tmp_path / ".y.zoo.pull" / "edges" / "c" / ".0.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(start)
        served.sent.clear()
        pull(remote(served), tmp_path / "y.zoo")
        assert served.sent["x.zoo/edges/c/0"] == sent
        assert verify(tmp_path / "y.zoo", "deep").passed
        (tmp_path / "y.zoo").rename(tmp_path / f"done-{sent}")


def test_a_part_is_a_zoo_of_its_own(served: Served, tmp_path: Path) -> None:
    source = open_zoo(served.folder / "x.zoo")
    pull_part(remote(served), tmp_path / "y.zoo", where="split=test", limit=3, columns=["label"])
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
    pull_part(remote(served), tmp_path / "y.zoo", limit=1)
    shards = [path for path in served.sent if "edges/c/" in path]
    assert shards == ["x.zoo/edges/c/0"]
    assert served.sent[shards[0]] < (served.folder / shards[0]).stat().st_size
    with pytest.raises(UsageError, match="no column 'lable'"):
        pull_part(remote(served), tmp_path / "z.zoo", limit=1, columns=["lable"])
    with pytest.raises(MissingError, match="no network"):
        pull_part(remote(served), tmp_path / "z.zoo", where="label=77")


def test_networks_and_tables_that_differ_are_refused(served: Served, tmp_path: Path) -> None:
    served.changes = {"x.zoo/nets.parquet": flipped}
    with pytest.raises(IntegrityError, match=r"nets\.parquet"):
        pull_part(remote(served), tmp_path / "y.zoo", limit=2)
    # Where the table's own page checksums don't look.
    served.changes = {"x.zoo/nets.parquet": lambda content: content.replace(b"parquet-cpp", b"parquet-CPP")}
    with pytest.raises(IntegrityError, match=r"nets\.parquet has another content than listed"):
        pull_part(remote(served), tmp_path / "y.zoo", limit=2)
    served.changes = {}
    # A publisher whose table is wrong: the manifest and every checksum agree, the digests of the networks don't.
    write_zoo(tmp_path / "other.zoo", seed=9)
    shard = served.folder / "x.zoo/edges/c/0"
    shard.write_bytes((tmp_path / "other.zoo/edges/c/0").read_bytes())
    reseal(served.folder / "x.zoo", "edges/c/0")
    with pytest.raises(IntegrityError, match=r"network 0 of .* differs from its digest"):
        pull_part(remote(served), tmp_path / "y.zoo", limit=2)
    assert not (tmp_path / "y.zoo").exists()


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
