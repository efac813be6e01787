"""A folder of one's own images: `folder:PATH?size=32&grey=1`.

Layout: either a `labels.csv` with the columns file, label and optionally split, or a folder per class, or folders
named train, validation and test with a folder per class in each. PNG and JPEG.

Rules. Images are numbered in the order of labels.csv, or of their sorted paths. Classes are sorted by name. Where no
split is given, every tenth image of a class goes to validation and every tenth to test (of each ten the ninth and the
tenth). An image is turned upright by its EXIF orientation, cut to the square in its middle, and scaled by a Lanczos
filter to `size` pixels: by default the shortest side found in the folder, so that nothing is enlarged. Transparency is
dropped. `grey=1` makes one channel by ITU-R 601 luma; by default there is one channel where no image has colour.
"""

import csv
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from zootool.data_dir import DataFolder
from zootool.errors import FormatError, MissingError, UntrustedError, UsageError, did_you_mean, printable
from zootool.images.images import FOLDER_PREFIX, Images
from zootool.progress import Reporter, silent

_TABLE_NAME = "labels.csv"
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_COLUMNS = ("file", "label", "split")
_FORMATS = ("PNG", "JPEG")
_MAX_PIXELS = 1 << 26
_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
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


@dataclass(frozen=True)
class _Entry:
    """One image file with its class and split; "" is no split."""

    path: Path
    label: str
    split: str = ""


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
    entries = _entries(folder)
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
        source_terms="not stated: images of the user's own",
    )


def _resolve(source: FolderSource, folders: tuple[DataFolder, ...]) -> Path:
    given = Path(source.path).expanduser()
    candidates = [given] if given.is_absolute() else [given, *(folder.path / given for folder in folders)]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    searched = ", ".join(str(candidate.absolute()) for candidate in candidates)
    raise MissingError(f"there is no folder {printable(source.path)!r}; searched {searched}", hint="check the path")


def _common_shape(source: FolderSource, entries: list[_Entry], report: Reporter) -> tuple[int, int]:
    """Pixels per side and channels of all images."""
    if source.size is not None and source.grey is not None:
        return source.size, 1 if source.grey else 3
    measured = []
    for row, entry in enumerate(entries):
        measured.append(measure(entry.path))
        report("measuring images", row + 1, len(entries))
    grey = not any(has_colour for _, has_colour in measured) if source.grey is None else source.grey
    size = min(side for side, _ in measured) if source.size is None else source.size
    if size > _MAX_SIZE:
        raise UsageError(f"the smallest image has {size} pixels a side, at most {_MAX_SIZE} go", hint="add ?size=32")
    return size, 1 if grey else 3


def _entries(folder: Path) -> list[_Entry]:
    """The images of `folder` in their order, each with its split. Raises FormatError where it sees no layout."""
    table = folder / _TABLE_NAME
    names = sorted(child.name for child in folder.iterdir() if child.is_dir())
    if table.is_file():
        entries = _from_table(table)
    elif names and all(name in _SPLIT_NAMES for name in names):
        entries = [replace(e, split=_SPLIT_NAMES[name]) for name in names for e in _from_classes(folder / name)]
    else:
        entries = _from_classes(folder)
    if not entries:
        raise FormatError(
            f"{folder} holds no images", hint=f"it needs a folder of PNG or JPEG files per class, or a {_TABLE_NAME}"
        )
    if len({entry.label for entry in entries}) < 2:
        raise FormatError(f"all images of {folder} are of the class {entries[0].label!r}", hint="it needs two or more")
    return entries if any(entry.split for entry in entries) else _tenths(entries)


def _from_classes(folder: Path) -> list[_Entry]:
    return [
        _Entry(path, label)
        for label in sorted(child.name for child in folder.iterdir() if child.is_dir())
        for path in sorted((folder / label).rglob("*"))
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    ]


