"""The suites for places of bytes: ours pass them, and each of their tests catches a place with the fault it is for."""

import io
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import pytest

from tests.zootool.servers import ServedFolder, serving
from tests.zootool.share.fake_hub import Hub, fake_module
from zootool.share.hub import HubTarget
from zootool.share.targets import LocalTarget, ObjectStoreTarget, Target
from zootool.store.remote_storage import HttpStorage, RemoteStorage
from zootool.store.storage import Bytes, CachedStorage, LocalStorage, Storage
from zootool.testing import StorageSuite, TargetSuite


def write(files: Mapping[str, bytes], folder: Path) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


class TestLocalStorage(StorageSuite):
    def storage(self, files: Mapping[str, bytes], folder: Path) -> Storage:
        write(files, folder)
        return LocalStorage(folder)


class TestRemoteStorage(StorageSuite):
    def storage(self, files: Mapping[str, bytes], folder: Path) -> Storage:
        url = f"memory://{quote(folder.parent.name)}/{folder.name}"
        fs, root = fsspec.core.url_to_fs(url)
        for path, content in files.items():
            fs.pipe_file(f"{root}/{path}", content)
        return RemoteStorage(url)


class TestHttpStorage(StorageSuite):
    @pytest.fixture(autouse=True)
    def server(self, tmp_path: Path) -> Iterator[None]:
        with serving(ServedFolder(tmp_path)) as self.served:
            yield

    def storage(self, files: Mapping[str, bytes], folder: Path) -> Storage:
        self.served.folder = folder
        write(files, folder)
        return HttpStorage(self.served.url)


class TestCachedStorage(StorageSuite):
    def storage(self, files: Mapping[str, bytes], folder: Path) -> Storage:
        write(files, folder / "own")
        return CachedStorage(LocalStorage(folder / "own"), "0" * 64, folder / "cache")


class TestLocalTarget(TargetSuite):
    def target(self, folder: Path) -> Target:
        return LocalTarget(folder / "published")


class TestObjectStore(TargetSuite):
    def target(self, folder: Path) -> Target:
        return ObjectStoreTarget(f"memory://{folder.parent.name}/{folder.name}/x")


class TestS3(TargetSuite):
    @pytest.fixture(autouse=True)
    def bucket(self, s3: str) -> None:
        self.url = s3

    def target(self, folder: Path) -> Target:
        return ObjectStoreTarget(f"{self.url}/x")


class TestHub(TargetSuite):
    @pytest.fixture(autouse=True)
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "hub").mkdir()
        monkeypatch.setitem(import_module("sys").modules, "huggingface_hub", fake_module(Hub(folder=tmp_path / "hub")))

    def target(self, folder: Path) -> Target:
        return HubTarget("hf://datasets/me/small")


class Unordered(LocalStorage):
    def fetch(self, path: str, ranges: Any) -> list[Bytes]:
        return super().fetch(path, sorted(ranges))


class Invents(LocalStorage):
    def size(self, path: str) -> int | None:
        return super().size(path) or 0


class CutsShort(LocalStorage):
    def read(self, path: str) -> bytes:
        return super().read(path)[:1000]


class CannotSeek(LocalStorage):
    def open(self, path: str) -> Any:
        found = io.BytesIO(super().read(path))
        found.seek = lambda *place: 0  # type: ignore[assignment]
        return found


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Unordered, "test_ranges_come_in_the_order_in_which_they_are_asked_for"),
        (Invents, "test_what_is_missing_is_said"),
        (CutsShort, "test_files_are_read_whole"),
        (CannotSeek, "test_opened_files_can_be_searched"),
    ],
)
def test_faults_of_storages_are_caught(kind: type[LocalStorage], name: str, tmp_path: Path) -> None:
    class Suite(StorageSuite):
        def storage(self, files: Mapping[str, bytes], folder: Path) -> Storage:
            write(files, folder)
            return kind(folder)

    with pytest.raises(AssertionError):
        getattr(Suite(), name)(tmp_path)


class Unchecked(LocalTarget):
    def put(self, path: str, source: Path | bytes, sha256: str) -> str | None:
        self.put_bytes(path, source if isinstance(source, bytes) else source.read_bytes())


class KeepsTheFirst(LocalTarget):
    def put_bytes(self, path: str, content: bytes) -> None:
        super().put_bytes(path, self.read(path) or content)

    def put(self, path: str, source: Path | bytes, sha256: str) -> str | None:
        self.put_bytes(path, source if isinstance(source, bytes) else source.read_bytes())


class RemovesAll(LocalTarget):
    def remove(self, paths: Any) -> None:
        super().remove(list(self.listing()))


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        (Unchecked, "test_bytes_that_are_not_the_listed_ones_are_refused", pytest.fail.Exception),
        (KeepsTheFirst, "test_a_later_file_takes_the_place_of_an_earlier_one", AssertionError),
        (RemovesAll, "test_files_are_removed_and_may_be_gone_already", AssertionError),
    ],
)
def test_faults_of_targets_are_caught(
    kind: type[LocalTarget], name: str, error: type[BaseException], tmp_path: Path
) -> None:
    class Suite(TargetSuite):
        def target(self, folder: Path) -> Target:
            return kind(folder / "published")

    with pytest.raises(error):
        getattr(Suite(), name)(tmp_path)
