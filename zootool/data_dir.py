"""Where image sets and downloads lie on this computer: the folders that are searched, in order."""

import os
from dataclasses import dataclass
from pathlib import Path

DATA_VARIABLE = "ZOO_DATA"


@dataclass(frozen=True)
class DataFolder:
    """A folder that may hold image sets. `origin` says in an error why it was searched."""

    path: Path
    origin: str
    accepts_partial: bool = False


def data_folders(data_dir: Path | None = None) -> tuple[DataFolder, ...]:
    """The folders to search: `data_dir`, then $ZOO_DATA, then the per-user cache; unset ones are left out.

    Prefixes of image sets are accepted without asking under $ZOO_DATA alone, which is where tests put them.
    """
    folders = []
    if data_dir is not None:
        folders.append(DataFolder(data_dir, "the data folder given"))
    if named := os.environ.get(DATA_VARIABLE):
        folders.append(DataFolder(Path(named), f"${DATA_VARIABLE}", accepts_partial=True))
    folders.append(DataFolder(cache_dir(), "the per-user cache"))
    return tuple(folders)


def cache_dir() -> Path:
    """The per-user cache, $XDG_CACHE_HOME/zootool or ~/.cache/zootool. It need not exist."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    base = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    return base / "zootool"
