"""The folder that `zoo build` leaves behind, a folder of units, and the one place that knows its layout.

recipe.yaml               what the folder is to hold, every default written out
units/00000.safetensors   the unit's networks: state_dict keys, with a leading axis for the network
units/00000.parquet       a row per network
units/00000.json          the receipt, written last: without it the unit does not exist

Where a recipe has one architecture, as for SIRENs, the keys are those of the state_dict. Else the unit's networks lie
in groups of one architecture each: group 0's keys begin with `g0/`, group 1's with `g1/`, the table has the rows of
group 0 first, then those of group 1, and the receipt lists the groups with their architectures and counts. A network
that was recorded several times while it was trained, a trajectory, is a row (and an entry of the leading axis) for
each checkpoint; it counts as one network.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from zootool.build.record import BuildRecord
from zootool.build.record import ImageSetRecord as ImageSetRecord
from zootool.engines.claims import CLAIMS_NAME
from zootool.errors import BadDataError, FormatError, IntegrityError, MissingError, UsageError, refusal_of
from zootool.files import (
    fsync_folder,
    is_temporary,
    refuse_inside,
    remove_temporaries_of,
    sha256_file,
    write_bytes_atomic,
    write_json_atomic,
)
from zootool.records import from_plain, parse_json, to_plain
from zootool.validation import read_yaml, validate

if TYPE_CHECKING:
    import pyarrow as pa

RECIPE_NAME = "recipe.yaml"
UNITS_NAME = "units"
WEIGHTS_SUFFIX, TABLE_SUFFIX, RECEIPT_SUFFIX = ".safetensors", ".parquet", ".json"


@dataclass(frozen=True)
class UnitGroup:
    """Rows of one architecture (as `Architecture.to_dict` gives it) that lie together in a unit."""

    architecture: dict[str, Any]
    num_rows: int

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise ValueError(f"a group needs rows, got {self.num_rows}")


@dataclass(frozen=True)
class Receipt:
    """units/NNNNN.json: digests and sizes of a unit's two files, counts, and how and where it was made.

    Without `groups`, all networks have the recipe's architecture and a row each.
    """

    unit: int
    num_networks: int
    num_refitted: int
    num_diverged: int
    weights_sha256: str
    weights_size: int
    table_sha256: str
    table_size: int
    seconds: float
    threads: int
    device: str
    versions: dict[str, str]
    groups: tuple[UnitGroup, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows of the table: checkpoints, where networks have several."""
        return sum(group.num_rows for group in self.groups) or self.num_networks


@dataclass(frozen=True)
class Unit:
    """A finished unit: a receipt lies beside the files. `check` compares them with it."""

    folder: Path
    number: int

    @property
    def weights_path(self) -> Path:
        """The safetensors file."""
        return unit_path(self.folder, self.number, WEIGHTS_SUFFIX)

    @property
    def table_path(self) -> Path:
        """The Parquet file."""
        return unit_path(self.folder, self.number, TABLE_SUFFIX)

    @property
    def receipt_path(self) -> Path:
        """The JSON file."""
        return unit_path(self.folder, self.number, RECEIPT_SUFFIX)

    @cached_property
    def receipt(self) -> Receipt:
        """The receipt. Raises FormatError."""
        where = str(self.receipt_path)
        try:
            return from_plain(Receipt, parse_json(self.receipt_path.read_bytes(), where), where)
        except FormatError as error:
            raise FormatError(error.message, hint="run `zoo build` again") from error

    @property
    def num_networks(self) -> int:
        """Networks in this unit."""
        return self.receipt.num_networks

    def is_sound(self) -> bool:
        """Whether the unit is finished and its files are those of its receipt."""
        if not self.receipt_path.exists():
            return False
        try:
            self.check()
        except BadDataError:
            return False
        return True

    def check(self) -> None:
        """Raise IntegrityError where a file is not the one that the receipt is about."""
        wanted = self.receipt
        for path, size, digest in (
            (self.weights_path, wanted.weights_size, wanted.weights_sha256),
            (self.table_path, wanted.table_size, wanted.table_sha256),
        ):
            if not path.is_file():
                raise IntegrityError(f"{path} is missing, though its receipt is there", hint="run `zoo build` again")
            if path.stat().st_size != size or sha256_file(path) != digest:
                raise IntegrityError(f"{path} differs from its receipt", hint="run `zoo build` again")


