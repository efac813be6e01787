"""Frozen dataclasses to plain JSON values and back, with every value checked on the way in.

A record read from somebody else's file is hostile until it has been through `from_plain`: types are exact, numbers
finite, nothing is converted, and the error names the place.
"""

import json
import math
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from zootool.errors import FormatError, printable

Record = TypeVar("Record")

_MAX_JSON_BYTES = 1 << 28

_JSON_NAMES: dict[type, str] = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def to_plain(value: Any) -> Any:
    """`value` as dicts, lists, strings, numbers, booleans and None; fields at their default are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value) if not _is_default(value, f)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def from_plain(kind: type[Record], value: Any, where: str = "record") -> Record:
    """A `kind` (a dataclass) from what `to_plain` gave; keys that `kind` doesn't know are ignored.

    `where` names the place in the errors. Raises FormatError.
    """
    if not isinstance(value, dict):
        raise FormatError(f"{where} must be an object, got {_shown(value)}")
    hints = get_type_hints(kind)
    arguments = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in value:
            arguments[field.name] = _parse(hints[field.name], value[field.name], f"{where}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise FormatError(f"{where} lacks the key {field.name!r}")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise FormatError(f"{where}: {error}") from error


def parse_json(content: bytes, where: str) -> Any:
    """The value of a JSON file without duplicate keys, NaN, or absurd depth. Raises FormatError."""
    if len(content) > _MAX_JSON_BYTES:
        raise FormatError(f"{where} has {len(content)} bytes, more than {_MAX_JSON_BYTES}")
    try:
        return json.loads(content, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} isn't readable JSON ({printable(error, 120)})") from error


def _parse(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _parse(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        return _parse_literal(arguments, value, where)
    if origin is tuple:
        return _parse_tuple(arguments, value, where)
    if origin is dict:
        return _parse_dict(arguments[1], value, where)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return from_plain(hint, value, where)  # type: ignore[arg-type]
    return _parse_scalar(hint, value, where)


def _parse_scalar(hint: type, value: Any, where: str) -> Any:
    # bool is an int to isinstance, and an int is a number to anyone who writes JSON by hand.
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise FormatError(f"{where} must be {_JSON_NAMES[hint]}, got {_shown(value)}")
    if hint is float and not math.isfinite(value):
        raise FormatError(f"{where} must be finite, got {value}")
    return float(value) if hint is float else value


def _parse_literal(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise FormatError(f"{where} must be one of {', '.join(map(repr, choices))}, got {_shown(value)}")
    return value


def _parse_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise FormatError(f"{where} must be a list, got {_shown(value)}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_parse(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise FormatError(f"{where} must have {len(arguments)} items, got {len(value)}")
    return tuple(
        _parse(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(arguments, value, strict=True))
    )


def _parse_dict(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{where} must be an object, got {_shown(value)}")
    return {key: _parse(hint, item, f"{where}.{printable(key, 60)}") for key, item in value.items()}


def _is_default(record: Any, field: Field[Any]) -> bool:
    value = getattr(record, field.name)
    if field.default_factory is not MISSING:
        return value == field.default_factory()
    return field.default is not MISSING and value == field.default and type(value) is type(field.default)


def _shown(value: Any) -> str:
    return f"{printable(value, 60)} ({type(value).__name__})"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} isn't JSON")
