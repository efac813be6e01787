"""Which images a folder holds: from its labels.csv, its class folders, or its split and class folders."""

import csv
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from zootool.errors import FormatError, MissingError, did_you_mean, printable

TABLE_NAME = "labels.csv"
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_COLUMNS = ("file", "label", "split")


@dataclass(frozen=True)
class ImageEntry:
    """One image file with its class and split; "" is no split."""

    path: Path
    label: str
    split: str = ""


def read_entries(folder: Path) -> list[ImageEntry]:
    """The images of `folder` in their order, each with its split. Raises FormatError where it sees no layout."""
    table = folder / TABLE_NAME
    entries = _from_table(table) if table.is_file() else _from_folders(folder)
    if not entries:
        raise FormatError(
            f"{folder} holds no images", hint=f"it needs a folder of PNG or JPEG files per class, or a {TABLE_NAME}"
        )
    if len({entry.label for entry in entries}) < 2:
        raise FormatError(f"all images of {folder} are of the class {entries[0].label!r}", hint="it needs two or more")
    return entries if any(entry.split for entry in entries) else _tenths(entries)


def _from_folders(folder: Path) -> list[ImageEntry]:
    names = sorted(child.name for child in folder.iterdir() if child.is_dir())
    if names and all(name in _SPLIT_NAMES for name in names):
        return [replace(e, split=_SPLIT_NAMES[name]) for name in names for e in _from_classes(folder / name)]
    return _from_classes(folder)


def _from_classes(folder: Path) -> list[ImageEntry]:
    labels = sorted(child.name for child in folder.iterdir() if child.is_dir())
    return [
        ImageEntry(path, label)
        for label in labels
        for path in sorted((folder / label).rglob("*"))
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    ]


def _from_table(table: Path) -> list[ImageEntry]:
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


def _entry(row: dict[str, str], table: Path, line: int) -> ImageEntry:
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
    return ImageEntry(path, label, _SPLIT_NAMES.get(split, ""))


def _tenths(entries: list[ImageEntry]) -> list[ImageEntry]:
    """Of each ten images of a class, the ninth goes to validation and the tenth to test."""
    seen: Counter[str] = Counter()
    assigned = []
    for entry in entries:
        position = seen[entry.label] % 10
        seen[entry.label] += 1
        assigned.append(replace(entry, split={8: "validation", 9: "test"}.get(position, "train")))
    return assigned
