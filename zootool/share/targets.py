"""Where a zoo is published: a folder that can be written to, here or behind a URL."""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zootool.errors import MissingError, UsageError, printable
from zootool.files import fsync_folder, temporary_path
from zootool.store.patience import patiently

HUB = "hf://"


@dataclass(frozen=True)
class Found:
    """A file that is there already: its size in bytes, and its SHA-256 where the place vouches for it."""

    size: int
    sha256: str | None = None


class Target(ABC):
    """A writable folder. A file appears under its name whole or not at all.

    Where `is_atomic`, nothing that was put or removed is seen before `commit`.
    """

    name: str
    is_atomic = False

    @abstractmethod
    def listing(self) -> dict[str, Found]:
        """Every file below the folder, by its path with forward slashes."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """A small file, None when it isn't there."""

    @abstractmethod
    def put(self, path: str, source: Path) -> None:
        """Upload a file, in the place of what has its name."""

    @abstractmethod
    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; some may be gone already."""

    def commit(self, message: str) -> None:
        """Let everything appear at once, where `is_atomic`."""
        assert not self.is_atomic


class LocalTarget(Target):
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.folder = folder

    def listing(self) -> dict[str, Found]:
        found = {}
        for parent, _, names in os.walk(self.folder):
            for name in names:
                path = Path(parent) / name
                found[path.relative_to(self.folder).as_posix()] = Found(path.stat().st_size)
        return found

    def read(self, path: str) -> bytes | None:
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, path: str, source: Path) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(target)
        try:
            shutil.copyfile(source, temporary)
            fsync_folder(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(target.parent)

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            (self.folder / path).unlink(missing_ok=True)


class FsspecTarget(Target):
    """A folder behind any URL that fsspec writes to. Object stores show an upload when it is complete."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.name = url
        try:
            # What fsspec remembers of listings may be older than another process's upload.
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise MissingError(
                f"can't write to {printable(url)}: {printable(error)}", hint="install what the URL's protocol needs"
            ) from error
        self._root = root.rstrip("/")

    def listing(self) -> dict[str, Found]:
        self._fs.invalidate_cache()
        found = patiently(self._find, f"listing {self.name}")
        return {path[len(self._root) :].lstrip("/"): Found(int(size)) for path, size in found.items()}

    def read(self, path: str) -> bytes | None:
        try:
            return patiently(lambda: self._fs.cat_file(f"{self._root}/{path}"), f"reading {self.name}/{path}")
        except FileNotFoundError:
            return None

    def put(self, path: str, source: Path) -> None:
        place = f"{self._root}/{path}"
        patiently(lambda: self._fs.put_file(str(source), place), f"uploading {self.name}/{path}")

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                place = f"{self._root}/{path}"
                patiently(lambda place=place: self._fs.rm_file(place), f"removing {self.name}/{path}")
            except (FileNotFoundError, KeyError):
                continue

    def _find(self) -> dict[str, int]:
        try:
            return {path: info["size"] for path, info in self._fs.find(self._root, detail=True).items()}
        except FileNotFoundError:
            return {}


def open_target(url: str) -> Target:
    """The target that `url` names: a path, `file://`, `hf://datasets/owner/name`, or any fsspec URL.

    Raises UsageError for what can't be written to, MissingError where a package is missing.
    """
    if url.startswith(("http://", "https://")):
        raise UsageError(
            f"{printable(url)} can be read but not written to",
            hint="publish to the folder that the web server serves, or to s3://, gs:// or hf://datasets/OWNER/NAME",
        )
    if url.startswith(HUB):
        from zootool.share.hub import HubTarget

        return HubTarget(url)
    if "://" not in url or url.startswith("file://"):
        return LocalTarget(Path(url.removeprefix("file://")))
    return FsspecTarget(url)
