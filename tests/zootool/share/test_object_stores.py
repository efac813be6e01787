"""Publishing to and reading from object stores: a real S3 protocol served on this machine, and fsspec's memory."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.zootool.share.faulty_s3 import Faults, faulty_s3
from tests.zootool.share.small_zoos import contents, write_zoo
from zootool.errors import IntegrityError, MissingError
from zootool.share.address import Address
from zootool.share.publish import LISTING, publish
from zootool.share.pull import pull
from zootool.share.pull_part import pull_part
from zootool.share.targets import FsspecTarget
from zootool.zoo import open_zoo, verify

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def s3_server() -> Iterator[Faults]:
    pytest.importorskip("s3fs", reason="s3fs isn't installed")
    pytest.importorskip("moto.server", reason="moto isn't installed")
    with faulty_s3() as faults:
        yield faults


@pytest.fixture
def s3(s3_server: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own."""
    s3_server.clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    s3fs = import_module("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    name = tmp_path.name.replace("_", "-")
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


@pytest.fixture(params=["s3", "memory"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("s3") if request.param == "s3" else f"memory://{tmp_path.name}"


def test_out_and_home_again(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/x.zoo"
    zoo_id = write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", url)
    assert open_zoo(url).id == zoo_id
    pull(Address(url, zoo_id[:16]), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "x.zoo")
    pull_part(Address(url), tmp_path / "part.zoo", where="split=test")
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
    monkeypatch.setattr("zootool.store.patience.time.sleep", lambda _: None)
    fs: Any = FsspecTarget(url)._fs  # fsspec keeps one for equal settings
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
    target = FsspecTarget(url)
    content = bytearray((tmp_path / "x.zoo/edges/c/1").read_bytes())
    content[9] ^= 1
    (tmp_path / "wrong").write_bytes(content)
    target.put("edges/c/1", tmp_path / "wrong")
    with pytest.raises(IntegrityError, match="edges/c/1"):
        pull(Address(url), tmp_path / "y.zoo")
    target.remove(["edges/c/1"])
    with pytest.raises(IntegrityError, match="edges/c/1 is missing"):
        pull(Address(url), tmp_path / "y.zoo")
    with contextlib.suppress(FileNotFoundError):
        target.remove(["edges/c/1"])


def test_a_server_that_stumbles_is_asked_again(s3: str, s3_server: Faults, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    # More often than the client tries again by itself.
    s3_server.statuses = {"edges/c/0": [500, 503, 429, 500, 500, 503]}
    publish(tmp_path / "x.zoo", f"{s3}/x.zoo")
    s3_server.statuses = {"GET": [503], "edges/c/1": [500, 429]}
    s3_server.cuts = {"edges/c/2": [5, 0], "nodes/c/0": [17]}
    pull(Address(f"{s3}/x.zoo"), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "x.zoo")
    assert not any(s3_server.statuses.values())
    assert not any(s3_server.cuts.values())


_KILLED = """
import os, signal, sys, time
from zootool.share import publish, targets
publish._LISTING_SECONDS = 0
put, count = targets.FsspecTarget.put, 0
def dying(self, path, source):
    global count
    count += path != publish.LISTING
    if count > 7:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, path, source)
    time.sleep(0.05)
targets.FsspecTarget.put = dying
publish.publish(sys.argv[1], sys.argv[2], workers=1)
"""


def test_an_upload_that_was_killed_goes_on(s3: str, s3_server: Faults, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    words = [sys.executable, "-c", _KILLED, str(tmp_path / "x.zoo"), f"{s3}/x.zoo"]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(IntegrityError, match="never finished"):
        open_zoo(f"{s3}/x.zoo")
    recorded = json.loads(FsspecTarget(f"{s3}/x.zoo").read(LISTING) or b"")
    s3_server.clear()
    publish(tmp_path / "x.zoo", f"{s3}/x.zoo")
    again = [
        path for path in recorded if any(r.startswith("PUT") and r.endswith(f"/x.zoo/{path}") for r in s3_server.seen)
    ]
    assert recorded
    assert again == []
    pull(Address(f"{s3}/x.zoo"), tmp_path / "y.zoo")
    assert contents(tmp_path / "y.zoo") == contents(tmp_path / "x.zoo")
