"""Any column of a table as plain values: what shows, counts or groups columns goes through here, whatever they hold."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from zootool.errors import printable

Column = pa.ChunkedArray | pa.Array

MISSING = "missing"

_EXACT_IN_JSON = 1 << 53
_MAX_ITEMS = 20


def decoded(column: Column) -> pa.ChunkedArray:
    """The same values without dictionaries, run lengths, views and extension types."""
    column = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return decoded(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    if pa.types.is_dictionary(kind):
        return decoded(column.cast(kind.value_type))
    if pa.types.is_run_end_encoded(kind):
        return decoded(
            pa.chunked_array([pc.call_function("run_end_decode", [chunk]) for chunk in column.chunks], kind.value_type)
        )
    if pa.types.is_string_view(kind):
        return column.cast(pa.string())
    return column.cast(pa.binary()) if pa.types.is_binary_view(kind) else column


def is_text(kind: pa.DataType) -> bool:
    """Whether a decoded column holds text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a decoded column holds bytes."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def is_missing(column: Column) -> Bool[np.ndarray, " rows"]:
    """Where there is no value: null, or NaN."""
    return decoded(column).is_null(nan_is_null=True).to_numpy()


def numbers(column: Column) -> Float64[np.ndarray, " rows"] | None:
    """The values as float64, NaN where there is none; None for a column that doesn't hold numbers."""
    column = decoded(column)
    if pa.types.is_decimal(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(pa.float64(), safe=False).to_numpy()
    return None


def plain_values(column: Column, limit: int = 120) -> list[Any]:
    """None, booleans, finite numbers or text safe to show, at most `limit` characters long, for every row.

    Whole numbers that JSON's readers would round, infinities, dates, bytes and all that is nested become text.
    """
    column = decoded(column)
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.to_pylist()
    if pa.types.is_integer(kind):
        return [v if v is None or abs(v) <= _EXACT_IN_JSON else str(v) for v in column.to_pylist()]
    if pa.types.is_floating(kind):
        return [_plain_float(value) for value in column.to_pylist()]
    if is_text(kind) or is_bytes(kind):
        # Not every text is UTF-8 as it should be, and one may have a gigabyte.
        as_bytes = column.cast(pa.large_binary())
        cut = pc.call_function("binary_slice", [as_bytes], pc.SliceOptions(0, 4 * limit + 4))
        texts = [None if b is None else b.decode("utf-8", "backslashreplace") for b in cut.to_pylist()]
    else:
        texts = _as_texts(column)
    return [None if text is None else printable(text, limit) for text in texts]


def codes(column: Column) -> tuple[Int64[np.ndarray, " rows"], list[Any]]:
    """A number for every row's value, equal for equal ones and -1 where there is none; and the values, as plain ones.

    Values are numbered in the order of their first row.
    """
    column = decoded(column)
    try:
        encoded = pa.chunked_array(column).combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.unify_dictionaries().combine_chunks()
        numbered = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        values = plain_values(encoded.dictionary)
    except pa.ArrowNotImplementedError:
        values, place = [], dict[str, int]()
        texts = plain_values(column)
        numbered = np.array([place.setdefault(text, len(place)) for text in texts], dtype=np.int64)
        values = list(place)
    numbered[is_missing(column)] = -1
    return numbered, values


def counted(column: Column) -> dict[str, int]:
    """How many rows have each value, by the values' texts in order; what has none comes last, as "missing"."""
    numbered, values = codes(column)
    counts: Counter[str] = Counter()
    for value, count in zip(values, np.bincount(numbered[numbered >= 0], minlength=len(values)), strict=True):
        counts[str(value)] += int(count)
    found = {text: counts[text] for text in sorted(counts) if counts[text]}
    gaps = int((numbered < 0).sum())
    return found | {MISSING: gaps + found.get(MISSING, 0)} if gaps else found


def _plain_float(value: float | None) -> float | str | None:
    if value is None or value != value:
        return None
    return float(value) if abs(value) != float("inf") else str(float(value))


def _as_texts(column: pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        first = pc.ListSliceOptions(0, _MAX_ITEMS)
        # A list of a million numbers is one cell of a table.
        column = pa.chunked_array(
            [pc.call_function("list_slice", [chunk], first) for chunk in column.chunks], column.type
        )
    try:
        # Arrow writes dates and times that Python's own types can't hold.
        return column.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        return [_as_text(scalar) for scalar in column]


def _as_text(scalar: pa.Scalar) -> str | None:
    try:
        value = scalar.as_py()
    except (ValueError, OverflowError, pa.ArrowException, ImportError):
        return f"<{scalar.type} that can't be shown>"
    return None if value is None else str(value)
