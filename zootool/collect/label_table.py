"""A table of labels beside a folder of checkpoints: CSV, JSON lines or Parquet, one row per file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from zootool.errors import FormatError, MissingError, printable

NAMES = ("labels.csv", "labels.jsonl", "labels.parquet", "metadata.csv", "metadata.jsonl", "metadata.parquet")
_PATH_COLUMNS = ("path", "file", "file_name", "filename", "name")
_OLD_INDEX = "index.parquet"
_MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class LabelTable:
    """Relative paths, and a column for everything else."""

    paths: Sequence[str]
    table: pa.Table


def find_table(folder: Path) -> Path | None:
    """The table in `folder` that has one of the usual names."""
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    found += [folder / _OLD_INDEX] * _is_old_index(folder / _OLD_INDEX)
    if len(found) > 1:
        raise FormatError(
            f"{printable(folder)} has {len(found)} tables of labels", hint=f"name one: --labels {found[0].name}"
        )
    return found[0] if found else None


def _is_old_index(path: Path) -> bool:
    """Whether it is the table that `zoo export` once wrote into its folder."""
    try:
        return path.is_file() and {"net_id", "file"} <= set(pq.read_schema(path).names)
    except (pa.ArrowException, ValueError, OSError):
        return False


def read_labels(path: Path) -> LabelTable:
    """The table at `path`. Raises MissingError, and FormatError for what is no such table."""
    if not path.is_file():
        raise MissingError(f"there is no table of labels at {printable(path)}")
    if path.stat().st_size > _MAX_BYTES:
        raise FormatError(f"{printable(path)} has {path.stat().st_size} bytes, more than {_MAX_BYTES}")
    try:
        table = _read(path)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise FormatError(f"{printable(path)} isn't a readable table ({printable(error, 160)})") from error
    for name in table.column_names:
        if printable(name, 200) != name or table.column_names.count(name) > 1:
            raise FormatError(f"{printable(path)} has a column {printable(name, 60)!r}", hint="rename it")
    if not table.num_columns:
        raise FormatError(f"{printable(path)} has no columns")
    key = next((name for name in _PATH_COLUMNS if name in table.column_names), table.column_names[0])
    paths = [str(value).removeprefix("./") for value in table[key].to_pylist()]
    if len(set(paths)) < len(paths):
        raise FormatError(f"{printable(path)} has two rows for one file", hint="keep one of them")
    return LabelTable(paths, table.drop_columns([key]))


def _read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix in (".jsonl", ".json"):
        return pyarrow.json.read_json(path)
    if path.suffix == ".csv":
        # Text stays text: a formula is never more than the characters that it is made of.
        return pyarrow.csv.read_csv(path)
    raise ValueError("wanted: .csv, .jsonl or .parquet")
