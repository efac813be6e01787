"""Publishing behind any URL that fsspec writes to."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from zootool.errors import MissingError, UsageError, printable
from zootool.files import sha256_file
from zootool.share.targets import Found, Target, check_sent
from zootool.store.patience import Result, patiently

_MARKS = ("ETag", "etag", "md5Hash")
"""What object stores call that which changes with a file's bytes; each is the same in listings and single answers."""


class ObjectStoreTarget(Target):
    """A folder behind a URL. Object stores show an upload when it is complete."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.name = url
        try:
            # What fsspec remembers of listings may be older than another process's upload.
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError, TypeError, OSError) as error:
            raise MissingError(
                f"can't write to {printable(url)}: {printable(error)}",
                hint="install what the URL's protocol needs, or publish to a folder, s3://, gs:// or hf://",
            ) from error
        self._root = root.rstrip("/")

    def listing(self) -> dict[str, Found]:
        self._fs.invalidate_cache()
        found = patiently(self._find, f"listing {self.name}")
        return {path[len(self._root) :].lstrip("/"): found_of(info) for path, info in found.items()}

    def read(self, path: str) -> bytes | None:
        try:
            return patiently(lambda: self._fs.cat_file(self._place(path)), f"reading {self.name}/{path}")
        except FileNotFoundError:
            return None

    def put(self, path: str, source: Path, sha256: str) -> str | None:
        before = source.stat()
        check_sent(path, sha256_file(source), sha256)
        self._upload(path, lambda: self._fs.put_file(str(source), self._place(path)))
        after = source.stat()
        # The client reads the file once more: it has to be the one that was digested.
        is_same = (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        check_sent(path, sha256 if is_same else "", sha256)
        return found_of(patiently(lambda: self._fs.info(self._place(path)), f"reading {self.name}/{path}")).mark

    def put_bytes(self, path: str, content: bytes) -> None:
        self._upload(path, lambda: self._fs.pipe_file(self._place(path), content))

    def create(self, path: str, content: bytes) -> bool:
        try:
            self._fs.pipe_file(self._place(path), content, mode="create")
        except FileExistsError:
            return False
        # Clients and servers that don't know the condition say so in ways of their own.
        except Exception:
            if self.read(path) is not None:
                return False
            self.put_bytes(path, content)
        return True

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                patiently(lambda path=path: self._fs.rm_file(self._place(path)), f"removing {self.name}/{path}")
            except (FileNotFoundError, KeyError):
                continue

    def _upload(self, path: str, call: Callable[[], Result]) -> Result:
        try:
            return patiently(call, f"uploading {self.name}/{path}")
        except NotImplementedError as error:
            raise UsageError(
                f"{printable(self.name)} can't be written to", hint="publish to a folder, s3://, gs:// or hf://"
            ) from error

    def _find(self) -> dict[str, dict[str, Any]]:
        try:
            return self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            return {}

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}"


def found_of(info: dict[str, Any]) -> Found:
    """What a client says about a file."""
    mark = next((str(info[name]).strip('"') for name in _MARKS if info.get(name)), None)
    return Found(int(info["size"]), mark=mark)
