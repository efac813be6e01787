"""Publishing to a data set repository of the Hugging Face hub: all files appear in one commit."""

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from zootool.errors import MissingError, UsageError, printable
from zootool.share.targets import Found, Target, check_sent
from zootool.store.patience import Result, patiently

HUB = "hf://"
_DATASET = re.compile(r"hf://datasets/([A-Za-z0-9][\w.-]*/[\w.-]+)/?", re.ASCII)
_NOT_THERE = {"EntryNotFoundError", "RepositoryNotFoundError"}
_CONFLICT = (409, 412)
_DENIED = (401, 403)
_SMALL_BYTES = 1 << 20


class HubTarget(Target):
    """`hf://datasets/owner/name`. Contents are uploaded one by one; one commit then shows them all, and removes.

    The commit is made upon the one that was looked at first: the hub refuses it where somebody was quicker.
    """

    is_atomic = True

    def __init__(self, url: str) -> None:
        found = _DATASET.fullmatch(url)
        if found is None:
            raise UsageError(
                f"{printable(url)} names no data set of the hub", hint=f"write it like {HUB}datasets/OWNER/NAME"
            )
        try:
            self._hub: Any = import_module("huggingface_hub")
        except ImportError as error:
            raise MissingError(
                "publishing to the hub needs the package huggingface_hub", hint="pip install 'zootool[hub]'"
            ) from error
        self.name = url
        self._repo = found[1]
        self.public_url = f"https://huggingface.co/datasets/{self._repo}"
        self._api = self._hub.HfApi()
        self._operations: dict[str, Any] = {}
        self._lock = Lock()
        self._seen: str | None = None

    def listing(self) -> dict[str, Found]:
        def look() -> dict[str, Found]:
            if not self._api.repo_exists(self._repo, repo_type="dataset"):
                return {}
            self._seen = self._api.repo_info(self._repo, repo_type="dataset").sha
            tree = self._api.list_repo_tree(self._repo, recursive=True, repo_type="dataset", revision=self._seen)
            # Folders have no size.
            files = [entry for entry in tree if getattr(entry, "size", None) is not None]
            return {file.path: Found(file.size, getattr(getattr(file, "lfs", None), "sha256", None)) for file in files}

        return self._ask(look, "listing")

    def read(self, path: str) -> bytes | None:
        if self._seen is None:
            return None
        revision = self._seen

        def download() -> bytes | None:
            try:
                place = self._api.hf_hub_download(self._repo, path, repo_type="dataset", revision=revision)
            except Exception as error:
                if any(kind.__name__ in _NOT_THERE for kind in type(error).__mro__):
                    return None
                raise
            return Path(place).read_bytes()

        return self._ask(download, f"reading {path} of")

    def put(self, path: str, source: Path | bytes, sha256: str) -> str | None:
        content: bytes | str = source if isinstance(source, bytes) else str(source)
        if isinstance(source, Path) and source.stat().st_size < _SMALL_BYTES:
            # The commit wants the content only where it is too small for a content store.
            content = source.read_bytes()
        addition = self._hub.CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)
        # Under this digest the hub expects the content, and checks it.
        check_sent(path, addition.upload_info.sha256.hex(), sha256)
        with self._lock:
            if self._seen is None:
                self._ask(lambda: self._api.create_repo(self._repo, repo_type="dataset", exist_ok=True), "creating")
                self._seen = self._ask(lambda: self._api.repo_info(self._repo, repo_type="dataset").sha, "creating")
        self._ask(
            lambda: self._api.preupload_lfs_files(self._repo, [addition], repo_type="dataset"), f"uploading {path} to"
        )
        self._operations[path] = addition

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._operations[path] = self._hub.CommitOperationDelete(path_in_repo=path)

    def commit(self, message: str) -> None:
        operations = [self._operations[path] for path in sorted(self._operations)]
        self._ask(
            lambda: self._api.create_commit(
                self._repo, operations, commit_message=message, repo_type="dataset", parent_commit=self._seen
            ),
            "committing to",
        )
        self._operations = {}

    def _ask(self, call: Callable[[], Result], doing: str) -> Result:
        """Ask the hub patiently, but not again where its answer is no."""

        def once() -> Result:
            try:
                return call()
            except Exception as error:
                status = getattr(getattr(error, "response", None), "status_code", None)
                if status in _CONFLICT:
                    raise UsageError(
                        f"somebody else has published to {self.name} meanwhile", hint="run the same command again"
                    ) from error
                if status in _DENIED:
                    raise MissingError(
                        f"the hub allows no {doing} {self.name}: {printable(error)}", hint="log in with `hf auth login`"
                    ) from error
                raise

        return patiently(once, f"{doing} {self.name}")
