"""Publishing to a data set repository of the Hugging Face hub: all files appear in one commit."""

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from zootool.errors import MissingError, UsageError, printable
from zootool.share.targets import HUB, Found, Target
from zootool.store.patience import patiently

_DATASET = re.compile(r"^hf://datasets/([A-Za-z0-9][\w.-]*/[\w.-]+)/?$", re.ASCII)


class HubTarget(Target):
    """`hf://datasets/owner/name`. Contents are uploaded one by one; one commit then shows them all, and removes."""

    is_atomic = True

    def __init__(self, url: str) -> None:
        found = _DATASET.match(url)
        if found is None:
            raise UsageError(
                f"{printable(url)} names no data set of the hub", hint=f"write it like {HUB}datasets/OWNER/NAME"
            )
        self.name = url
        self._repo = found[1]
        self._hub = _hub()
        self._api = self._hub.HfApi()
        self._operations: dict[str, Any] = {}

    def listing(self) -> dict[str, Found]:
        return patiently(self._list, f"listing {self.name}")

    def read(self, path: str) -> bytes | None:
        try:
            place = patiently(
                lambda: self._api.hf_hub_download(self._repo, path, repo_type="dataset"), f"reading {self.name}/{path}"
            )
        except FileNotFoundError:
            return None
        except MissingError as error:
            # The hub's own errors for a file or repository that isn't there.
            if type(error.__cause__).__name__ in ("EntryNotFoundError", "RepositoryNotFoundError"):
                return None
            raise
        return Path(place).read_bytes()

    def put(self, path: str, source: Path) -> None:
        patiently(self._create, f"creating {self.name}")
        # The commit wants the file only where it is too small for a content store, so it must not go away before.
        content = source.read_bytes() if source.stat().st_size < 1 << 20 else str(source)
        addition = self._hub.CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)
        patiently(
            lambda: self._api.preupload_lfs_files(self._repo, [addition], repo_type="dataset"),
            f"uploading {self.name}/{path}",
        )
        self._operations[path] = addition

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._operations[path] = self._hub.CommitOperationDelete(path_in_repo=path)

    def commit(self, message: str) -> None:
        operations = [self._operations[path] for path in sorted(self._operations)]
        patiently(
            lambda: self._api.create_commit(self._repo, operations, commit_message=message, repo_type="dataset"),
            f"committing to {self.name}",
        )
        self._operations = {}

    def _create(self) -> None:
        self._api.create_repo(self._repo, repo_type="dataset", exist_ok=True)

    def _list(self) -> dict[str, Found]:
        if not self._api.repo_exists(self._repo, repo_type="dataset"):
            return {}
        found = {}
        for entry in self._api.list_repo_tree(self._repo, recursive=True, repo_type="dataset"):
            size = getattr(entry, "size", None)
            if size is not None:
                lfs = getattr(entry, "lfs", None)
                found[entry.path] = Found(size, lfs.sha256 if lfs else None)
        return found


def _hub() -> Any:
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        raise MissingError(
            "publishing to the hub needs the package huggingface_hub", hint="pip install 'zootool[hub]'"
        ) from error
