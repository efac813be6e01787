"""A folder of units, as `zoo build` leaves it, as the source of a store."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zootool.architecture import ARRAYS, Architecture
from zootool.build.units import BuildRecord, Unit, finished_units, read_recipe
from zootool.errors import FormatError, MissingError, printable
from zootool.files import canonical_json
from zootool.store.blocks import Block, PlannedBlock, SourceInfo
from zootool.store.safetensors_file import read_safetensors
from zootool.store.schema import ImageSource

_BLOCK_BYTES = 32 << 20


class UnitSource:
    """The finished units of a folder, in blocks of at most 32 MB; units without a receipt don't exist.

    Raises MissingError where no unit is finished. A unit's digests are compared with its receipt when it is first read.
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
    def architecture(self) -> Architecture:
        """The one architecture of all units."""
        return self._record.recipe.architecture(self._record.image_set.shape[2])

    @cached_property
    def _pieces(self) -> list[tuple[Unit, int, int]]:
        """Units, and which of their networks."""
        per_network = 4 * sum(self.architecture.array_length(name) for name in ARRAYS)
        size = max(1, _BLOCK_BYTES // per_network)
        return [(u, i, min(i + size, u.num_networks)) for u in self._units for i in range(0, u.num_networks, size)]

    @cached_property
    def plan(self) -> Sequence[PlannedBlock]:
        """The units in the order of their numbers, large ones in several blocks."""
        return [PlannedBlock(self.architecture, stop - start) for _, start, stop in self._pieces]

    def read(self, index: int) -> Block:
        """Block `index`. Raises IntegrityError where its unit differs from its receipt."""
        unit, start, stop = self._pieces[index]
        if unit.number not in self._checked:
            unit.check()
            self._checked.add(unit.number)
        table = _read_table(unit)
        if len(table) != unit.num_networks:
            raise FormatError(f"{unit.table_path} has {len(table)} rows for {unit.num_networks} networks")
        tensors = {key: tensor[start:stop] for key, (_, tensor) in read_safetensors(unit.weights_path).items()}
        return Block(self.architecture, tensors, table.slice(start, stop - start))


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
        grid=recipe.grid,
        target=recipe.target,
        terms=images.source_terms,
    )
