"""nets.parquet, a row per network: reading its columns when they are used, and writing it in groups of rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zootool.architecture import ArrayName
from zootool.columns.values import decoded
from zootool.errors import FormatError, IntegrityError, UsageError, did_you_mean, printable
from zootool.store.blocks import PackedBlock
from zootool.store.pack import DIGEST_BYTES
from zootool.store.schema import NETS_PARQUET, OFFSET_COLUMNS, STORE_COLUMNS
from zootool.store.storage import Storage

ROW_GROUP = 1 << 16

STORE_TYPES: dict[str, pa.DataType] = {
    "architecture": pa.dictionary(pa.int32(), pa.string()),
    **dict.fromkeys(OFFSET_COLUMNS.values(), pa.int64()),
    "digest": pa.binary(DIGEST_BYTES),
}
"""The columns whose types every store has alike."""


_UNREPEATED = {"net_id", "digest", "source_index", *OFFSET_COLUMNS.values()}
"""Columns of ever new values, for which a dictionary costs more than it saves."""

_ID_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)


class NetsTable:
    """A zoo's networks as a table whose columns are read when they are used.

    `table["label"]` is a pandas Series, `table[["label", "psnr"]]` a DataFrame; any other attribute is that of
    the whole DataFrame, which is then read. Rows are those of the selection, numbered from 0.
    """

    def __init__(self, file: "NetsFile", rows: np.ndarray | None = None) -> None:
        self._file = file
        self._rows = rows

    @property
    def columns(self) -> pd.Index:
        return pd.Index(self._file.column_names)

    def __len__(self) -> int:
        return self._file.num_rows if self._rows is None else len(self._rows)

    def __contains__(self, column: object) -> bool:
        return column in self._file.column_names

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.to_pandas([key])[key]
        if isinstance(key, list):
            return self.to_pandas(key)
        return self.to_pandas()[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._file.column_names:
            return self[name]
        return getattr(self.to_pandas(), name)

    def __repr__(self) -> str:
        return f"<{len(self)} networks, columns {', '.join(self._file.column_names)}>"

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of the selection. Raises UsageError for a column that isn't there."""
        table = self._file.read(self._file.column_names if columns is None else list(columns))
        return table if self._rows is None else table.take(pa.array(self._rows))

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of the selection as a DataFrame."""
        return self.to_arrow(columns).to_pandas()


class NetsFile:
    """nets.parquet of one store, opened by its footer alone. Columns are kept once they were read.

    `content` is the whole file, where it was fetched at once.
    """

    def __init__(self, storage: Storage, content: bytes | None = None) -> None:
        self._storage = storage
        self.content = content
        self.name = f"{storage.name}/{NETS_PARQUET}"
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._metadata: pq.FileMetaData | None = None
        with self._opened() as parquet:
            self._metadata = parquet.metadata
            self.schema = parquet.schema_arrow
        self.num_rows = int(self._metadata.num_rows)
        self.column_names: list[str] = list(self.schema.names)
        self._check_schema()

    def read(self, columns: list[str]) -> pa.Table:
        """These columns of every row. Raises UsageError for an unknown one, IntegrityError for damaged pages."""
        for column in columns:
            if column not in self.column_names:
                raise UsageError(
                    f"the networks of {self._storage.name} have no column {printable(column, 60)!r}",
                    hint=did_you_mean(column, self.column_names),
                )
        wanted = [column for column in columns if column not in self._columns]
        if wanted:
            with self._opened() as parquet:
                table = parquet.read(columns=wanted)
            for name, column in zip(table.column_names, table.columns, strict=True):
                if name in STORE_COLUMNS and column.null_count:
                    raise FormatError(f"{self.name}: {name!r} is missing for {column.null_count} networks")
                # Arrow can't take rows of a view.
                is_view = pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type)
                self._columns[name] = decoded(column) if is_view else column
        return pa.table({column: self._columns[column] for column in columns})

    def row_groups(self) -> Iterator[pa.Table]:
        """All columns, some rows at a time."""
        with self._opened() as parquet:
            for number in range(parquet.num_row_groups):
                yield parquet.read_row_group(number)

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        with self._storage.open(NETS_PARQUET) if self.content is None else pa.BufferReader(self.content) as source:
            try:
                parquet = pq.ParquetFile(source, metadata=self._metadata, page_checksum_verification=True)
            except (pa.ArrowException, OSError) as error:
                raise FormatError(f"{self.name} isn't a Parquet file ({printable(error, 120)})") from error
            try:
                yield parquet
            except pa.ArrowMemoryError:
                raise
            except (pa.ArrowException, OSError) as error:
                raise IntegrityError(
                    f"{self.name} can't be read ({printable(error, 120)})",
                    hint=f"run `zoo verify {printable(self._storage.name)}`",
                ) from error

    def _check_schema(self) -> None:
        schema = self.schema
        if len(set(schema.names)) != len(schema.names):
            raise FormatError(f"{self.name} has two columns of one name")
        for column in STORE_COLUMNS:
            if column not in schema.names:
                raise FormatError(f"{self.name} lacks the column {column!r}")
            wanted = STORE_TYPES.get(column)
            if wanted is not None and schema.field(column).type != wanted:
                raise FormatError(f"{self.name}: {column!r} is {schema.field(column).type}, a store has {wanted}")
        kind = schema.field("net_id").type
        if not any(is_kind(kind) for is_kind in _ID_TYPES):
            raise FormatError(f"{self.name}: 'net_id' is {printable(kind, 60)}, a store has strings or integers")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_columns": {}}


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
