"""Networks of a store as the source of another: for subsets and merges."""

from collections.abc import Collection
from functools import cached_property
from hashlib import sha256
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from zootool.columns.known import ColumnRules, check_columns
from zootool.errors import FormatError, printable
from zootool.store.blocks import PackedBlock, Plan, cut
from zootool.store.reader import SegmentSpan, Store
from zootool.store.schema import STORE_COLUMNS, SourceInfo
from zootool.store.writer import IS_FINITE

_BLOCK_BYTES = 16 << 20


class StoreRows:
    """The networks at some ascending rows of a store, as a source; nothing is unpacked on the way.

    With `checked`, columns whose meaning the format fixes are brought into their form, and `notes` say so. Raises
    FormatError where that can't be.
    """

    def __init__(
        self, store: Store, rows: Int64[np.ndarray, " networks"], info: SourceInfo, checked: bool = False
    ) -> None:
        self.info = info
        self.notes: tuple[str, ...] = ()
        self._store = store
        self._rows = rows
        self._table = store.nets.read([c for c in store.nets.column_names if c == "net_id" or c not in STORE_COLUMNS])
        if checked:
            self._table, self.notes = checked_columns(store, self._table)

    @property
    def fingerprint(self) -> str:
        """The store's id and the rows."""
        return sha256(f"{self._store.zoo_id} {sha256(self._rows.tobytes()).hexdigest()}".encode()).hexdigest()

    @property
    def schema(self) -> pa.Schema:
        """The columns that every block's table has."""
        return self._table.schema

    @cached_property
    def _blocks(self) -> list[tuple[SegmentSpan, np.ndarray]]:
        """Blocks of at most 16 MB."""
        spans = self._store.spans
        bounds = np.searchsorted(self._rows, [span.first_row for span in spans])
        return [
            (span, rows[piece])
            for span, rows in zip(spans, np.split(self._rows, bounds[1:]), strict=True)
            for piece in cut(span.architecture, len(rows), _BLOCK_BYTES)
        ]

    @cached_property
    def plan(self) -> Plan:
        return [(span.architecture, len(rows)) for span, rows in self._blocks]

    def read(self, index: int) -> PackedBlock:
        """Block `index`, its chunks' checksums verified."""
        span, rows = self._blocks[index]
        return PackedBlock(span.architecture, self._store.rows_of(span, rows), self._table.take(pa.array(rows)))


def checked_columns(store: Store, table: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
    """Columns of a store in the format's form, and what was changed. Raises FormatError, which names the store."""
    try:
        return check_columns(table, ColumnRules(num_sources=len(store.info.sources)))
    except FormatError as error:
        raise FormatError(
            f"{printable(store.info.name, 80)}: {error.message}",
            hint="convert its networks anew, where --split-names and a table of labels can say what is meant",
        ) from error


def nonfinite_of(*stores: Store) -> Literal["refuse", "keep"]:
    """How to write what stores hold: one that keeps networks with NaN may be copied without being asked about them."""
    return "keep" if any(IS_FINITE in store.nets.column_names for store in stores) else "refuse"


def joined_assumptions(
    first: SourceInfo, *others: SourceInfo, only: Collection[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """What any of them assumes about an architecture; of the others, `only` about these."""
    joined = dict(first.assumptions)
    for other in others:
        for signature, texts in other.assumptions.items():
            if only is None or signature in only:
                joined[signature] = tuple(dict.fromkeys((*joined.get(signature, ()), *texts)))
    return joined


def info_of(store: Store, name: str, provenance: dict[str, object], rows: np.ndarray | None = None) -> SourceInfo:
    """What a zoo made of a store's networks, or of those at `rows`, says about itself."""
    old = store.info
    numbers = np.unique(store.segment_of(rows)) if rows is not None else range(len(store.spans))
    kept = {store.spans[int(number)].architecture.signature for number in numbers}
    return SourceInfo(
        name=name,
        **{field: getattr(old, field) for field in ("kind", "sources", "recipe", "licence", "citation")},
        provenance=old.provenance | provenance,
        assumptions={signature: texts for signature, texts in old.assumptions.items() if signature in kept},
    )
