"""The columns whose meaning docs/format.md fixes: checked, and brought into their form, on every way into a zoo.

One table says what each column holds. What is certain is mended and said in a note (`Valid` is validation, 91.2 is
0.912); what isn't is refused.
"""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from zootool.columns.splits import SPLITS
from zootool.columns.values import decoded, is_bytes, is_missing, is_text, numbers, plain_values
from zootool.errors import FormatError, printable

_SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "dev": "validation", "development": "validation", "test": "test", "testing": "test",
}  # fmt: skip
_NO_VALUE = {"", "-", "--", "?", "na", "n/a", "nan", "none", "null"}
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf(?:inity)?)\s*(%|db)?", re.IGNORECASE)
_WHOLE = re.compile(r"()([+-]?\d{1,18})()")
_STEP = re.compile(r"(\D*)(\d{1,18})(\D*)")
# Above 1 by less than this, a fraction was rounded; up to the second, nobody can say whether it is percent.
_ROUNDING, _SURELY_PERCENT = 1 + 1e-6, 1.5


@dataclass(frozen=True)
class ColumnRules:
    """`split_names` are words for splits beside the usual ones; `num_sources` counts the image sets, if it is known."""

    split_names: Mapping[str, str] = field(default_factory=dict)
    num_sources: int | None = None


_FILLED_HERE = ("is_finite", "origin")
"""Columns that writing and merging stores fill: a file can't know them."""

Found = tuple[pa.ChunkedArray, str | None]


def check_columns(
    table: pa.Table, rules: ColumnRules | None = None, *, aside: str | None = None
) -> tuple[pa.Table, tuple[str, ...]]:
    """The table with its known columns in their form, and what was done to them, in words.

    A table that was checked stays as it is. Raises FormatError for values that a column can't hold, unless `aside` is
    the prefix by which such columns are renamed: for what files say of themselves, whose `split` may well be the name
    of a data set.
    """
    rules = rules or ColumnRules()
    names, notes = list(table.column_names), []
    for place, name in enumerate(names):
        plain = name.strip().casefold()
        if plain != name and plain in KNOWN and plain not in names:
            names[place] = plain
            notes.append(f"the column {printable(name, 60)!r} is taken for {plain!r}")
    columns: dict[str, Any] = {}
    for name, values in zip(names, table.columns, strict=True):
        column, kept, note = decoded(values), name, None
        try:
            if aside is not None and name in _FILLED_HERE:
                raise FormatError("what files say of themselves")
            if name in KNOWN:
                column, note = KNOWN[name](column, rules)
        except FormatError as unfit:
            if aside is None:
                hint = unfit.hint or "correct them, or give the column another name"
                raise FormatError(f"the column {name!r} holds {unfit.message}", hint=hint) from unfit
            kept = aside + name
            note = f"holds {unfit.message}: it is the column {kept!r}"
        columns[kept] = column
        if note is not None:
            notes.append(f"the column {name!r} {note}")
    return pa.table(columns), tuple(notes)


def require_checked(table: pa.Table) -> None:
    """Raise FormatError for a table whose known columns aren't in their form already."""
    known = [name for name in table.column_names if name in KNOWN]
    _, notes = check_columns(table.select(known))
    if notes:
        raise FormatError(
            f"the networks' table isn't in the format's form ({notes[0]})",
            hint="pass it through `zootool.columns.known.check_columns` first",
        )


def _splits(column: pa.ChunkedArray, rules: ColumnRules) -> Found:
    known = _SPLIT_WORDS | {name.strip().casefold(): split for name, split in rules.split_names.items()}

    def read(text: str) -> str:
        word = text.strip().casefold()
        if word not in known:
            raise FormatError(
                f"{printable(text, 60)!r}, which is no split",
                hint=f"say which it is, like --split-names {printable(word, 30)}=test; a zoo has {', '.join(SPLITS)}",
            )
        return known[word]

    texts = column.cast(pa.string()) if pa.types.is_integer(column.type) else column  # numbers may be names
    found, values = _read_texts(texts, read, pa.string(), known)
    changed = sorted((text, split) for text, split in values.items() if split not in (None, text))
    words = ", ".join(f"{printable(text, 30)!r} as {split}" for text, split in changed)
    return found, f"is read with {words}" if changed else None