def is_unit_folder(folder: Path) -> bool:
    """Whether `folder` is one that `zoo build` has begun."""
    return (folder / RECIPE_NAME).is_file()


def read_recipe(folder: Path) -> BuildRecord:
    """recipe.yaml of a folder of units. Raises MissingError and FormatError."""
    path = folder / RECIPE_NAME
    if not path.is_file():
        raise MissingError(f"{folder} has no {RECIPE_NAME}", hint="give a folder that `zoo build` has made")
    return validate(BuildRecord, read_yaml(path), str(path))


def finished_units(folder: Path) -> list[Unit]:
    """The units that have a receipt, in the order of their numbers; their files are not checked."""
    paths = (folder / UNITS_NAME).glob(f"*{RECEIPT_SUFFIX}")
    numbers = sorted(int(path.stem) for path in paths if path.stem.isdigit() and not is_temporary(path))
    return [Unit(folder, number) for number in numbers]


def group_key(number: int, key: str) -> str:
    """What a state_dict's key is called in a unit that has groups."""
    return f"g{number}/{key}"


def unit_path(folder: Path, number: int, suffix: str) -> Path:
    """The path of one of a unit's files."""
    return folder / UNITS_NAME / f"{number:05d}{suffix}"


def write_record(folder: Path, record: BuildRecord) -> None:
    """Write recipe.yaml; hold the recipe's claim."""
    remove_temporaries_of(folder / RECIPE_NAME)
    text = yaml.safe_dump(record.model_dump(mode="json"), sort_keys=False, allow_unicode=False, width=120)
    write_bytes_atomic(folder / RECIPE_NAME, text.encode("ascii"))


def refuse_other_content(folder: Path) -> None:
    """Raise UsageError where `folder` holds anything that is not ours to add to, or lies within a store."""
    refuse_inside(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="give another --out")
    if not folder.exists() or is_unit_folder(folder):
        return
    # A build that was killed before it wrote its recipe leaves an empty units folder and its claims.
    strangers = [path.name for path in folder.iterdir() if path.name not in (CLAIMS_NAME, UNITS_NAME)]
    strangers = [name for name in strangers if not is_temporary(folder / name)]
    strangers += [f"{UNITS_NAME}/{path.name}" for path in (folder / UNITS_NAME).glob("*")]
    # Asked again, because another builder may have written the recipe and its first unit in the meantime.
    if strangers and not is_unit_folder(folder):
        raise UsageError(f"{folder} holds something else ({min(strangers)})", hint="give an empty or a new --out")


def write_unit(
    folder: Path, number: int, tensors: Mapping[str, np.ndarray], table: "pa.Table", details: Mapping[str, Any]
) -> Receipt:
    """Write a unit's weights and table, then its receipt; hold the unit's claim."""
    paths = [unit_path(folder, number, suffix) for suffix in (WEIGHTS_SUFFIX, TABLE_SUFFIX, RECEIPT_SUFFIX)]
    weights, rows = _safetensors_bytes(tensors), _parquet_bytes(table)
    receipt = Receipt(
        unit=number,
        weights_sha256=sha256(weights).hexdigest(),
        weights_size=len(weights),
        table_sha256=sha256(rows).hexdigest(),
        table_size=len(rows),
        **details,
    )
    with writing_to(folder):
        for path in paths:
            remove_temporaries_of(path)
        # An old receipt must not vouch for new files, nor for half of them.
        paths[2].unlink(missing_ok=True)
        fsync_folder(paths[2].parent)
        write_bytes_atomic(paths[0], weights)
        write_bytes_atomic(paths[1], rows)
        write_json_atomic(paths[2], to_plain(receipt))
    return receipt


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses inside the block into a MissingError: room, rights or the disk is missing."""
    try:
        yield
    except OSError as error:
        if (refusal := refusal_of(error, f"write to {folder}")) is None:
            raise
        raise refusal from error


def _safetensors_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save({key: np.ascontiguousarray(value) for key, value in tensors.items()})


def _parquet_bytes(table: "pa.Table") -> bytes:
    import pyarrow.parquet as pq

    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
