"""Where the files of an image set lie, unpacked, gzipped or inside a tar.gz, and their content.

Archives are streamed: only the members that are named are read, by exact name, each up to a limit.
"""

import gzip
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from zootool.catalog import PublishedFile, PublishedForm
from zootool.errors import FormatError

_BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, OSError)


@dataclass(frozen=True)
class Located:
    """A file that was found: at `path` itself, gzipped there, or as `member` of the tar.gz there.

    `published` is what is known of the file at `path`, where it is one that was published.
    """

    path: Path
    member: str | None = None
    published: PublishedFile | None = None

    @property
    def shown(self) -> str:
        """How errors name it."""
        return str(self.path) if self.member is None else f"{self.path} ({self.member})"


def locate(form: PublishedForm, folder: Path) -> dict[str, Located]:
    """The paths of `form` whose content is in `folder`: unpacked first, then gzipped, then in their archive."""
    published = {file.path: file for file in form.files}
    found = {}
    for path, archive in wanted_paths(form):
        for name, member in ((path, None), (f"{path}.gz", None), (archive, path)):
            if name is not None and (folder / name).is_file():
                found[path] = Located(folder / name, member, published.get(name))
                break
    return found


def wanted_paths(form: PublishedForm) -> list[tuple[str, str | None]]:
    """Every path that `form` reads, with the archive that packs it."""
    return [(path, part.archive) for part in form.parts for path in (part.path, part.labels) if path is not None]


def read_contents(located: Mapping[str, Located], limits: Mapping[str, int]) -> dict[str, bytes]:
    """The content of each path, an archive being read through once.

    Raises FormatError for a broken or over-long file and for an archive without a member that should be there.
    """
    contents = {path: _read_file(place, limits[path]) for path, place in located.items() if place.member is None}
    for archive in {place.path for place in located.values() if place.member is not None}:
        names = [path for path, place in located.items() if place.member is not None and place.path == archive]
        contents |= _read_members(archive, names, limits)
    return contents


def _read_file(place: Located, limit: int) -> bytes:
    try:
        with _open(place.path) as source:
            return _read_limited(source, limit, place.shown)
    except _BROKEN as error:
        raise _broken(place.path, error) from error


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.GzipFile(path) if path.suffix == ".gz" else path.open("rb")


def _read_members(archive: Path, names: list[str], limits: Mapping[str, int]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, mode="r|gz") as tar:
            for member in tar:
                if member.name in names and member.name not in contents and (source := tar.extractfile(member)):
                    contents[member.name] = _read_limited(source, limits[member.name], f"{archive} ({member.name})")
                if len(contents) == len(names):
                    return contents
    except _BROKEN as error:
        raise _broken(archive, error) from error
    lost = sorted(set(names) - set(contents))
    raise FormatError(f"{archive} holds no {lost[0]}", hint="delete it and get it again")


def _read_limited(source: IO[bytes] | gzip.GzipFile, limit: int, shown: str) -> bytes:
    content = source.read(limit + 1)
    if len(content) > limit:
        raise FormatError(f"{shown} holds more than {limit} bytes, the published file never does")
    return content


def _broken(path: Path, error: Exception) -> FormatError:
    return FormatError(f"{path} is truncated or damaged: {error}", hint="delete it and get it again")
