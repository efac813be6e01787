"""Conditions on the columns of a zoo: comparisons whose values fit the columns' types, in three-valued logic.

As in SQL, a network without a value (null, or NaN) meets no comparison and not its negation either.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zootool.columns.splits import SPLITS
from zootool.columns.values import decoded, is_bytes, is_missing, is_text, plain_values
from zootool.errors import UsageError, did_you_mean, printable, quoted

if TYPE_CHECKING:
    from zootool.zoo.zoo import Zoo

_FUNCTIONS = {"==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ORDERED = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal)
_MAX_LISTED = 20
_MAX_SEARCHED = 1000


class Conditions:
    """Tests of a zoo's columns, each true, false or null for every selected network.

    Raises UsageError for a column that isn't there and a value that it can't hold. What no network has is remarked, or
    refused where it is a text and `is_strict`: a slip of the pen then, not a selection of nothing.
    """

    def __init__(self, zoo: "Zoo", is_strict: bool = False) -> None:
        self.zoo = zoo
        self.names: list[str] = list(zoo.nets.columns)
        self._is_strict = is_strict
        self.remarks: list[str] = []

    def column(self, name: str) -> pa.ChunkedArray:
        """A column's values. Raises UsageError for a column that isn't there."""
        return decoded(self.zoo.nets.to_arrow([name])[name])

    def missing(self, name: str) -> pa.Array:
        """Where a column has no value."""
        return pa.array(is_missing(self.column(name)))

    def true(self, name: str) -> pa.Array:
        """A column of true and false as a condition."""
        column = self.column(name)
        if not pa.types.is_boolean(column.type):
            raise UsageError(
                f"the column {name!r} holds {column.type}, not true and false", hint=f"compare it: {name} == ..."
            )
        return column.combine_chunks()

    def compare(self, name: str, sign: str, value: Any) -> pa.Array:
        """A column against a value."""
        column = self.column(name)
        if sign in _FLIPPED and not any(check(column.type) for check in _ORDERED):
            raise UsageError(
                f"the column {name!r} holds {column.type}, which has no order", hint="compare it with ==, != or in"
            )
        if sign in _FLIPPED and pa.types.is_integer(column.type) and isinstance(value, float) and value == value:
            # Between two whole numbers: 2.5 is a bound for them too.
            bounded = np.clip(value, -(2.0**62), 2.0**62)
            value = int(np.floor(bounded)) if sign in ("<=", ">") else int(np.ceil(bounded))
        fitting = self._fitting(name, column.type, value)
        if sign not in _FLIPPED:
            self._remark(name, [fitting])
        return pc.call_function(_FUNCTIONS[sign], [_comparable(column), fitting]).combine_chunks()

    def compare_columns(self, name: str, sign: str, other: str) -> pa.Array:
        """A column against another one of its kind."""
        first, second = _comparable(self.column(name)), _comparable(self.column(other))
        kinds = (first.type, second.type)
        if not all(map(_is_number, kinds)) and (
            first.type != second.type or (sign in _FLIPPED and is_text(first.type))
        ):
            raise UsageError(
                f"the columns {name!r} ({kinds[0]}) and {other!r} ({kinds[1]}) can't be compared by {sign}",
                hint="compare numbers with numbers, or values of one type by == and !=",
            )
        try:
            return pc.call_function(_FUNCTIONS[sign], [first, second]).combine_chunks()
        except pa.ArrowException as error:
            raise UsageError(f"the columns {name!r} and {other!r} can't be compared") from error

    def member(self, name: str, values: Iterable[Any]) -> pa.Array:
        """Whether a column's value is one of these, among which None stands for none."""
        values = list(values)
        column = self.column(name)
        given = [self._fitting(name, column.type, value) for value in values if value is not None]
        if not given:
            return self.missing(name) if values else pa.array([False] * len(column), pa.bool_())
        self._remark(name, given)
        comparable = _comparable(column)
        members = pa.array([value.as_py() for value in given], given[0].type)
        found = pc.call_function("is_in", [comparable], pc.SetLookupOptions(members))
        found = pc.call_function("if_else", [comparable.is_null(), pa.scalar(None, pa.bool_()), found]).combine_chunks()
        return joined("or", [found, self.missing(name)]) if len(given) < len(values) else found

    def wanted(self, name: str, wanted: Any) -> pa.Array:
        """What a keyword of `Zoo.select` asks for: a value, any of several, or None. Raises UsageError."""
        wanted = _unwrapped(wanted)
        if is_nothing(wanted) and not isinstance(wanted, float):
            return self.missing(name)
        if (
            isinstance(wanted, Mapping | slice)
            or callable(wanted)
            or (isinstance(wanted, Iterable) and not isinstance(wanted, Collection | str | bytes))
        ):
            raise UsageError(
                f"{name}={quoted(wanted, 60)} is no value of a column",
                hint=f"give a value, a list of values or None; for comparisons: select(where='{name} > 3')",
            )
        several = isinstance(wanted, Collection) and not isinstance(wanted, str | bytes)
        return self.member(name, wanted if several else [wanted])

    def _fitting(self, name: str, kind: pa.DataType, value: Any) -> pa.Scalar:
        """The value as the column would hold it. Raises UsageError."""
        value = _unwrapped(value)
        classes = self.zoo.classes(name) if isinstance(value, str) and pa.types.is_integer(kind) else ()
        if value in classes:
            value = classes.index(value)
        try:
            found = None if is_nothing(value) else _scalar(kind, value)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            found = None
        if found is not None:
            return found
        hint = _hint(name, kind, value)
        if classes:
            hint = f"a class by its name or number: {did_you_mean(printable(value, 60), classes)}"
        shown = quoted(value, 60)
        raise UsageError(f"the column {name!r} holds {kind}, can't compare it with {shown}", hint=hint)

    def _remark(self, name: str, values: list[pa.Scalar]) -> None:
        """Look for values that no network of the whole zoo has."""
        there = _comparable(decoded(self.zoo.store.nets.read([name])[name])).unique()
        found = pa.array([value.as_py() for value in values], values[0].type)
        absent = found.filter(negated(pc.call_function("is_in", [found], pc.SetLookupOptions(there))))
        for value in absent.to_pylist():
            if name == "split" and value in SPLITS:
                continue
            message = f"no network has {name} {quoted(value, 60)}"
            hint = _near(value, there)
            if self._is_strict and isinstance(value, str):
                raise UsageError(message, hint=hint)
            self.remarks.append(f"{message} ({hint})" if hint else message)


