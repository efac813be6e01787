"""A folder of one's own images: `folder:PATH?size=32&grey=1`.

Layout: either a `labels.csv` with the columns file, label and optionally split, or a folder per class, or folders
named train, validation and test with a folder per class in each. PNG and JPEG.

Rules. Images are numbered in the order of labels.csv, or of their sorted paths. Classes are sorted by name. Where no
split is given, every tenth image of a class goes to validation and every tenth to test (of each ten the ninth and the
tenth). An image is turned upright by its EXIF orientation, cut to the square in its middle, and scaled by a Lanczos
filter to `size` pixels: by default the shortest side found in the folder, so that nothing is enlarged. Transparency is
dropped. `grey=1` makes one channel by ITU-R 601 luma; by default there is one channel where no image has colour.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np

from zootool.data_dir import DataFolder
from zootool.errors import MissingError, UsageError, did_you_mean, printable
from zootool.images.folder_entries import ImageEntry, read_entries
from zootool.images.images import FOLDER_PREFIX, Images
from zootool.images.pictures import measure, read_picture
from zootool.progress import Reporter, silent

SOURCE_TERMS = "not stated: images of the user's own"
_MAX_SIZE = 1024
_MAX_BYTES = 8 << 30
_FLAGS = {"0": False, "1": True}


@dataclass(frozen=True)
class FolderSource:
    """What `folder:PATH?size=32&grey=1` asks for. `size` is in pixels; None are the defaults of the module."""

    path: str
    size: int | None = None
    grey: bool | None = None

    @property
    def name(self) -> str:
        """The name that goes into a zoo: without the folder's place on this computer."""
        options = {"size": self.size, "grey": self.grey if self.grey is None else int(self.grey)}
        query = "&".join(f"{key}={value}" for key, value in options.items() if value is not None)
        return FOLDER_PREFIX + Path(self.path).resolve().name + (f"?{query}" if query else "")


def parse_folder_source(text: str) -> FolderSource:
    """`folder:PATH[?size=PIXELS][&grey=0|1]` in its parts. Raises UsageError."""
    path, _, query = text.removeprefix(FOLDER_PREFIX).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(set(options) - {"size", "grey"}):
        raise UsageError(
            f"{text!r} has an unknown option {unknown[0]!r}", hint=did_you_mean(unknown[0], ["size", "grey"])
        )
    if not path:
        raise UsageError(f"{text!r} names no folder", hint="write folder:PATH")
    size, grey = options.get("size"), options.get("grey")
    if size is not None and not (size.isascii() and size.isdigit() and 0 < int(size) <= _MAX_SIZE):
        raise UsageError(f"size={size} must be 1..{_MAX_SIZE} pixels", hint="such as folder:PATH?size=32")
    if grey is not None and grey not in _FLAGS:
        raise UsageError(f"grey={grey} must be 0 or 1", hint="such as folder:PATH?grey=1")
    return FolderSource(path, None if size is None else int(size), None if grey is None else _FLAGS[grey])


def read_folder(text: str, folders: tuple[DataFolder, ...] = (), *, report: Reporter = silent) -> Images:
    """The images of `folder:PATH`; a relative PATH is looked for here, then in `folders`.

    Raises UsageError for options, MissingError for a folder that isn't there, FormatError for an image, a layout or a
    table that can't be used.
    """
    source = parse_folder_source(text)
    folder = _resolve(source, folders)
    entries = read_entries(folder)
    size, num_channels = _common_shape(source, entries, report)
    if len(entries) * size * size * num_channels > _MAX_BYTES:
        raise UsageError(
            f"{len(entries)} images of {size} x {size} don't fit in memory", hint=f"add ?size=32 to {text}"
        )
    classes = sorted({entry.label for entry in entries})
    pixels = np.empty((len(entries), size, size, num_channels), np.uint8)
    for row, entry in enumerate(entries):
        pixels[row] = read_picture(entry.path, size, num_channels)
        report("reading images", row + 1, len(entries))
    return Images(
        name=source.name,
        pixels=pixels,
        labels=np.array([classes.index(entry.label) for entry in entries], np.int64),
        source_index=np.arange(len(entries), dtype=np.int64),
        split=np.array([entry.split for entry in entries]),
        class_names=tuple(classes),
        is_partial=False,
        source_terms=SOURCE_TERMS,
    )


def _resolve(source: FolderSource, folders: tuple[DataFolder, ...]) -> Path:
    given = Path(source.path).expanduser()
    candidates = [given] if given.is_absolute() else [given, *(folder.path / given for folder in folders)]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    searched = ", ".join(str(candidate.absolute()) for candidate in candidates)
    raise MissingError(f"there is no folder {printable(source.path)!r}; searched {searched}", hint="check the path")


def _common_shape(source: FolderSource, entries: list[ImageEntry], report: Reporter) -> tuple[int, int]:
    """Pixels per side and channels of all images."""
    if source.size is not None and source.grey is not None:
        return source.size, 1 if source.grey else 3
    sides, colours = [], []
    for row, entry in enumerate(entries):
        side, has_colour = measure(entry.path)
        sides.append(side)
        colours.append(has_colour)
        report("measuring images", row + 1, len(entries))
    grey = not any(colours) if source.grey is None else source.grey
    size = min(sides) if source.size is None else source.size
    if size > _MAX_SIZE:
        raise UsageError(f"the smallest image has {size} pixels a side, at most {_MAX_SIZE} go", hint="add ?size=32")
    return size, 1 if grey else 3
