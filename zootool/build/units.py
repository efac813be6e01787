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
from importlib.metadata import version
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, model_validator

from zootool.build.extents import AnyExtent, Count, Extent, RunsExtent
from zootool.build.recipe import AnyRecipe, SirenRecipe
from zootool.engines.claims import CLAIMS_NAME
from zootool.errors import BadDataError, FormatError, IntegrityError, MissingError, UsageError, refusal_of
from zootool.files import (
    fsync_folder,
    is_temporary,
    refuse_inside,
    remove_leftovers,
    sha256_file,
    write_bytes_atomic,
    write_json_atomic,
)
from zootool.images import Images
from zootool.records import from_plain, parse_json, to_plain
from zootool.validation import Entry, read_yaml, validate

if TYPE_CHECKING:
    import pyarrow as pa

RECIPE_NAME = "recipe.yaml"
UNITS_NAME = "units"


class ImageSetRecord(Entry):
    """The image set that a folder's networks were fitted to; `digest` is the SHA-256 of its shape and pixels."""

    name: str
    digest: str
    shape: tuple[int, int, int]
    num_images: Count
    num_classes: Count
    is_partial: bool
    source_terms: str

    @classmethod
    def of(cls, images: Images) -> "ImageSetRecord":
        """The record of `images`."""
        return cls(
            name=images.name,
            digest=images.digest,
            shape=images.shape,
            num_images=len(images),
            num_classes=len(images.class_names),
            is_partial=images.is_partial,
            source_terms=images.source_terms,
        )


class BuildRecord(Entry):
    """recipe.yaml: what a folder of units is to hold."""

    format_version: Literal[1] = 1
    tool_version: str = Field(default_factory=lambda: version("zootool"))
    recipe: Annotated[AnyRecipe, Field(discriminator="kind")]
    image_set: ImageSetRecord
    extents: Annotated[tuple[AnyExtent, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_resolved(self) -> "BuildRecord":
        if self.recipe.unit_size is None:
            raise ValueError("recipe.unit_size must be set")
        wanted: type[Any] = Extent if isinstance(self.recipe, SirenRecipe) else RunsExtent
        if not all(isinstance(extent, wanted) for extent in self.extents):
            raise ValueError(f"a recipe of kind {self.recipe.kind} has other extents")
        return self

    @property
    def extent(self) -> AnyExtent:
        """What was asked for last, which holds everything that was asked for before."""
        return self.extents[-1]

    @property
    def unit_size(self) -> int:
        """Networks in a full unit."""
        return self.recipe.unit_size or 1

    @property
    def num_units(self) -> int:
        """Units of all extents together."""
        counts = [0, *(extent.num_networks for extent in self.extents)]
        return sum(-(-(after - before) // self.unit_size) for before, after in pairwise(counts))


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
        return self.folder / UNITS_NAME / f"{self.number:05d}.safetensors"

    @property
    def table_path(self) -> Path:
        """The Parquet file."""
        return self.folder / UNITS_NAME / f"{self.number:05d}.parquet"

    @property
    def receipt_path(self) -> Path:
        """The JSON file."""
        return self.folder / UNITS_NAME / f"{self.number:05d}.json"

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
    paths = (folder / UNITS_NAME).glob("*.json")
    return [Unit(folder, number) for number in sorted(int(path.stem) for path in paths if path.stem.isdigit())]


def group_key(number: int, key: str) -> str:
    """What a state_dict's key is called in a unit that has groups."""
    return f"g{number}/{key}"


def write_record(folder: Path, record: BuildRecord) -> None:
    """Write recipe.yaml; hold the recipe's claim."""
    remove_leftovers(folder, RECIPE_NAME, of_living=True)
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
    ours = (CLAIMS_NAME, UNITS_NAME)
    strangers = [path.name for path in folder.iterdir() if path.name not in ours and not is_temporary(path)]
    strangers += [f"{UNITS_NAME}/{path.name}" for path in (folder / UNITS_NAME).glob("*")]
    # Asked again, because another builder may have written the recipe and its first unit in the meantime.
    if strangers and not is_unit_folder(folder):
        raise UsageError(f"{folder} holds something else ({min(strangers)})", hint="give an empty or a new --out")


def write_unit(
    folder: Path, number: int, tensors: Mapping[str, np.ndarray], table: "pa.Table", details: Mapping[str, Any]
) -> Receipt:
    """Write a unit's weights and table, then its receipt; hold the unit's claim."""
    import pyarrow.parquet as pq
    from safetensors.numpy import save

    unit, sink = Unit(folder, number), BytesIO()
    pq.write_table(table, sink, compression="zstd")
    weights, rows = save({key: np.ascontiguousarray(value) for key, value in tensors.items()}), sink.getvalue()
    receipt = Receipt(
        unit=number,
        weights_sha256=sha256(weights).hexdigest(),
        weights_size=len(weights),
        table_sha256=sha256(rows).hexdigest(),
        table_size=len(rows),
        **details,
    )
    with writing_to(folder):
        for path in (unit.weights_path, unit.table_path, unit.receipt_path):
            remove_leftovers(path.parent, path.name, of_living=True)
        # An old receipt must not vouch for new files, nor for half of them.
        unit.receipt_path.unlink(missing_ok=True)
        fsync_folder(unit.receipt_path.parent)
        write_bytes_atomic(unit.weights_path, weights)
        write_bytes_atomic(unit.table_path, rows)
        write_json_atomic(unit.receipt_path, to_plain(receipt))
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
