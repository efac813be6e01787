"""Conditions on columns in one word: `split=test,label=3|5`."""

from typing import Any

import pyarrow as pa

from zootool.errors import UsageError, did_you_mean, printable
from zootool.zoo.zoo import Zoo

_LAST = "last=true"
_BOOLEANS = {"true": True, "false": False}


def select_where(zoo: Zoo, text: str) -> Zoo:
    """The networks that meet every condition: `column=value`, or `column=value|value`, separated by commas.

    Values are read as the column's type; an empty value means missing. `last=true` keeps each run's last checkpoint of
    those that are left. Raises UsageError.
    """
    words = [word.strip() for word in text.split(",")]
    last = _LAST in words and "last" not in zoo.store.nets.schema.names
    rest = ",".join(word for word in words if word != _LAST) if last else text
    return zoo.select(last=last, **(parse_where(zoo.store.nets.schema, rest) if rest else {}))


def parse_where(schema: pa.Schema, text: str) -> dict[str, Any]:
    """The conditions as `Zoo.select` takes them. Raises UsageError for unknown columns and unreadable values."""
    conditions: dict[str, Any] = {}
    for word in text.split(","):
        column, equals, values = word.strip().partition("=")
        if not equals or not column or column in conditions:
            raise UsageError(
                f"can't read the condition {printable(word, 60)!r}", hint="write it like split=test,label=3|5"
            )
        if column not in schema.names:
            raise UsageError(f"there is no column {printable(column, 60)!r}", hint=did_you_mean(column, schema.names))
        kind = schema.field(column).type
        conditions[column] = None if values == "" else [_read(value, kind, column) for value in values.split("|")]
    return conditions


def _read(value: str, kind: pa.DataType, column: str) -> Any:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    try:
        if pa.types.is_integer(kind):
            return int(value)
        if pa.types.is_floating(kind):
            return float(value)
        if pa.types.is_boolean(kind):
            return _BOOLEANS[value.lower()]
        if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
            return bytes.fromhex(value)
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"{printable(value, 60)!r} is no value of the column {column!r}, which holds {kind}"
        ) from error
    return value
