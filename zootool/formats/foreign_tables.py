"""Tables from elsewhere: labels beside checkpoints (CSV, JSON lines, Parquet), and the CSV files of published zoos.

The latter are bounded, every row is complete, and columns are found by their names.
"""

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json
import pyarrow.parquet as pq

from zootool.columns.values import is_text, plain_values
from zootool.errors import FormatError, MissingError, printable
from zootool.untrusted.bounded_text import parse_json
from zootool.untrusted.byte_source import FileSource, read_bounded

_NAMES = ("labels.csv", "labels.jsonl", "labels.parquet", "metadata.csv", "metadata.jsonl", "metadata.parquet")
_PATH_COLUMNS = ("path", "file", "file_name", "filename", "name")
_OLD_INDEX = "index.parquet"
_MAX_BYTES = 4 << 30
_MAX_COLUMNS = 10_000
_MAX_HEADER_BYTES = 4 << 20
_MAX_DEPTH = 32
_MAX_CSV_BYTES = 64 << 20
_MAX_UNPACKED_BYTES = 1 << 30
_MAX_CSV_COLUMNS = 1_000
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# 007 and 7 are two names, and what int64 can't hold would be rounded: neither is a number to compute with.
_TOO_LARGE = r"\d{20,}|9[2-9]\d{17}"
_NOT_A_NUMBER = rf"^\s*[+-]?(0\d+|{_TOO_LARGE})\s*$"
_TOO_LARGE_IN_JSON = re.compile(rf"[:,\[]\s*-?(?:{_TOO_LARGE})\s*[,\]}}]".encode())


@dataclass(frozen=True)
class LabelTable:
    """Relative paths with `/`, a column for everything else, and how the file was read, in words."""

    paths: Sequence[str]
    table: pa.Table
    notes: tuple[str, ...] = ()


def find_table(folder: Path) -> Path | None:
    """The table in `folder` that has one of the usual names."""
    found = [folder / name for name in _NAMES if (folder / name).is_file()]
    found += [folder / _OLD_INDEX] * _is_old_index(folder / _OLD_INDEX)
    if len(found) > 1:
        raise FormatError(
            f"{printable(folder)} has {len(found)} tables of labels", hint=f"name one: --labels {found[0].name}"
        )
    return found[0] if found else None


def read_labels(path: Path) -> LabelTable:
    """The table at `path`. Raises MissingError, and FormatError for what is no such table."""
    if not path.is_file():
        raise MissingError(f"there is no table of labels at {printable(path)}")
    if path.stat().st_size > _MAX_BYTES:
        raise FormatError(f"{printable(path)} has {path.stat().st_size} bytes, more than {_MAX_BYTES}")
    try:
        table, notes = _read(path)
    except (pa.ArrowException, ValueError, OSError, csv.Error) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{printable(path)} isn't a readable table ({printable(error, 160)})") from error
    if not 0 < table.num_columns <= _MAX_COLUMNS:
        raise FormatError(f"{printable(path)} has {table.num_columns} columns, wanted are 1 to {_MAX_COLUMNS}")
    names = table.column_names
    for name, count in Counter(names).items():
        if printable(name, 200) != name or count > 1:
            raise FormatError(f"{printable(path)} has a column {printable(name, 60)!r}", hint="rename it")
    key = next((name for name in _PATH_COLUMNS if name in names), names[0])
    paths = [str(value).strip().removeprefix("./") for value in plain_values(table[key], 4096)]
    if len(set(paths)) < len(paths):
        raise FormatError(f"{printable(path)} has two rows for one file", hint="keep one of them")
    return LabelTable(paths, table.drop_columns([key]), notes)


