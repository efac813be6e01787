"""nets.parquet: a row per network, written in row groups and read by the column."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zootool.architecture import ARRAYS, Architecture
from zootool.errors import FormatError, IntegrityError, UsageError, did_you_mean, printable
from zootool.store.pack import DIGEST_BYTES
from zootool.store.schema import NETS_PARQUET, OFFSET_COLUMNS, STORE_COLUMNS
from zootool.store.storage import Storage

ROW_GROUP = 1 << 16

_STORE_TYPES: dict[str, pa.DataType] = {
    "architecture": pa.dictionary(pa.int32(), pa.string()),
    **dict.fromkeys(OFFSET_COLUMNS.values(), pa.int64()),
    "digest": pa.binary(DIGEST_BYTES),
}


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

    def append(self, rows: pa.Table) -> None:
        """Append rows. Without a schema, the first block's is the table's; with one, missing columns become null.

        Raises FormatError for columns and types that don't fit.
        """
        if self._writer is None:
            self._schema = self._schema or rows.schema
            repeated = [name for name in self._schema.names if name not in _UNREPEATED]
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema,
                compression="zstd",
                use_dictionary=repeated,
                write_page_checksum=True,
                version="2.6",
            )
        if self._fills_gaps:
            rows = with_columns(rows, self._writer.schema)
        self._waiting.append(_as_schema(rows, self._writer.schema))
        self._id_hashes.append(pd.util.hash_array(rows["net_id"].to_numpy(), categorize=False))
        while sum(len(table) for table in self._waiting) >= ROW_GROUP:
            joined = pa.concat_tables(self._waiting)
            self._write(joined[:ROW_GROUP])
            self._waiting = [joined[ROW_GROUP:]]

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


def store_rows(architecture: Architecture, offsets: dict[str, int], digests: np.ndarray, source: pa.Table) -> pa.Table:
    """The rows of nets.parquet for networks of one architecture that begin at `offsets` of the arrays.

    `source` is the unit's or reader's own table. Raises FormatError where it lacks net_id or has a store's column.
    """
    clashes = sorted(set(source.column_names) & set(_STORE_TYPES))
    if "net_id" not in source.column_names or clashes or len(set(source.column_names)) != source.num_columns:
        problem = f"has the column {clashes[0]!r}, which the store fills" if clashes else "needs one column net_id"
        raise FormatError(f"the table of the networks {problem}")
    count = len(source)
    names = pa.array([architecture.signature], pa.string())
    columns: dict[str, Any] = {
        "net_id": source["net_id"],
        "architecture": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), names),
    }
    for array in ARRAYS:
        length = architecture.array_length(array)
        columns[OFFSET_COLUMNS[array]] = offsets[array] + np.arange(count, dtype=np.int64) * length
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
    for name, kind in _STORE_TYPES.items():
        place = joined.get_field_index(name)
        joined = joined if place < 0 else joined.set(place, pa.field(name, kind))
    return joined


def store_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of nets.parquet for a source's table: the store's own columns first."""
    own = [pa.field(name, _STORE_TYPES.get(name) or schema.field(name).type) for name in STORE_COLUMNS]
    return pa.schema([*own, *(field for field in schema if field.name not in STORE_COLUMNS)])


def with_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with the schema's columns that they lack, null everywhere."""
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows


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
    """nets.parquet of one store, opened by its footer alone. Columns are kept once they were read."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
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
            try:
                with self._opened() as parquet:
                    table = parquet.read(columns=wanted)
            except (pa.ArrowException, OSError) as error:
                raise IntegrityError(
                    f"{self.name} can't be read ({printable(error, 120)})",
                    hint=f"run `zoo verify {self._storage.name}`",
                ) from error
            self._columns |= dict(zip(table.column_names, table.columns, strict=True))
        return pa.table({column: self._columns[column] for column in columns})

    def row_groups(self) -> Iterator[pa.Table]:
        """All columns, some rows at a time."""
        with self._opened() as parquet:
            for number in range(parquet.num_row_groups):
                yield parquet.read_row_group(number)

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        with self._storage.open(NETS_PARQUET) as source:
            try:
                parquet = pq.ParquetFile(source, metadata=self._metadata, page_checksum_verification=True)
            except (pa.ArrowException, OSError) as error:
                raise FormatError(f"{self.name} isn't a Parquet file ({printable(error, 120)})") from error
            yield parquet

    def _check_schema(self) -> None:
        schema = self.schema
        for column in STORE_COLUMNS:
            if column not in schema.names:
                raise FormatError(f"{self.name} lacks the column {column!r}")
            wanted = _STORE_TYPES.get(column)
            if wanted is not None and schema.field(column).type != wanted:
                raise FormatError(f"{self.name}: {column!r} is {schema.field(column).type}, a store has {wanted}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_columns": {}}


def _as_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    if rows.schema == schema:
        return rows
    odd: Iterable[str] = sorted(set(rows.column_names) ^ set(schema.names))
    if odd := list(odd):
        raise FormatError(f"the column {printable(odd[0])!r} is in some blocks of networks and not in others")
    try:
        return rows.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise FormatError(f"the columns' types differ between blocks of networks ({printable(error, 120)})") from error
