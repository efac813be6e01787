"""A first look at a folder: enough of its names to tell formats apart, however many files it holds."""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_MAX_LOOKED_AT = 200


def first_files(path: Path, pattern: re.Pattern[str], count: int = _MAX_LOOKED_AT) -> list[Path]:
    """Files among the first `count` entries of a folder whose whole name matches."""
    return [entry for entry in _entries(path, count) if pattern.fullmatch(entry.name) and entry.is_file()]


def first_folders(path: Path, pattern: re.Pattern[str] | None = None, count: int = _MAX_LOOKED_AT) -> list[Path]:
    """Folders among the first `count` entries of a folder, those whose whole name matches."""
    found = _entries(path, count)
    return [entry for entry in found if (pattern is None or pattern.fullmatch(entry.name)) and entry.is_dir()]


def _entries(path: Path, count: int) -> Iterator[Path]:
    try:
        with os.scandir(path) as entries:
            yield from [Path(entry.path) for entry in islice(entries, count)]
    except OSError:
        return
