"""What a store is written from: blocks of networks of one architecture, planned before they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.columns.known import require_checked
from zootool.store.pack import Packed, pack
from zootool.store.schema import ImageSource


@dataclass(frozen=True)
class PlannedBlock:
    """`count` networks of one architecture that will be read together."""

    architecture: Architecture
    count: int


@dataclass(frozen=True)
class Block:
    """Networks of one architecture: state_dict key -> (networks, *shape), and a table with a row for each.

    bfloat16 tensors are uint16 arrays of their bytes. The table has at least the column net_id; columns whose meaning
    the format fixes are in their form already, else FormatError is raised.
    """

    architecture: Architecture
    tensors: Mapping[str, np.ndarray]
    table: pa.Table

    def __post_init__(self) -> None:
        require_checked(self.table)

    def packed(self) -> Packed:
        """The networks as rows of the store's arrays. Raises FormatError for tensors that don't fit."""
        return pack(self.architecture, self.tensors)


@dataclass(frozen=True)
class PackedBlock:
    """Networks of one architecture that come from a store, and so are rows of its arrays already."""

    architecture: Architecture
    rows: Packed
    table: pa.Table

    def packed(self) -> Packed:
        """The rows."""
        return self.rows


@dataclass(frozen=True)
class SourceInfo:
    """What zoo.json says about where networks come from; the fields are those of `ZooInfo`."""

    name: str
    kind: str = "mlp"
    sources: tuple[ImageSource, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None
    citation: str | None = None
    parent: str | None = None
    assumptions: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class MemorySource:
    """Blocks that are in memory already, as a source."""

    info: SourceInfo
    blocks: Sequence[Block]
    fingerprint: str | None = None

    @property
    def plan(self) -> Sequence[PlannedBlock]:
        """As many networks as the blocks' tables have rows."""
        return [PlannedBlock(block.architecture, len(block.table)) for block in self.blocks]

    def read(self, index: int) -> Block:
        """Block `index`."""
        return self.blocks[index]


class BlockSource(Protocol):
    """Anything that a store can be written from.

    The plan fixes order and offsets, so blocks may be read in any order and by several threads at once; a block that
    doesn't keep to its plan is refused.
    """

    @property
    def info(self) -> SourceInfo:
        """Where the networks come from."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """Equal for equal content only: lets an interrupted write go on. None where nothing cheap says that."""
        ...

    @property
    def plan(self) -> Sequence[PlannedBlock]:
        """The blocks in the order of the store."""
        ...

    def read(self, index: int) -> Block | PackedBlock:
        """Block `index` of the plan."""
        ...
