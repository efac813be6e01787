"""What is converted as the source of a store: a folder of units, or a collection of checkpoints from elsewhere."""

from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from zootool.architecture import Architecture
from zootool.build.recipe import SirenRecipe
from zootool.build.units import Unit, finished_units, group_key, read_recipe
from zootool.columns.splits import find_leaks
from zootool.errors import FormatError, MissingError, printable
from zootool.files import canonical_json
from zootool.formats.bad_files import READING_ERRORS, bad_networks, described, refuse_or_leave_out
from zootool.formats.collection import Collection
from zootool.store.blocks import Block, PackedBlock, Plan, cut
from zootool.store.schema import ImageSource, SourceInfo

_UNIT_BYTES = 32 << 20
_COLLECTION_BYTES = 16 << 20
_COLLECTION_NETWORKS = 2048


@dataclass(frozen=True)
class _UnitBlock:
    """Networks of a unit that are read together: `networks` of those whose keys begin with `prefix`."""

    unit: Unit
    architecture: Architecture
    prefix: str
    networks: slice
    first_row: int


class UnitSource:
    """The finished units of a folder, in blocks of at most 32 MB; units without a receipt don't exist.

    A unit is one group of networks of the recipe's architecture, or the groups that its receipt lists. Raises
    MissingError where no unit is finished. A unit's digests are compared with its receipt when it is first read.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
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
        images, recipe = self._record.image_set, self._record.recipe
        known = ("name", "digest", "shape", "num_images", "num_classes", "is_partial")
        source = ImageSource(
            **{field: getattr(images, field) for field in known},
            grid=recipe.grid if isinstance(recipe, SirenRecipe) else None,
            target=recipe.target,
            terms=images.source_terms,
        )
        return SourceInfo(
            name=self._name,
            kind=recipe.kind,
            sources=(source,),
            recipe=recipe.model_dump(mode="json"),
            provenance={"tool": "zootool", "tool_version": self._record.tool_version},
        )

    @cached_property
    def fingerprint(self) -> str:
        """The digests that the units' receipts record."""
        digests = [(unit.number, unit.receipt.weights_sha256, unit.receipt.table_sha256) for unit in self._units]
        return sha256(canonical_json(digests)).hexdigest()

    @cached_property
    def _blocks(self) -> list[_UnitBlock]:
        blocks = []
        for unit in self._units:
            first_row = 0
            for prefix, architecture, num_rows in self._groups(unit):
                for networks in cut(architecture, num_rows, _UNIT_BYTES):
                    blocks.append(_UnitBlock(unit, architecture, prefix, networks, first_row + networks.start))
                first_row += num_rows
        return blocks

    def _groups(self, unit: Unit) -> list[tuple[str, Architecture, int]]:
        """What a unit's keys begin with, the architecture and the rows of each of its groups."""
        recipe = self._record.recipe
        if unit.receipt.groups:
            where = f"{unit.receipt_path}, group"
            return [
                (group_key(number, ""), Architecture.from_dict(group.architecture, f"{where} {number}"), group.num_rows)
                for number, group in enumerate(unit.receipt.groups)
            ]
        if not isinstance(recipe, SirenRecipe):
            raise FormatError(f"{unit.receipt_path} lists no groups", hint="run `zoo build` again")
        return [("", recipe.architecture(self._record.image_set.shape[2]), unit.num_networks)]

    @cached_property
    def plan(self) -> Plan:
        """The units in the order of their numbers, large ones in several blocks."""
        return [(block.architecture, block.networks.stop - block.networks.start) for block in self._blocks]

    def read(self, index: int) -> PackedBlock:
        """Block `index`. Raises IntegrityError where its unit differs from its receipt."""
        block = self._blocks[index]
        unit, networks = block.unit, block.networks
        if unit.number not in self._checked:
            unit.check()
            self._checked.add(unit.number)
        table = _read_table(unit)
        if len(table) != unit.receipt.num_rows:
            raise FormatError(f"{unit.table_path} has {len(table)} rows for {unit.receipt.num_rows} networks")
        try:
            with safe_open(unit.weights_path, "numpy") as weights:
                keys = [key for key in weights.keys() if key.startswith(block.prefix)]  # noqa: SIM118
                tensors = {key.removeprefix(block.prefix): weights.get_slice(key)[networks] for key in keys}
        except SafetensorError as error:
            raise FormatError(f"{unit.weights_path} isn't a safetensors file ({printable(error, 120)})") from error
        rows = table.slice(block.first_row, networks.stop - networks.start)
        return Block(block.architecture, tensors, rows).packed()


class CollectionSource:
    """The networks of a collection, those of one architecture together, in blocks of at most 16 MB."""

    def __init__(self, collection: Collection, name: str) -> None:
        self._collection = collection
        self._name = name

    @property
    def fingerprint(self) -> str:
        """What the reader says of its files."""
        return f"{self._collection.format} {self._collection.fingerprint}"

    @cached_property
    def info(self) -> SourceInfo:
        """What the reader declares, in the words of zoo.json, with what is wrong with the splits."""
        found = self._collection
        return SourceInfo(
            name=self._name,
            kind=found.kind,
            sources=tuple(
                ImageSource(**{f.name: getattr(images, f.name) for f in fields(ImageSource)})
                for images in found.image_sets
            ),
            recipe=dict(found.conventions),
            provenance={
                "format": found.format,
                "notes": list(dict.fromkeys((*found.notes, *find_leaks(found.table)))),
                **described(found.left_out),
            },
            assumptions={
                found.architectures[number].signature: found.assumptions[number]
                for number in dict.fromkeys(found.architecture_index.tolist())
                if found.assumptions and found.assumptions[number]
            },
            licence=found.licence,
            citation=found.citation,
        )

    @cached_property
    def _blocks(self) -> list[tuple[int, np.ndarray]]:
        """Architectures, and which rows of the table are a block of one."""
        index, architectures = self._collection.architecture_index, self._collection.architectures
        blocks = []
        for number in dict.fromkeys(index.tolist()):
            rows = np.flatnonzero(index == number)
            pieces = cut(architectures[number], len(rows), _COLLECTION_BYTES, _COLLECTION_NETWORKS)
            blocks += [(number, rows[piece]) for piece in pieces]
        return blocks

    @cached_property
    def plan(self) -> Plan:
        """The architectures in the order of their first network."""
        return [(self._collection.architectures[number], len(rows)) for number, rows in self._blocks]

    def read(self, index: int) -> PackedBlock:
        """Block `index`. Raises an error that names all of its networks that can't be read."""
        number, rows = self._blocks[index]
        found = self._collection
        try:
            tensors = found.load(rows)
        except READING_ERRORS:
            bad = bad_networks(found, rows)
            named = {str(found.table["net_id"][row]): error for row, error in bad.items()}
            refuse_or_leave_out(named, len(found) - len(bad), skip=False, are_files=False)
            raise
        return Block(found.architectures[number], tensors, found.table.take(pa.array(rows))).packed()


def _read_table(unit: Unit) -> pa.Table:
    try:
        # Threads of our own are at work already.
        with pq.ParquetFile(unit.table_path, memory_map=True, pre_buffer=False) as parquet:
            return parquet.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{unit.table_path} isn't a Parquet file ({printable(error, 120)})") from error
