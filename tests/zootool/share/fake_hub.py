"""The hub's Python API as far as publishing and reading use it: it keeps what it is given."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from fsspec import AbstractFileSystem


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
    refusal: int | None = None
    refused: int = 0
    folder: Path = Path()

    def repo_exists(self, repo_id: str, repo_type: str) -> bool:
        assert (repo_id, repo_type) == ("me/small", "dataset")
        return self.files is not None

    def create_repo(self, repo_id: str, repo_type: str, exist_ok: bool) -> None:
        if self.refusal is not None:
            self.refused += 1
            raise Refused(self.refusal)
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


class HubFiles(AbstractFileSystem):
    """`hf://` for fsspec, on the files of `hub`."""

    protocol = "hf"
    cachable = False
    hub: ClassVar[Hub]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self.cat_file(path)), "type": "file"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        files = self.hub.files or {}
        name = path.rpartition("datasets/me/small/")[2]
        if name not in files:
            raise FileNotFoundError(path)
        return files[name][start:end]


def fake_module(hub: Hub) -> Any:
    """What `import huggingface_hub` gives."""
    module: Any = ModuleType("huggingface_hub")
    module.HfApi = lambda: hub
    module.CommitOperationAdd = Addition
    module.CommitOperationDelete = Deletion
    return module
