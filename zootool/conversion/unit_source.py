"""A folder of units, as `zoo build` leaves it, as the source of a store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zootool.architecture import ARRAYS, Architecture
from zootool.build.recipe import SirenRecipe
from zootool.build.units import BuildRecord, Unit, finished_units, group_key, read_recipe
from zootool.errors import FormatError, MissingError, printable
from zootool.files import canonical_json
from zootool.store.blocks import Block, PlannedBlock, SourceInfo
from zootool.store.safetensors_file import read_safetensors
from zootool.store.schema import ImageSource

_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True)
class _Piece:
    """Rows start..stop of a group of a unit; `first_row` is the group's in the unit's table."""

    unit: Unit
    architecture: Architecture
    group: int | None
    first_row: int
    start: int
    stop: int

    def cut(self) -> "list[_Piece]":
        """The same rows in pieces of at most 32 MB."""
        per_network = 4 * sum(self.architecture.array_length(name) for name in ARRAYS)
        size = max(1, _BLOCK_BYTES // per_network)
        starts = range(self.start, self.stop, size)
        return [replace(self, start=start, stop=min(start + size, self.stop)) for start in starts]

    def tensors(self, stored: Mapping[str, tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The group's tensors by their state_dict's keys."""
        if self.group is None:
            return {key: tensor for key, (_, tensor) in stored.items()}
        prefix = group_key(self.group, "")
        return {key.removeprefix(prefix): tensor for key, (_, tensor) in stored.items() if key.startswith(prefix)}


class UnitSource:
    """The finished units of a folder, in blocks of at most 32 MB; units without a receipt don't exist.

    A unit is one group of networks of the recipe's architecture, or the groups that its receipt lists. Raises
    MissingError where no unit is finished. A unit's digests are compared with its receipt when it is first read.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self._folder = folder
        self._name = name or folder.name
        self._record = read_recipe(folder)
        self._units = finished_units(folder)
        self._checked: set[int] = set()
        if not self._units:
            raise MissingError(
                f"{folder} has no finished unit", hint="let `zoo build` finish at least one unit, then convert again"
            )

    @cached_property
    def info(self) -> SourceInfo:
        """What recipe.yaml says, in the words of zoo.json."""
        record = self._record
        return SourceInfo(
            name=self._name,
            kind=record.recipe.kind,
            sources=(_image_source(record),),
            recipe=record.recipe.model_dump(mode="json"),
            provenance={"tool": "zootool", "tool_version": record.tool_version},
        )

    @cached_property
    def fingerprint(self) -> str:
        """The digests that the units' receipts record."""
        digests = [(unit.number, unit.receipt.weights_sha256, unit.receipt.table_sha256) for unit in self._units]
        return sha256(canonical_json(digests)).hexdigest()

    @cached_property
    def _pieces(self) -> list[_Piece]:
        return [piece for unit in self._units for group in self._groups(unit) for piece in group.cut()]

    def _groups(self, unit: Unit) -> list[_Piece]:
        """A unit's groups, each whole."""
        recipe = self._record.recipe
        if not unit.receipt.groups:
            if not isinstance(recipe, SirenRecipe):
                raise FormatError(f"{unit.receipt_path} lists no groups", hint="run `zoo build` again")
            architecture = recipe.architecture(self._record.image_set.shape[2])
            return [_Piece(unit, architecture, None, 0, 0, unit.num_networks)]
        groups, first_row = [], 0
        for number, group in enumerate(unit.receipt.groups):
            architecture = Architecture.from_dict(group.architecture, f"{unit.receipt_path}, group {number}")
            groups.append(_Piece(unit, architecture, number, first_row, 0, group.num_rows))
            first_row += group.num_rows
        return groups

    @cached_property
    def plan(self) -> Sequence[PlannedBlock]:
        """The units in the order of their numbers, large ones in several blocks."""
        return [PlannedBlock(piece.architecture, piece.stop - piece.start) for piece in self._pieces]

    def read(self, index: int) -> Block:
        """Block `index`. Raises IntegrityError where its unit differs from its receipt."""
        piece = self._pieces[index]
        unit = piece.unit
        if unit.number not in self._checked:
            unit.check()
            self._checked.add(unit.number)
        table = _read_table(unit)
        if len(table) != unit.receipt.num_rows:
            raise FormatError(f"{unit.table_path} has {len(table)} rows for {unit.receipt.num_rows} networks")
        stored = read_safetensors(unit.weights_path)
        tensors = {key: tensor[piece.start : piece.stop] for key, tensor in piece.tensors(stored).items()}
        return Block(piece.architecture, tensors, table.slice(piece.first_row + piece.start, piece.stop - piece.start))


def _read_table(unit: Unit) -> pa.Table:
    try:
        # Threads of our own are at work already.
        with pq.ParquetFile(unit.table_path, memory_map=True, pre_buffer=False) as parquet:
            return parquet.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{unit.table_path} isn't a Parquet file ({printable(error, 120)})") from error


def _image_source(record: BuildRecord) -> ImageSource:
    images, recipe = record.image_set, record.recipe
    return ImageSource(
        name=images.name,
        digest=images.digest,
        shape=images.shape,
        num_images=images.num_images,
        num_classes=images.num_classes,
        is_partial=images.is_partial,
        grid=recipe.grid if isinstance(recipe, SirenRecipe) else None,
        target=recipe.target,
        terms=images.source_terms,
    )
