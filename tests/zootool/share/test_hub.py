"""The hub's Python API is replaced at its boundary by a small fake that keeps what it is given."""

import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.zootool.share.small_zoos import contents, write_zoo
from zootool.errors import MissingError
from zootool.share.publish import publish
from zootool.store.schema import DERIVED_FILES

URL = "hf://datasets/me/small"


@dataclass
class Addition:
    path_in_repo: str
    path_or_fileobj: Any

    @property
    def upload_info(self) -> Any:
        return SimpleNamespace(sha256=hashlib.sha256(self.content).digest())

    @property
    def content(self) -> bytes:
        given = self.path_or_fileobj
        return given if isinstance(given, bytes) else Path(given).read_bytes()


@dataclass
class Deletion:
    path_in_repo: str


class Refused(Exception):
    """The hub's client raises errors that carry the server's answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.response = SimpleNamespace(status_code=status)


class EntryNotFoundError(Refused):
    pass


class RemoteEntryNotFoundError(EntryNotFoundError):
    pass


@dataclass
class Hub:
    """What all `HfApi()` of a test see: committed files, contents uploaded before, commits, failures to come."""

    files: dict[str, bytes] | None = None
    uploaded: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    failures: int = 0
    folder: Path = Path()

    def repo_exists(self, repo_id: str, repo_type: str) -> bool:
        assert (repo_id, repo_type) == ("me/small", "dataset")
        return self.files is not None

    def create_repo(self, repo_id: str, repo_type: str, exist_ok: bool) -> None:
        self.files = self.files or {}

    def repo_info(self, repo_id: str, repo_type: str) -> Any:
        return SimpleNamespace(sha=self.head)

    def list_repo_tree(self, repo_id: str, recursive: bool, repo_type: str, revision: str) -> list[Any]:
        assert self.files is not None
        return [
            SimpleNamespace(path=path, size=len(c), lfs=SimpleNamespace(sha256=hashlib.sha256(c).hexdigest()))
            for path, c in self.files.items()
        ]

    def preupload_lfs_files(self, repo_id: str, additions: list[Addition], repo_type: str) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("503 from the hub")
        self.uploaded += [addition.path_in_repo for addition in additions]

    @property
    def head(self) -> str:
        return f"commit-{len(self.commits)}"

    def create_commit(
        self, repo_id: str, operations: list[Any], commit_message: str, repo_type: str, parent_commit: str
    ) -> None:
        assert self.files is not None
        if parent_commit != self.head:
            raise Refused(412)
        for operation in operations:
            if isinstance(operation, Addition):
                self.files[operation.path_in_repo] = operation.content
            else:
                del self.files[operation.path_in_repo]
        self.commits.append(commit_message)

    def hf_hub_download(self, repo_id: str, filename: str, repo_type: str, revision: str) -> str:
        assert self.files is not None
        if filename not in self.files:
            raise RemoteEntryNotFoundError(404)
        place = self.folder / "downloaded"
        place.write_bytes(self.files[filename])
        return str(place)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    state = Hub(folder=tmp_path)
    module: Any = ModuleType("huggingface_hub")
    module.HfApi = lambda: state
    module.CommitOperationAdd = Addition
    module.CommitOperationDelete = Deletion
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return state


def covered(hub: Hub) -> dict[str, bytes]:
    return {path: content for path, content in (hub.files or {}).items() if path not in DERIVED_FILES}


def test_one_commit_shows_everything(hub: Hub, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", URL)
    assert covered(hub) == contents(tmp_path / "x.zoo")
    assert len(hub.commits) == 1
    assert "README.md" in (hub.files or {})


def test_another_version_replaces_the_old_in_one_commit(hub: Hub, tmp_path: Path) -> None:
    write_zoo(tmp_path / "old.zoo")
    write_zoo(tmp_path / "new.zoo", seed=3)
    publish(tmp_path / "old.zoo", URL)
    hub.uploaded.clear()
    publish(tmp_path / "new.zoo", URL)
    assert covered(hub) == contents(tmp_path / "new.zoo")
    assert len(hub.commits) == 2
    assert "zarr.json" not in hub.uploaded


def test_what_the_hub_says_of_contents_counts(hub: Hub, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    publish(tmp_path / "x.zoo", URL)
    assert hub.files is not None
    hub.files["edges/c/1"] = hub.files["edges/c/1"][::-1]
    publish(tmp_path / "x.zoo", URL)
    assert covered(hub) == contents(tmp_path / "x.zoo")


def test_uploads_are_tried_again(hub: Hub, tmp_path: Path) -> None:
    write_zoo(tmp_path / "x.zoo")
    hub.failures = 3
    publish(tmp_path / "x.zoo", URL)
    assert covered(hub) == contents(tmp_path / "x.zoo")
    hub.files, hub.failures = None, 1000
    with pytest.raises(MissingError, match=r"uploading .* failed 6 times .*503 from the hub"):
        publish(tmp_path / "x.zoo", URL)
    assert not hub.files


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zoo(tmp_path / "x.zoo")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingError, match=r"zootool\[hub\]"):
        publish(tmp_path / "x.zoo", URL)
