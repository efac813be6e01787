"""A folder of units, as `zoo build` leaves it, as the source of a store."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zootool.architecture import Architecture
from zootool.build.units import BuildRecord, Unit, finished_units, read_recipe
from zootool.errors import FormatError, MissingError, printable
from zootool.store.blocks import Block, PlannedBlock, SourceInfo
from zootool.store.safetensors_file import read_safetensors
from zootool.store.schema import ImageSource


class UnitSource:
    """The finished units of a folder, one block each; units without a receipt don't exist.

    Raises MissingError where no unit is finished. A unit's digests are compared with its receipt when it is read.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self._folder = folder
        self._name = name or folder.name
        self._record = read_recipe(folder)
        self._units = finished_units(folder)
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
    def architecture(self) -> Architecture:
        """The one architecture of all units."""
        return self._record.recipe.architecture(self._record.image_set.shape[2])

    @cached_property
    def plan(self) -> Sequence[PlannedBlock]:
        """One block per unit, in the order of their numbers."""
        return [PlannedBlock(self.architecture, unit.num_networks) for unit in self._units]

    def read(self, index: int) -> Block:
        """Unit `index` of the finished ones. Raises IntegrityError where it differs from its receipt."""
        unit = self._units[index]
        unit.check()
        tensors = read_safetensors(unit.weights_path)
        return Block(self.architecture, {key: tensor for key, (_, tensor) in tensors.items()}, _read_table(unit))


def _read_table(unit: Unit) -> pa.Table:
    try:
        # Threads of our own are at work already.
        return pq.read_table(unit.table_path, use_threads=False)
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
