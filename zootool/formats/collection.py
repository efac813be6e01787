"""What a reader finds in a source: many checkpoints, by columns, whose weights are read when they are asked for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from zootool.architecture import Architecture
from zootool.columns.known import ColumnRules, check_columns

_RESERVED_COLUMNS = ("architecture", "edge_offset", "node_offset", "extra_offset", "exact_offset", "digest")
"""What the store fills itself, beside the networks' net_id."""


_USUAL_IMAGES = {
    "mnist": ((28, 28, 1), 10), "fashion-mnist": ((28, 28, 1), 10), "usps": ((16, 16, 1), 10),
    "cifar10": ((32, 32, 3), 10), "cifar100": ((32, 32, 3), 100), "svhn": ((32, 32, 3), 10), "stl10": ((96, 96, 3), 10),
}  # fmt: skip


def free_name(name: str, taken: Iterable[str]) -> str:
    """The name of a column of a source that can't be called `name`."""
    made = f"file_{name}"
    while made in taken:
        made += "_"
    return made


@dataclass(frozen=True)
class CollectedImages:
    """An image set that networks were fitted to or trained on; the fields are those of the store's `ImageSource`.

    `assumed` names what the source doesn't say: "grid", "source_index".
    """

    name: str
    shape: tuple[int, ...] = ()
    num_classes: int | None = None
    grid: str | None = None
    target: tuple[float, float] | None = None
    assumed: tuple[str, ...] = ()
    digest: str | None = None
    num_images: int | None = None
    is_partial: bool = False
    terms: str | None = None


def usual_images(name: str, **rest: Any) -> CollectedImages:
    """An image set with the shape and the classes that it was published with."""
    return CollectedImages(name, *_USUAL_IMAGES[name], **rest)


@dataclass(frozen=True)
class LeftOut:
    """A file or network of a source that isn't in its collection, and why."""

    file: str
    reason: str


Load = Callable[[Int64[np.ndarray, " rows"]], dict[str, np.ndarray]]
"""Reads the networks at rows of one architecture: state_dict key -> (rows, *shape), bfloat16 as uint16."""


@dataclass(frozen=True, eq=False)
class Collection:
    """The checkpoints of a source.

    `table` has a row per network with `net_id` first, then declared columns such as label, split, run_id and
    training_step. `architecture_index` says which of `architectures` each is of. `load` may be called from several
    threads. `conventions` are what makes the weights readable and isn't in the architecture; `notes` are what a user
    should know about the source, such as leaks between splits; `assumptions` are what was taken for granted about each
    of `architectures`, empty where nothing was about any. `left_out` is what else lay there and why it isn't here.
    `fingerprint` changes when the source does. Columns whose meaning the format fixes are brought into their form, and
    the notes say so. Raises FormatError where that can't be.
    """

    format: str
    kind: str
    table: pa.Table
    architectures: tuple[Architecture, ...]
    architecture_index: Int64[np.ndarray, " networks"]
    load: Load
    fingerprint: str
    image_sets: tuple[CollectedImages, ...] = ()
    conventions: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    assumptions: tuple[tuple[str, ...], ...] = ()
    licence: str | None = None
    citation: str | None = None

    def __post_init__(self) -> None:
        assert self.table.column_names[:1] == ["net_id"], "readers name their networks"
        assert len(self.table) == len(self.architecture_index), "readers give every network an architecture"
        assert len(self.assumptions) in (0, len(self.architectures)), "readers assume something of each architecture"
        table, notes = check_columns(self.table, ColumnRules(num_sources=len(self.image_sets)))
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "notes", (*self.notes, *notes))

    def __len__(self) -> int:
        return len(self.table)

    def with_free_names(self) -> "Collection":
        """The same without columns that have the names of the store's own: they are called file_{name}, with a note."""
        names = self.table.column_names
        free = {name: free_name(name, names) for name in names if name in _RESERVED_COLUMNS}
        notes = [
            f"the column {old} became {new}: every store has a column {old} of its own" for old, new in free.items()
        ]
        return replace(self, table=self.table.rename_columns(free), notes=(*self.notes, *notes))

    def take(self, rows: Int64[np.ndarray, " rows"]) -> "Collection":
        """The networks at these rows alone."""
        digest = sha256(np.ascontiguousarray(rows, dtype="<i8").tobytes()).hexdigest()[:16]
        return replace(
            self,
            table=self.table.take(pa.array(rows)),
            architecture_index=self.architecture_index[rows],
            load=lambda chosen: self.load(rows[chosen]),
            fingerprint=f"{self.fingerprint} {len(rows)} {digest}",
        )
