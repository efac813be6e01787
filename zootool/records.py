"""Frozen dataclasses to plain JSON values and back, with every value checked on the way in.

A record read from somebody else's file is hostile until it has been through `from_plain`: types are exact, numbers
finite, nothing is converted, and the error names the place. Written by hand, since pydantic's strict mode takes neither
dicts for dataclasses nor lists for tuples from Python, and its messages are others.
"""

import json
import sys
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from zootool.errors import FormatError, printable

Record = TypeVar("Record")

_MAX_JSON_BYTES = 1 << 28
_MAX_JSON_VALUES = 1 << 24
_MAX_JSON_DEPTH = 100
"""Python's own functions on a value call themselves for every level, and its stack ends at a thousand calls."""

_BRACKETS = b"[]{}"
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))

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
    try:
        return _record(kind, value)
    except _Problem as problem:
        raise FormatError(f"{where}{''.join(reversed(problem.steps))}{problem.message}") from problem.__cause__


def parse_json(content: bytes, where: str) -> Any:
    """The value of a JSON file without duplicate keys, NaN, or absurd depth or size. Raises FormatError."""
    if len(content) > _MAX_JSON_BYTES:
        raise FormatError(f"{where} has {len(content)} bytes, more than {_MAX_JSON_BYTES}")
    # Some bytes become objects of hundreds, so values are counted before they are made.
    if sum(content.count(mark) for mark in (b",", b"[", b"{")) > _MAX_JSON_VALUES:
        raise FormatError(f"{where} holds more than {_MAX_JSON_VALUES} values")
    try:
        value = json.loads(content, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} isn't readable JSON ({printable(error, 120)})") from error
    if _is_deep(content, value):
        raise FormatError(f"{where} is nested more than {_MAX_JSON_DEPTH} levels deep")
    return value


def _is_deep(content: bytes, value: Any) -> bool:
    # Most files are cleared by taking away pairs of brackets as often as levels are allowed, which is fast. Odd
    # brackets within texts may be left then, and the value itself decides.
    left = content.translate(None, _ALL_BUT_BRACKETS)
    for _ in range(_MAX_JSON_DEPTH):
        left = left.replace(b"[]", b"").replace(b"{}", b"")
        if not left:
            return False
    level = [value]
    for _ in range(_MAX_JSON_DEPTH + 1):
        level = [inner for item in level if isinstance(item, dict | list)
                 for inner in (item.values() if isinstance(item, dict) else item)]  # fmt: skip
    return bool(level)


def shown(value: Any) -> str:
    """A wrong value and its type, for errors."""
    return f"{printable(value, 60)} ({type(value).__name__})"


class _Problem(Exception):
    """A value that doesn't fit; the steps that lead to it are gathered on the way out, since most values fit."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.steps: list[str] = []


def _record(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, dict):
        raise _Problem(f" must be an object, got {shown(value)}")
    arguments = {}
    for name, hint, is_needed in _fields_of(kind):
        if name in value:
            arguments[name] = _at(f".{name}", hint, value[name])
        elif is_needed:
            raise _Problem(f" lacks the key {name!r}")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise _Problem(f": {error}") from error
    except FormatError as error:
        raise _Problem(f": {error.message}") from error


@cache
def _fields_of(kind: type[Any]) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type and whether there is no default, of every field."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple((f.name, hints[f.name], f.default is MISSING and f.default_factory is MISSING) for f in fields(kind))


@cache
def _form_of(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(hint), get_args(hint)


def _at(step: str, hint: Any, value: Any) -> Any:
    try:
        return _parse(hint, value)
    except _Problem as problem:
        problem.steps.append(step)
        raise


def _parse(hint: Any, value: Any) -> Any:
    if hint in (int, str, float, bool):
        # Most values are these, and to look the others up takes longer.
        return _parse_scalar(hint, value)
    origin, arguments = _form_of(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _parse(next(a for a in arguments if a is not type(None)), value)
    if origin is Literal:
        return _parse_literal(arguments, value)
    if origin is Annotated:
        # A function that gives the words which are known by now.
        return _parse_literal(arguments[1](), value)
    if origin is tuple:
        return _parse_tuple(arguments, value)
    if origin is dict:
        return _parse_dict(arguments[1], value)
    if hint is Any:
        return value
    return _record(hint, value)


def _parse_scalar(hint: type, value: Any) -> Any:
    # bool is an int to isinstance, and an int is a number to anyone who writes JSON by hand.
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise _Problem(f" must be {_JSON_NAMES[hint]}, got {shown(value)}")
    if hint is not float:
        return value
    if not -sys.float_info.max <= value <= sys.float_info.max:
        raise _Problem(f" must be finite, got {shown(value)}")
    return float(value)


def _parse_literal(choices: tuple[Any, ...], value: Any) -> Any:
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise _Problem(f" must be one of {', '.join(map(repr, choices))}, got {shown(value)}")
    return value


def _parse_tuple(arguments: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _Problem(f" must be a list, got {shown(value)}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(value) != len(arguments):
        raise _Problem(f" must have {len(arguments)} items, got {len(value)}")
    return tuple(_at(f"[{i}]", hint, item) for i, (hint, item) in enumerate(zip(arguments, value, strict=True)))


def _parse_dict(hint: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Problem(f" must be an object, got {shown(value)}")
    return {key: _at(f".{printable(key, 60)}", hint, item) for key, item in value.items()}


def _is_default(record: Any, field: Field[Any]) -> bool:
    value = getattr(record, field.name)
    if field.default_factory is not MISSING:
        return value == field.default_factory()
    return field.default is not MISSING and value == field.default and type(value) is type(field.default)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} isn't JSON")
