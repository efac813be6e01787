"""What a store is written from: blocks of networks of one architecture, planned before they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from zootool.architecture import ARRAYS, Architecture
from zootool.columns.known import require_checked
from zootool.store.pack import Rows, pack
from zootool.store.schema import SourceInfo

Plan = Sequence[tuple[Architecture, int]]
"""The architecture of each block, and how many networks it has."""


@dataclass(frozen=True)
class PackedBlock:
    """Networks of one architecture as a store has them: rows of its arrays, and a table with a row for each.

    The table has at least the column net_id.
    """

    architecture: Architecture
    rows: Rows
    table: pa.Table


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

    def packed(self) -> PackedBlock:
        """The networks as rows of the store's arrays. Raises FormatError for tensors that don't fit."""
        return PackedBlock(self.architecture, pack(self.architecture, self.tensors), self.table)


class BlockSource(Protocol):
    """Anything that a store can be written from: `info` says where the networks come from.

    The plan fixes order and offsets, so blocks may be read in any order and by several threads at once; a block that
    doesn't keep to its plan is refused. The fingerprint is equal for equal content only, and lets an interrupted write
    go on; None where nothing cheap says that.
    """

    @property
    def info(self) -> SourceInfo: ...

    @property
    def fingerprint(self) -> str | None: ...

    @property
    def plan(self) -> Plan: ...

    def read(self, index: int) -> PackedBlock:
        """Block `index` of the plan."""
        ...


@dataclass(frozen=True)
class MemorySource:
    """Blocks that are in memory already, as a source."""

    info: SourceInfo
    blocks: Sequence[Block]
    fingerprint: str | None = None

    @property
    def plan(self) -> Plan:
        return [(block.architecture, len(block.table)) for block in self.blocks]

    def read(self, index: int) -> PackedBlock:
        return self.blocks[index].packed()


def cut(architecture: Architecture, count: int, most_bytes: int, most: int | None = None) -> list[slice]:
    """`count` networks in pieces of about `most_bytes`, and of at most `most` networks."""
    size = 4 * sum(architecture.array_length(name) for name in ARRAYS)
    size = max(1, min(most or count, most_bytes // max(size, 1)))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