def read_csv_rows(path: Path, required: Sequence[str], max_bytes: int = _MAX_CSV_BYTES) -> list[dict[str, str]]:
    """The rows of a small CSV file by column. Raises MissingError, and FormatError for one that is cut off or large."""
    content, shown = read_bounded(path, max_bytes)
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"{shown} is no readable CSV: {printable(error)}", hint="get it again") from error
    header = _checked_header(lines[0] if lines else [], required, shown)
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise FormatError(
                f"{shown} line {number} has {len(line)} cells, its header has {len(header)}",
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


def _is_old_index(path: Path) -> bool:
    """Whether it is the table that `zoo export` once wrote into its folder."""
    try:
        return path.is_file() and {"net_id", "file"} <= set(pq.read_schema(path).names)
    except (pa.ArrowException, ValueError, OSError):
        return False


def _read(path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    if path.suffix == ".parquet":
        return pq.read_table(path), ()
    if path.suffix in (".jsonl", ".json"):
        _check_lines(path)
        return pyarrow.json.read_json(path), ()
    if path.suffix == ".csv":
        return _read_csv(path)
    raise ValueError("wanted: .csv, .jsonl or .parquet")


def _read_csv(path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """A CSV file's columns. Text stays text: a formula is never more than the characters that it is made of."""
    separator, names = _dialect(path)
    notes = [] if separator == "," else [f"{path.name} is read as separated by {_SEPARATORS[separator]}"]
    reading = pacsv.ReadOptions(column_names=[str(i) for i in range(len(names))], skip_rows=1)
    parsing = pacsv.ParseOptions(delimiter=separator, newlines_in_values=True)
    as_texts = pacsv.ConvertOptions(
        column_types=dict.fromkeys(reading.column_names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    try:
        texts = pacsv.read_csv(path, reading, parsing, as_texts)
    except (pa.ArrowException, UnicodeError) as error:
        if "UTF8" not in str(error) and "codec" not in str(error):
            raise
        raise _not_utf8(path, error) from error
    kept = {
        number: pa.string()
        for number, name in zip(reading.column_names, names, strict=True)
        if name == "run_id" or _any_matches(texts[number], _NOT_A_NUMBER)
    }
    converting = pacsv.ConvertOptions(
        column_types=kept, strings_can_be_null=True, decimal_point="," if _has_decimal_commas(texts, separator) else "."
    )
    if converting.decimal_point == ",":
        notes.append(f"{path.name} is read with decimal commas")
    table = pacsv.read_csv(path, reading, parsing, converting)
    columns = []
    for number in reading.column_names:
        column = table[number]
        if is_text(column.type):
            # Words such as NA are gaps among numbers, and may be names among texts.
            column = pc.call_function("utf8_trim_whitespace", [texts[number]])
        columns.append(column)
    return pa.table(columns, names=names), tuple(notes)


def _dialect(path: Path) -> tuple[str, list[str]]:
    """What separates a CSV file's columns, and their names, from its first line."""
    with path.open("rb") as file:
        line = file.readline(_MAX_HEADER_BYTES + 1)
    if len(line) > _MAX_HEADER_BYTES:
        raise FormatError(f"{printable(path)} begins with a line of more than {_MAX_HEADER_BYTES} bytes")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line:
        raise FormatError(f"{printable(path)} isn't UTF-8 text but UTF-16 or no text", hint="save it as UTF-8")
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    if not text:
        raise FormatError(f"{printable(path)} isn't a readable table (its first line is empty)")
    if (count := max(map(text.count, _SEPARATORS))) > _MAX_COLUMNS:
        raise FormatError(f"{printable(path)} has about {count:,} columns, at most {_MAX_COLUMNS:,} are read")
    headers = {mark: next(csv.reader([text], delimiter=mark, skipinitialspace=True)) for mark in _SEPARATORS}
    marks = [mark for mark, header in headers.items() if len(header) > 1]
    if len(marks) > 1:
        named = [mark for mark in marks if {name.strip() for name in headers[mark]} & set(_PATH_COLUMNS)]
        marks = named if len(named) == 1 else marks
    if len(marks) > 1 or (not marks and any(mark in text for mark in "|:")):
        raise FormatError(
            f"{printable(path)} begins with {printable(text, 60)!r}, in which columns could be separated in several "
            "ways or none", hint="separate them by commas",
        )  # fmt: skip
    mark = marks[0] if marks else ","
    return mark, [name.strip() for name in headers[mark]]


def _not_utf8(path: Path, error: Exception) -> FormatError:
    return FormatError(
        f"{printable(path)} isn't UTF-8 text ({printable(error, 100)})",
        hint=f"save it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 {printable(path.name)} > new.csv",
    )


def _has_decimal_commas(texts: pa.Table, separator: str) -> bool:
    if separator == ",":
        return False
    commas, points = (
        any(_any_matches(column, rf"^\s*[+-]?\d+{mark}\d+\s*$") for column in texts.columns) for mark in (",", r"\.")
    )
    return commas and not points


def _any_matches(column: pa.ChunkedArray, pattern: str) -> bool:
    found = pc.call_function("match_substring_regex", [column], pc.MatchSubstringOptions(pattern))
    return bool(pc.call_function("any", [found]).as_py())


def _check_lines(path: Path) -> None:
    """Refuse lines of JSON that are nested too deeply to be read without a stack of their own, and rounded numbers."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{printable(path)} line {number}"
            if _TOO_LARGE_IN_JSON.search(line):
                raise FormatError(f"{where} has a whole number that would be rounded", hint="put it in quotes")
            if line.count(b"[") + line.count(b"{") > _MAX_DEPTH:
                parse_json(line, where, max_depth=_MAX_DEPTH)


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
    if len(header) > _MAX_CSV_COLUMNS:
        raise FormatError(f"{shown} has {len(header)} columns, at most {_MAX_CSV_COLUMNS} are read")
    for name in required:
        if header.count(name) != 1:
            found = printable(", ".join(header), 160)
            raise FormatError(
                f"{shown} has {header.count(name)} columns {name!r}, wanted is one", hint=f"it has {found}"
            )
    if len(set(header)) != len(header):
        raise FormatError(f"{shown} has two columns of one name")
    return header