def _whole(column: pa.ChunkedArray, rules: ColumnRules) -> Found:
    return _integers(column, lambda text: int(text) if _WHOLE.fullmatch(text) else None)


def _sources(column: pa.ChunkedArray, rules: ColumnRules) -> Found:
    found, note = _whole(column, rules)
    highest = max(found.drop_null().to_pylist(), default=0)
    if rules.num_sources is not None and highest >= max(rules.num_sources, 1):
        raise FormatError(f"{highest}, and there are {rules.num_sources} image sets to count through")
    return found, note


def _steps(column: pa.ChunkedArray, rules: ColumnRules) -> Found:
    forms: dict[tuple[str, str], str] = {}

    def read(text: str) -> int | None:
        if match := _WHOLE.fullmatch(text) or _STEP.fullmatch(text):
            before, number, behind = match.groups()
            forms[before.casefold(), behind.casefold()] = text
            if len(forms) > 1:
                one, other = list(forms.values())[:2]
                raise FormatError(f"steps in two forms, {printable(one, 30)!r} and {printable(other, 30)!r}")
            return int(number)
        return None

    if pa.types.is_floating(column.type) and not _all_whole(column):
        return column, None  # Parts of an epoch are in order as they are.
    return _integers(column, read)


def _integers(column: pa.ChunkedArray, read: Callable[[str], int | None]) -> Found:
    """Whole numbers from 0 on; `read` makes them of texts, or None where they are none."""

    def checked(text: str) -> int:
        value = read(text.strip())
        if value is None:
            raise FormatError(f"{printable(text, 60)!r}, whole numbers are needed")
        return value

    note = None
    if is_text(column.type) or is_bytes(column.type):
        column, values = _read_texts(column, checked, pa.int64())
        examples = [f", {printable(text, 30)!r} as {value}" for text, value in values.items() if value is not None]
        note = f"is read as whole numbers{''.join(examples[-1:])}"
    elif pa.types.is_floating(column.type) and _all_whole(column):
        column, note = _without_nan(column).cast(pa.int64()), "is read as whole numbers"
    elif pa.types.is_null(column.type):
        column = column.cast(pa.int64())
    elif not pa.types.is_integer(column.type):
        raise FormatError(f"{_example(column)}, whole numbers are needed")
    values = column.drop_null().to_numpy()
    if len(values) and (lowest := values.min()) < 0:
        raise FormatError(f"{lowest}, numbers from 0 on are needed")
    return column, note


def _number(column: pa.ChunkedArray, rules: ColumnRules, unit: str | None = None) -> Found:
    found, units, note = _read_numbers(column)
    if odd := units - {None, unit}:
        raise FormatError(f"numbers with the unit {odd.pop()!r}")
    return found, note


