"""Reading nets.parquet: a zoo's networks as a table whose columns are read when they are used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zootool.columns.values import decoded
from zootool.errors import FormatError, IntegrityError, UsageError, did_you_mean, printable
from zootool.store.schema import NETS_PARQUET, STORE_COLUMNS
from zootool.store.storage import Storage
from zootool.store.table import STORE_TYPES

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
        with self._source() as source:
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

    def _source(self) -> Any:
        return self._storage.open(NETS_PARQUET) if self.content is None else pa.BufferReader(self.content)

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