def _from_table(table: Path) -> list[_Entry]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as source:
            reader = csv.DictReader(source, strict=True)
            _check_columns(list(reader.fieldnames or ()), table)
            entries = [_entry(row, table, reader.line_num) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"{table} is not readable: {printable(error)}", hint="save it as CSV in UTF-8") from error
    if repeated := [path for path, count in Counter(entry.path for entry in entries).items() if count > 1]:
        raise FormatError(f"{table} names {repeated[0]} more than once", hint="each image is one line")
    return entries


def _check_columns(columns: list[str], table: Path) -> None:
    if unknown := [column for column in columns if column not in _COLUMNS]:
        raise FormatError(
            f"{table} has an unknown column {printable(unknown[0], 60)!r}", hint=did_you_mean(unknown[0], _COLUMNS)
        )
    if lost := [column for column in _COLUMNS[:2] if column not in columns]:
        raise FormatError(
            f"{table} lacks the column {lost[0]!r}", hint="its first line is file,label or file,label,split"
        )


def _entry(row: dict[str, str], table: Path, line: int) -> _Entry:
    file, label, split = row["file"], row["label"], row.get("split") or ""
    if None in row or not file or not label:
        raise FormatError(f"{table} line {line} must be a file, a label and at most a split")
    inner = PurePosixPath(file)
    if inner.is_absolute() or ".." in inner.parts:
        raise FormatError(
            f"{table} line {line}: {printable(file)!r} is outside the folder", hint="write paths below it"
        )
    if split and split not in _SPLIT_NAMES:
        raise FormatError(
            f"{table} line {line}: unknown split {printable(split, 60)!r}", hint=did_you_mean(split, _SPLIT_NAMES)
        )
    path = table.parent / inner
    if not path.is_file():
        raise MissingError(f"{table} line {line}: there is no image {path}", hint="correct the path")
    return _Entry(path, label, _SPLIT_NAMES.get(split, ""))


def _tenths(entries: list[_Entry]) -> list[_Entry]:
    """Of each ten images of a class, the ninth goes to validation and the tenth to test."""
    seen: Counter[str] = Counter()
    assigned = []
    for entry in entries:
        assigned.append(replace(entry, split={8: "validation", 9: "test"}.get(seen[entry.label] % 10, "train")))
        seen[entry.label] += 1
    return assigned


def measure(path: Path) -> tuple[int, bool]:
    """The shorter side in pixels and whether the file can hold colour, from its header alone.

    Raises as `read_picture`.
    """
    with _opened(path) as picture:
        return min(picture.size), picture.mode not in _GREY_MODES


def read_picture(path: Path, size: int, num_channels: int) -> UInt8[np.ndarray, "size size channels"]:
    """The square in the middle of the upright picture, scaled to `size` by a Lanczos filter; 1 or 3 channels.

    Raises FormatError for a file that is not a readable PNG or JPEG of 8 bits per channel, UntrustedError for one
    that unpacks to more than 67 million pixels, MissingError for one that is not there.
    """
    with _opened(path) as picture:
        # Transparency is dropped rather than blended: the colour of a background would be an invention.
        upright = ImageOps.exif_transpose(picture).convert("RGB" if num_channels == 3 else "L")
        side = min(upright.size)
        left, top = (upright.width - side) // 2, (upright.height - side) // 2
        square = upright.crop((left, top, left + side, top + side))
        scaled = square if side == size else square.resize((size, size), Image.Resampling.LANCZOS)
        return np.array(scaled).reshape(size, size, num_channels)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    raise Image.DecompressionBombError
                if picture.mode not in _GREY_MODES | _COLOUR_MODES:
                    raise FormatError(
                        f"{path} has pixels of the kind {picture.mode}, images must have 8 bits per channel",
                        hint="convert it to 8 bits",
                    )
                yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UntrustedError(
            f"{path} unpacks to more than {_MAX_PIXELS} pixels", hint="shrink it or take it out"
        ) from error
    except FileNotFoundError as error:
        raise MissingError(f"there is no image {path}", hint="correct the path in labels.csv") from error
    # Pillow's decoders raise these for a damaged file, SyntaxError included.
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's word, none about the picture
        raise FormatError(
            f"{path} is not a readable PNG or JPEG: {printable(error)}", hint="repair the image or take it out"
        ) from error
