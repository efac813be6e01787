"""Publishing to and reading from object stores: a real S3 protocol served on this machine, and fsspec's memory."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.zootool.share.faulty_s3 import Faults
from tests.zootool.share.killed import killed
from tests.zootool.share.small_zoos import contents, write_zoo
from zootool.errors import IntegrityError, MissingError
from zootool.share.address import Address
from zootool.share.lease import read_listing
from zootool.share.publish import publish
from zootool.share.pull import pull
from zootool.share.targets import ObjectStoreTarget
from zootool.zoo import open_zoo, verify


def test_out_and_home_again(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/x.zoo"
    zoo_id = write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", url)
    assert open_zoo(url).id == zoo_id
    pull(Address(url, zoo_id[:16]), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "x.zoo")
    pull(Address(url), tmp_path / "part.zoo", where="split=test")
    assert verify(tmp_path / "part.zoo", "deep").passed
    assert len(open_zoo(tmp_path / "part.zoo")) == 7


def test_another_version_takes_the_place(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/x.zoo"
    write_zoo(tmp_path / "old.zoo")
    new = write_zoo(tmp_path / "new.zoo", seed=5)
    publish(tmp_path / "old.zoo", url)
    publish(tmp_path / "new.zoo", url)
    pull(Address(url), tmp_path / "y.zoo")
    assert open_zoo(tmp_path / "y.zoo").id == new
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "new.zoo")


def test_uploads_outlive_failures_and_go_on(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{bucket}/x.zoo"
    write_zoo(tmp_path / "x.zoo")
    fs: Any = ObjectStoreTarget(url)._fs  # fsspec keeps one for equal settings
    put, calls = fs.put_file, 0

    def failing(*words: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 12 or calls % 2:
            raise OSError("the connection was reset")
        return put(*words, **options)

    monkeypatch.setattr(fs, "put_file", failing)
    with pytest.raises(MissingError, match="the connection was reset"):
        publish(tmp_path / "x.zoo", url, workers=1)
    with pytest.raises(IntegrityError, match="never finished"):
        open_zoo(url)
    monkeypatch.setattr(fs, "put_file", put)
    publish(tmp_path / "x.zoo", url)
    pull(Address(url), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "x.zoo")


def test_tampered_objects_are_refused(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/x.zoo"
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", url)
    target = ObjectStoreTarget(url)
    content = bytearray((tmp_path / "x.zoo/edges/c/1").read_bytes())
    content[9] ^= 1
    target.put_bytes("edges/c/1", bytes(content))
    with pytest.raises(IntegrityError, match="edges/c/1"):
        pull(Address(url), tmp_path / "y.zoo")
    target.remove(["edges/c/1"])
    with pytest.raises(IntegrityError, match="edges/c/1 is missing"):
        pull(Address(url), tmp_path / "y.zoo")
    with contextlib.suppress(FileNotFoundError):
        target.remove(["edges/c/1"])


def test_a_server_that_stumbles_is_asked_again(s3: str, s3_server: Faults, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    s3_server.statuses = {"edges/c/0": [500, 503, 429, 500, 503], "PUT": [500, 429]}
    publish(tmp_path / "x.zoo", f"{s3}/x.zoo")
    s3_server.statuses = {"GET": [503], "edges/c/1": [500, 429]}
    s3_server.cuts = {"edges/c/2": [5, 0], "nodes/c/0": [17]}
    pull(Address(f"{s3}/x.zoo"), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "x.zoo")
    assert not any(s3_server.statuses.values())
    assert not any(s3_server.cuts.values())


def test_an_upload_that_was_killed_goes_on(s3: str, s3_server: Faults, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    killed("publish", tmp_path / "x.zoo", f"{s3}/x.zoo", 7)
    with pytest.raises(IntegrityError, match="never finished"):
        open_zoo(f"{s3}/x.zoo")
    listing = read_listing(ObjectStoreTarget(f"{s3}/x.zoo"))
    assert listing is not None
    s3_server.clear()
    publish(tmp_path / "x.zoo", f"{s3}/x.zoo")
    again = [
        path
        for path in listing.arrived
        if any(r.startswith("PUT") and r.endswith(f"/x.zoo/{path}") for r in s3_server.seen)
    ]
    assert listing.arrived
    assert again == []
    pull(Address(f"{s3}/x.zoo"), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "x.zoo")


@pytest.mark.parametrize("what", ["pull", "pull-part"])
def test_a_download_that_was_killed_goes_on(s3: str, s3_server: Faults, tmp_path: Path, what: str) -> None:
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", f"{s3}/x.zoo")
    killed(what, f"{s3}/x.zoo", tmp_path / "y.zoo", 3)
    assert not (tmp_path / "y.zoo").exists()
    s3_server.clear()
    s3_server.statuses = {"GET": [500, 429]}
    s3_server.cuts = {"edges/c/3": [11, 0]}
    if what == "pull":
        pull(Address(f"{s3}/x.zoo"), tmp_path / "y.zoo")
        assert contents(tmp_path / "y.zoo") == contents(tmp_path / "x.zoo")
    else:
        pull(Address(f"{s3}/x.zoo"), tmp_path / "y.zoo", where="split=train")
        assert verify(tmp_path / "y.zoo", "deep").passed
    read = [request for request in s3_server.seen if request.startswith("GET") and "edges/c/0" in request]
    assert read == []
    assert not any(s3_server.cuts.values())
