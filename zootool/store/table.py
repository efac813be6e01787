"""Writing nets.parquet: a row per network, in row groups of 65,536."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zootool.architecture import ArrayName
from zootool.errors import FormatError, printable
from zootool.store.blocks import PackedBlock
from zootool.store.pack import DIGEST_BYTES
from zootool.store.schema import OFFSET_COLUMNS, STORE_COLUMNS

ROW_GROUP = 1 << 16

STORE_TYPES: dict[str, pa.DataType] = {
    "architecture": pa.dictionary(pa.int32(), pa.string()),
    **dict.fromkeys(OFFSET_COLUMNS.values(), pa.int64()),
    "digest": pa.binary(DIGEST_BYTES),
}
"""The columns whose types every store has alike."""


_UNREPEATED = {"net_id", "digest", "source_index", *OFFSET_COLUMNS.values()}
"""Columns of ever new values, for which a dictionary costs more than it saves."""


class TableWriter:
    """Writes nets.parquet from blocks of rows, whatever their sizes, in row groups of 65,536."""

    def __init__(self, path: Path, schema: pa.Schema | None = None) -> None:
        self._path = path
        self._schema = schema
        self._fills_gaps = schema is not None
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._id_hashes: list[np.ndarray] = []

    def append(self, rows: pa.Table) -> pa.Table:
        """Append rows. Without a schema, the first block's is the table's; with one, missing columns become null.

        Returns the rows in the table's form: appended again to another table they give the same bytes. Raises
        FormatError for columns and types that don't fit.
        """
        if self._writer is None:
            self._schema = self._schema or rows.schema
            repeated = [name for name in self._schema.names if name not in _UNREPEATED]
            written: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True, "version": "2.6"}
            self._writer = pq.ParquetWriter(self._path, self._schema, use_dictionary=repeated, **written)
        if self._fills_gaps:
            for field in self._writer.schema:
                if field.name not in rows.column_names:
                    rows = rows.append_column(field, pa.nulls(len(rows), field.type))
        rows = _as_schema(rows, self._writer.schema).unify_dictionaries().combine_chunks()
        self._waiting.append(rows)
        self._id_hashes.append(pd.util.hash_array(rows["net_id"].to_numpy(), categorize=False))
        while sum(len(table) for table in self._waiting) >= ROW_GROUP:
            joined = pa.concat_tables(self._waiting)
            self._write(joined[:ROW_GROUP])
            self._waiting = [joined[ROW_GROUP:]]
        return rows

    def close(self) -> None:
        """Write what is left: only then the file is a Parquet file. Raises FormatError when networks share a net_id."""
        if self._id_hashes:
            hashes = np.concatenate(self._id_hashes)
            shared = len(hashes) - len(np.unique(hashes))
            if shared:
                raise FormatError(f"{shared} networks have the net_id of another one", hint="make the net_ids unique")
        if self._writer is not None:
            rest = pa.concat_tables(self._waiting)
            if len(rest):
                self._write(rest)
            self.abandon()

    def abandon(self) -> None:
        """Close the file without the rows that wait."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, rows: pa.Table) -> None:
        assert self._writer is not None
        self._writer.write_table(rows.unify_dictionaries().combine_chunks(), row_group_size=ROW_GROUP)


def store_rows(block: PackedBlock, offsets: Mapping[ArrayName, int], digests: np.ndarray) -> pa.Table:
    """The rows of nets.parquet for a block whose networks begin at `offsets` of the arrays.

    Raises FormatError where the block's own table lacks net_id or has a store's column.
    """
    source = block.table
    clashes = sorted(set(source.column_names) & set(STORE_TYPES))
    if "net_id" not in source.column_names or clashes or len(set(source.column_names)) != source.num_columns:
        problem = f"has the column {clashes[0]!r}, which the store fills" if clashes else "needs one column net_id"
        raise FormatError(f"the table of the networks {problem}")
    count = len(source)
    names = pa.array([block.architecture.signature], pa.string())
    columns: dict[str, Any] = {
        "net_id": source["net_id"],
        "architecture": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), names),
    }
    for array, rows in block.rows.items():
        columns[OFFSET_COLUMNS[array]] = offsets[array] + np.arange(count, dtype=np.int64) * rows.shape[1]
    columns["digest"] = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(DIGEST_BYTES), count, [None, pa.py_buffer(np.ascontiguousarray(digests))]
    )
    columns |= {name: source[name] for name in source.column_names if name != "net_id"}
    return pa.table(columns)


def union_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """All columns of some tables, in the order of first appearance. Raises FormatError where types contradict."""
    try:
        joined = pa.unify_schemas([schema.remove_metadata() for schema in schemas], promote_options="permissive")
    except (pa.ArrowException, ValueError) as error:
        raise FormatError(f"the tables' columns don't go together ({printable(error, 120)})") from error
    for name, kind in STORE_TYPES.items():
        place = joined.get_field_index(name)
        joined = joined if place < 0 else joined.set(place, pa.field(name, kind))
    return joined


def store_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of nets.parquet for a source's table: the store's own columns first."""
    own = [pa.field(name, STORE_TYPES.get(name) or schema.field(name).type) for name in STORE_COLUMNS]
    return pa.schema([*own, *(field for field in schema if field.name not in STORE_COLUMNS)])


def _as_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    if rows.schema == schema:
        return rows
    if odd := sorted(set(rows.column_names) ^ set(schema.names)):
        raise FormatError(f"the column {printable(odd[0])!r} is in some blocks of networks and not in others")
    try:
        return rows.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise FormatError(f"the columns' types differ between blocks of networks ({printable(error, 120)})") from error
