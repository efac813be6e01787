"""Numbers and settings from tables and records that nobody has checked, each held to what it may be."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from zootool.errors import FormatError, printable

MAX_STEP = 1 << 40
MAX_HYPER_COLUMNS = 200

_MAX_TEXT = 1_000
_MAX_NAME = 300


def plain_name(name: str, where: str) -> str:
    """`name`, which becomes part of ids that are shown and compared. Raises FormatError for control characters."""
    if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise FormatError(
            f"{where} is {printable(name, 60)!r}, a name has 1 to {_MAX_NAME} characters and no control characters",
            hint="rename it",
        )
    return name


def whole_number(value: Any, where: str, high: int = MAX_STEP) -> int:
    """An integer from 0 to `high`, also one that is written as 86.0 or "86". Raises FormatError."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high or value != int(value):
        raise FormatError(f"{where} is {printable(value, 40)!r}, wanted is a whole number from 0 to {high}")
    return int(value)


def finite_number(value: Any, where: str) -> float | None:
    """A number as float, None where it is missing, NaN or infinite (a diverged loss). Raises FormatError."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value) if value.strip() else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{where} is {printable(value, 40)!r}, wanted is a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise FormatError(f"{where} is a number of more than 300 digits") from error
    return number if math.isfinite(number) else None


def fraction(value: Any, where: str, whole: float = 1.0) -> float | None:
    """A share from 0 to `whole` as one from 0 to 1; None where it is missing or NaN. Raises FormatError."""
    number = finite_number(value, where)
    if number is None:
        return None
    if not 0 <= number <= whole:
        raise FormatError(
            f"{where} is {number:g}, wanted is a share from 0 to {whole:g}", hint="is it a percentage, or damaged?"
        )
    return number / whole


def hyper_columns(settings: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Columns hp_* of the numbers, texts and switches in some records, a row for each; other values are left out.

    A column is numeric where every value is, else text. Raises FormatError for absurdly many.
    """
    keys = list(dict.fromkeys(key for record in settings for key, value in record.items() if _is_plain(value)))
    if len(keys) > MAX_HYPER_COLUMNS:
        raise FormatError(f"there are {len(keys)} hyper-parameters, at most {MAX_HYPER_COLUMNS} become columns")
    columns: dict[str, pa.Array] = {}
    for key in keys:
        name = "hp_" + re.sub(r"[^0-9A-Za-z_]+", "_", str(key))[:80].strip("_")
        if name in columns:
            raise FormatError(f"two hyper-parameters would become the column {name}", hint="rename one of them")
        columns[name] = _column([record.get(key) for record in settings])
    return columns


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | bool) or (isinstance(value, str) and len(value) <= _MAX_TEXT)


def _column(values: Sequence[Any]) -> pa.Array:
    values = [value if _is_plain(value) else None for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or abs(value) < 1 << 63 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if value is None else _as_float(value) for value in values], pa.float64())
    return pa.array([None if value is None else printable(value, _MAX_TEXT) for value in values], pa.string())


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
