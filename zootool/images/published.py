"""Reading a published image set, or a prefix of one: from unpacked or gzipped files, or from inside a tar.gz.

Archives are streamed: only the members that are named are read, by exact name, each up to a limit.
"""

import gzip
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Int64

from zootool.catalog import ImageSet, Part, PublishedFile, PublishedForm
from zootool.errors import FormatError, IntegrityError, printable
from zootool.fetch.downloaded import check_digest, check_file
from zootool.images.images import Labels, PartContent, Pixels, Reader

_BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, OSError)
_SPARE_BYTES = 1 << 20


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
    for path, archive in ((path, part.archive) for part in form.parts for path in part.paths):
        for name, member in ((path, None), (f"{path}.gz", None), (archive, path)):
            if name is not None and (folder / name).is_file():
                found[path] = Located(folder / name, member, published.get(name))
                break
    return found


def missing_paths(form: PublishedForm, located: Mapping[str, Located]) -> list[str]:
    """The files of `form` that weren't found."""
    return [path for part in form.parts for path in part.paths if path not in located]


def read_published(
    image_set: ImageSet, form: PublishedForm, located: dict[str, Located]
) -> tuple[Pixels, Labels, Int64[np.ndarray, " images"]]:
    """Pixels, labels and source indices of what is there of `form`, in the set's order.

    Raises FormatError and IntegrityError for a file that isn't what was published, or a set with a gap in it.
    """
    parts = [part for part in form.parts if all(path in located for path in part.paths)]
    _check_packed(parts, located)
    contents = read_contents(located, _limits(image_set, parts, located))
    pixels, labels, indices = [], [], []
    for part in sorted(parts, key=lambda part: part.start):
        images = _read_part(image_set, form, part, contents, located[part.path].shown)
        pixels.append(images[0])
        labels.append(images[1])
        indices.append(np.arange(part.start, part.start + len(images[0]), dtype=np.int64))
        for path in part.paths:
            contents.pop(path, None)  # hundreds of megabytes that are no longer needed
    found = np.concatenate(indices)
    _check_prefix(image_set, found)
    return np.concatenate(pixels), np.concatenate(labels), found


def reader_of(name: str) -> Reader:
    """How the format called `name` is read, which the module says that its name begins with. Raises FormatError."""
    home = f"{__package__}.{name.partition('-')[0].rstrip('0123456789')}"
    readers: dict[str, Reader] = getattr(import_module(home), "READERS", {}) if find_spec(home) is not None else {}
    if name not in readers:
        raise FormatError(f"there is no format {printable(name, 60)!r} of image files", hint="correct datasets.yaml")
    return readers[name]


def _read_part(
    image_set: ImageSet, form: PublishedForm, part: Part, contents: dict[str, bytes], shown: str
) -> tuple[Pixels, Labels]:
    labels = contents[part.labels] if part.labels else b""
    pixels, classes = reader_of(form.format)(PartContent(contents[part.path], labels, shown, part.count))
    if pixels.shape[1:] != image_set.shape:
        raise FormatError(f"{shown} has images of the shape {pixels.shape[1:]}, {image_set.title} {image_set.shape}")
    if len(pixels) > part.count:
        raise FormatError(f"{shown} holds {len(pixels)} images, {part.count} were published")
    if len(classes) and not 0 <= classes.min() <= classes.max() < len(image_set.classes):
        span = f"{classes.min()}..{classes.max()}"
        raise FormatError(f"{shown} has labels {span}, {image_set.title} has 0..{len(image_set.classes) - 1}")
    if len(pixels) == part.count:
        check_digest([contents[part.path]], shown, md5=part.md5, sha256=part.sha256)
        if part.labels:
            check_digest([labels], f"the label file of {shown}", sha256=part.labels_sha256)
    return pixels, classes


def _limits(image_set: ImageSet, parts: list[Part], located: dict[str, Located]) -> dict[str, int]:
    """Bytes beyond which a file can't be what was published: twice the pixels leaves room for labels and names."""
    image_bytes = int(np.prod(image_set.shape))
    limits = dict.fromkeys(located, _SPARE_BYTES)
    for part in parts:
        limits[part.path] = 2 * part.count * image_bytes + _SPARE_BYTES
        if part.labels:
            limits[part.labels] = part.count + _SPARE_BYTES
    return limits


def _check_packed(parts: list[Part], located: dict[str, Located]) -> None:
    """Check the files that were published, where what is in them has no digest of its own."""
    unpinned = [part for part in parts if part.sha256 is None and part.md5 is None]
    places = {located[path] for part in unpinned for path in part.paths}
    for place in sorted(places, key=lambda place: place.path):
        if place.published is not None:
            check_file(place.path, place.published)


def _check_prefix(image_set: ImageSet, found: Int64[np.ndarray, " images"]) -> None:
    """Training images must be the first so many, and so must the test images."""
    for kind, first, end in (("training", 0, image_set.num_train), ("test", image_set.num_train, image_set.num_images)):
        held = found[(found >= first) & (found < end)]
        if len(held) and held[-1] - first + 1 != len(held):
            gap = first + int(np.argmax(held != np.arange(first, first + len(held))))
            raise IntegrityError(
                f"the {kind} images of {image_set.title} have a gap: image {gap} is missing, later ones are there",
                hint="a partial set must be a prefix: add the missing file or remove the later ones",
            )


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
        with gzip.GzipFile(place.path) if place.path.suffix == ".gz" else place.path.open("rb") as source:
            return _read_limited(source, limit, place.shown)
    except _BROKEN as error:
        raise _broken(place.path, error) from error


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
