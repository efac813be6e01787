"""Tables in CSV files from elsewhere, plain or gzipped: bounded, every row complete, columns found by their names."""

import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from zootool.errors import FormatError, printable
from zootool.untrusted.byte_source import FileSource

_MAX_BYTES = 64 << 20
_MAX_UNPACKED_BYTES = 1 << 30
_MAX_COLUMNS = 1_000


def read_csv_rows(path: Path, required: Sequence[str], max_bytes: int = _MAX_BYTES) -> list[dict[str, str]]:
    """The rows of a small CSV file by column. Raises MissingError, and FormatError for one that is cut off or large."""
    source = FileSource(path)
    if source.size > max_bytes:
        raise FormatError(f"{source.shown} has {source.size} bytes, at most {max_bytes} are read")
    try:
        lines = list(csv.reader(io.StringIO(bytes(source.read(0, source.size)).decode("utf-8-sig")), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"{source.shown} is no readable CSV: {printable(error)}", hint="get it again") from error
    header = _checked_header(lines[0] if lines else [], required, source.shown)
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise FormatError(
                f"{source.shown} line {number} has {len(line)} cells, its header has {len(header)}",
                hint="the copy is damaged: get the file again",
            )
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def read_csv_columns(path: Path, kinds: Mapping[str, pa.DataType], required: Sequence[str]) -> pa.Table:
    """The columns of `kinds` that a large CSV file (.gz unpacked) has, in these types; empty cells are null.

    Raises MissingError, and FormatError for what is cut off, too large, or not of these types.
    """
    shown = printable(path)
    content = _unpacked(path)
    line = content[: 1 << 16].split(b"\n", 1)[0].decode("utf-8-sig", "replace")
    header = _checked_header(next(csv.reader([line.rstrip("\r")]), []), required, shown)
    columns = [name for name in kinds if name in header]
    convert = pacsv.ConvertOptions(
        column_types={name: kinds[name] for name in columns}, include_columns=columns, strings_can_be_null=True
    )
    try:
        return pacsv.read_csv(pa.BufferReader(content), convert_options=convert)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise FormatError(f"{shown} is no readable table: {printable(error)}", hint="get it again") from error


def _unpacked(path: Path) -> bytes:
    source = FileSource(path)
    content = bytes(source.read(0, min(source.size, _MAX_UNPACKED_BYTES + 1)))
    if path.suffix == ".gz":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(_MAX_UNPACKED_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise FormatError(f"{source.shown} can't be unpacked: {printable(error)}", hint="get it again") from error
    if len(content) > _MAX_UNPACKED_BYTES:
        raise FormatError(f"{source.shown} holds more than {_MAX_UNPACKED_BYTES} bytes")
    return content


def _checked_header(header: list[str], required: Sequence[str], shown: str) -> list[str]:
    if len(header) > _MAX_COLUMNS:
        raise FormatError(f"{shown} has {len(header)} columns, at most {_MAX_COLUMNS} are read")
    for name in required:
        if header.count(name) != 1:
            found = printable(", ".join(header), 160)
            raise FormatError(
                f"{shown} has {header.count(name)} columns {name!r}, wanted is one", hint=f"it has {found}"
            )
    if len(set(header)) != len(header):
        raise FormatError(f"{shown} has two columns of one name")
    return header
