"""`--set key=value` on records of settings: any part of a preset in one word, checked like the rest."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, is_dataclass, replace
from typing import Any, TypeVar

from zootool.errors import FormatError, UsageError, did_you_mean, printable
from zootool.records import from_plain

Settings = TypeVar("Settings")


def override(settings: Settings, words: Iterable[str], parts: Sequence[str], inner: Sequence[str]) -> Settings:
    """`settings` (a frozen dataclass) with the values of `key=value` words.

    A key is a path into the `parts` that may be changed, such as `encoder.dim`, or a key within one of the parts
    `inner`, such as `lr`. Values are read as JSON, else as text, with commas as a list. Raises UsageError.
    """
    plain = json.loads(json.dumps(asdict(settings)))  # type: ignore[call-overload]
    homes = {key: plain for key in _paths({name: plain[name] for name in parts})}
    for name in inner:
        homes |= {key: plain[name] for key in _paths(plain[name])}
    given: set[str] = set()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"--set {printable(word, 60)} is no key=value", hint="write it like --set lr=1e-3")
        if key not in homes:
            raise UsageError(f"there is no setting {printable(key, 60)!r}", hint=did_you_mean(key, homes))
        if key in given:
            raise UsageError(f"the setting {key} is given twice", hint="give it once")
        given.add(key)
        target, (*folders, name) = homes[key], key.split(".")
        for folder in folders:
            target = target[folder]
        target[name] = _read(text)
    try:
        found = from_plain(type(settings), plain, "the settings")
        # A field of any type is read as the record that it held.
        held = {name: getattr(settings, name) for name in plain if isinstance(getattr(found, name), dict)}
        records = {
            name: from_plain(type(value), plain[name], f"the settings.{name}")
            for name, value in held.items()
            if is_dataclass(value)
        }
        return replace(found, **records)  # type: ignore[bad-specialization]
    except FormatError as error:
        raise UsageError(error.message, hint="look at what --set gave") from error


def _paths(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _paths(item, f"{prefix}{key}.")
        else:
            yield prefix + key


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return [_read(part) for part in text.split(",")] if "," in text else text