def _fractions(column: pa.ChunkedArray, rules: ColumnRules) -> Found:
    found, units, note = _read_numbers(column)
    if "db" in units or len(units) > 1:
        raise FormatError("numbers of several units, fractions or percent are needed")
    values = _with_gaps(found)
    known = values[~np.isnan(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    if low < 0 or high > 100:
        raise FormatError(f"{low if low < 0 else high:g}, an accuracy is from 0 to 1, or to 100 in percent")
    if "%" not in units:
        if high <= 1:
            return found, note
        if high <= _ROUNDING:
            return pa.chunked_array([np.minimum(values, 1.0)]), "is cut to 1 where rounding went above it"
        if high <= _SURELY_PERCENT:
            raise FormatError(
                f"numbers up to {high:g}, which could be fractions or percent", hint="divide percent by 100"
            )
    fractions = pa.chunked_array([pa.array(values / 100, mask=is_missing(found))])
    return fractions, f"is read as percent, {low:g} to {high:g} as {low / 100:g} to {high / 100:g}"


def _read_numbers(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, set[str | None], str | None]:
    """The column as numbers, the units behind its texts, and what was read as what."""
    if pa.types.is_decimal(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.float64()), {None}, None
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column, {None}, None
    units: set[str | None] = set()

    def read(text: str) -> float:
        match = _NUMBER.fullmatch(text.strip())
        if match is None:
            raise FormatError(f"{printable(text, 60)!r}, a number is needed")
        units.add(match[2] and match[2].lower())
        return float(match[1])

    found, values = _read_texts(column, read, pa.float64())
    examples = [
        f"{printable(text, 30)!r} as {'missing' if value is None else f'{value:g}'}" for text, value in values.items()
    ]
    missing = [words for words in examples if words.endswith("missing")]
    words = ", ".join([*examples[:1], *missing[:1]])
    return found, units or {None}, f"is read as numbers, {words}" if examples else None


def _ids(column: pa.ChunkedArray, rules: ColumnRules) -> Found:
    kind = column.type
    if pa.types.is_floating(kind) and _all_whole(column):
        return _without_nan(column).cast(pa.int64()), "is read as whole numbers"
    if is_bytes(kind):
        return _texts(column), "is read as text"
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise FormatError(f"{_example(column)}, texts or whole numbers are needed")
    return column, None


def _flags(column: pa.ChunkedArray, rules: ColumnRules) -> Found:
    if not pa.types.is_boolean(column.type) and not pa.types.is_null(column.type):
        raise FormatError(f"{_example(column)}, true or false is needed")
    return column, None


KNOWN: dict[str, Callable[[pa.ChunkedArray, ColumnRules], Found]] = {
    "source_index": _whole,
    "source": _sources,
    "label": lambda column, rules: (column, None),
    "split": _splits,
    "copy": _whole,
    "run_id": _ids,
    "training_step": _steps,
    "loss": _number,
    "psnr": partial(_number, unit="db"),
    "train_accuracy": _fractions,
    "test_accuracy": _fractions,
    "is_finite": _flags,
    "origin": lambda column, rules: (column if pa.types.is_null(column.type) else _texts(column), None),
}
"""What each column holds: a function that gives it in its form, or raises FormatError for values that it can't hold."""


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as text. Raises FormatError."""
    if not (is_text(column.type) or is_bytes(column.type) or pa.types.is_null(column.type)):
        raise FormatError(f"{_example(column)}, text is needed")
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise FormatError(f"{_example(column)}, which isn't UTF-8") from error


def _read_texts(
    column: pa.ChunkedArray, read: Callable[[str], Any], kind: pa.DataType, known: Container[str] = ()
) -> tuple[pa.ChunkedArray, dict[str, Any]]:
    """Every text as `read` has it, and each different one with its value: None where it stands for no value.

    `known` are words that do stand for one, though others use them for none.
    """
    encoded = _texts(column).combine_chunks().dictionary_encode()
    values: dict[str, Any] = {}
    for text in encoded.dictionary.to_pylist():
        word = text.strip().casefold()
        values[text] = None if word in _NO_VALUE and word not in known else read(text)
    return pa.chunked_array([pa.array(list(values.values()), kind).take(encoded.indices)]), values


def _all_whole(column: pa.ChunkedArray) -> bool:
    values = _with_gaps(column)
    values = values[~np.isnan(values)]
    return bool(np.isfinite(values).all() and (np.abs(values) < 1 << 53).all() and (values == np.rint(values)).all())


def _without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(_with_gaps(column), mask=is_missing(column))])


def _with_gaps(column: pa.ChunkedArray) -> np.ndarray:
    found = numbers(column)
    assert found is not None, "asked of numbers alone"
    return found


def _example(column: pa.ChunkedArray) -> str:
    first = next((value for value in plain_values(column[:100], 60) if value is not None), None)
    return f"{column.type}" if first is None else f"{column.type} such as {first!r}"
