from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.zootool.servers import ServedFolder, serving
from tests.zootool.share.faulty_s3 import Faults, faulty_s3
from tests.zootool.share.small_zoos import write_zoo
from zootool.store.patience import Patience


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six attempts as ever, with hardly a pause between them."""
    monkeypatch.setattr(Patience, "__init__", lambda self: self.__dict__.update(attempts=6, backoff_seconds=0.001))


@pytest.fixture(scope="package")
def s3_server() -> Iterator[Faults]:
    pytest.importorskip("s3fs", reason="s3fs isn't installed: pip install 's3fs>=2024.6'")
    pytest.importorskip("moto.server", reason="moto isn't installed: pip install 'moto[s3]' flask flask-cors")
    with faulty_s3() as faults:
        yield faults


@pytest.fixture
def s3(s3_server: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own."""
    s3_server.clear()
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs = import_module("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    name = tmp_path.name.replace("_", "-").lower()
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


@pytest.fixture(params=["s3", "memory"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("s3") if request.param == "s3" else f"memory://{tmp_path.name}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedFolder]:
    write_zoo(tmp_path / "www" / "x.zoo")
    with serving(ServedFolder(tmp_path / "www")) as server:
        yield server