def is_nothing(value: Any) -> bool:
    """Whether it is None, NaN, or another library's word for no value."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return True


def _unwrapped(value: Any) -> Any:
    """Scalars and arrays of numpy, torch, pandas and Arrow as Python's own values."""
    if isinstance(value, pa.Scalar):
        return value.as_py()
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return value.to_pylist()
    if isinstance(value, np.datetime64):
        return value.astype("datetime64[us]" if value.dtype != "datetime64[D]" else value.dtype).item()
    return value.tolist() if hasattr(value, "tolist") else value


def joined(word: Literal["and", "or"], tests: Iterable[pa.Array]) -> pa.Array:
    """Where all of the conditions are met, or one of them."""
    return reduce(lambda first, second: pc.call_function(f"{word}_kleene", [first, second]), tests)


def negated(condition: pa.Array) -> pa.Array:
    """Where it isn't met, but could be."""
    return pc.call_function("invert", [condition])


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as Arrow compares it, null where there is no value."""
    column = column.cast(pa.float32()) if pa.types.is_float16(column.type) else column
    if pa.types.is_floating(column.type):
        is_nan = pc.call_function("is_nan", [column])
        return pc.call_function("if_else", [is_nan, pa.scalar(None, column.type), column])
    if is_bytes(column.type):
        return column.cast(pa.large_binary())
    return column.cast(pa.large_string()) if is_text(column.type) else column


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _scalar(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    """The value as a column of this kind compares it; None, or an error of Python or Arrow, where it can't hold it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    found = None
    if pa.types.is_boolean(kind) and isinstance(value, bool):
        found = pa.scalar(value, kind)
    elif pa.types.is_integer(kind) and is_number:
        is_whole = isinstance(value, int) or (value == np.rint(value) and abs(value) < 1 << 53)
        found = pa.scalar(int(value), kind) if is_whole else None
    elif pa.types.is_float16(kind) and is_number:
        found = pa.scalar(float(np.float16(value)), pa.float32())
    elif pa.types.is_floating(kind) and is_number:
        found = pa.scalar(float(value), kind)
    elif pa.types.is_decimal(kind) and not isinstance(value, bool | str | bytes):
        found = pa.scalar(str(value)).cast(kind)
    elif is_bytes(kind) and isinstance(value, str | bytes):
        found = pa.scalar(bytes.fromhex(value) if isinstance(value, str) else value, pa.large_binary())
    elif is_text(kind) and isinstance(value, str):
        found = pa.scalar(value, pa.large_string())
    elif pa.types.is_temporal(kind) and not isinstance(value, int | float | bytes):
        found = pa.scalar(value).cast(kind) if isinstance(value, str) else pa.scalar(value, kind)
    return found


def _hint(name: str, kind: pa.DataType, value: Any) -> str:
    if is_nothing(value):
        return f"write {name} is null, or is not null"
    if pa.types.is_boolean(kind):
        return "it is true or false"
    if _is_number(kind):
        return "numbers stand without quotes" if isinstance(value, str) else "give a number that it can hold"
    if is_text(kind):
        return f"texts stand in quotes: {name} == '{printable(value, 30)}'"
    if is_bytes(kind):
        return "write bytes as hex digits"
    return "write dates and times like '2026-01-31'" if pa.types.is_temporal(kind) else "only `is null` asks about it"


def _near(value: Any, there: pa.ChunkedArray) -> str:
    there = there.drop_null()
    if len(there) > _MAX_SEARCHED or not isinstance(value, str):
        few = sorted(there.to_pylist()) if _is_number(there.type) and len(there) <= _MAX_LISTED else []
        return f"it has {', '.join(map(str, few))}" if few else ""
    texts = [text for text in plain_values(there) if text is not None]
    hint = did_you_mean(value, texts)
    return hint if len(texts) <= _MAX_LISTED or hint.startswith("did you") else f"it has {len(texts):,} others"
