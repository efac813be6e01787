"""`--set key=value` on records of settings: any part of a preset in one word, checked like the rest."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from zootool.errors import FormatError, UsageError, did_you_mean, printable
from zootool.records import from_plain

Settings = TypeVar("Settings")


def override(settings: Settings, words: Iterable[str], parts: Sequence[str], inner: str) -> Settings:
    """`settings` (a frozen dataclass) with the values of `key=value` words.

    A key is a path into the `parts` that may be changed, such as `encoder.dim`, or a key of the part `inner`, such as
    `lr`. Values are read as JSON, else as text, with commas as a list. Raises UsageError.
    """
    plain = json.loads(json.dumps(asdict(settings)))  # type: ignore[call-overload]
    open_parts = {name: plain[name] for name in parts}
    known = list(_paths(open_parts)) + list(_paths(plain[inner]))
    given: set[str] = set()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"--set {printable(word, 60)} is no key=value", hint="write it like --set lr=1e-3")
        if key not in known:
            raise UsageError(f"there is no setting {printable(key, 60)!r}", hint=did_you_mean(key, known))
        if key in given:
            raise UsageError(f"the setting {key} is given twice", hint="give it once")
        given.add(key)
        *folders, name = key.split(".")
        target = plain if key.partition(".")[0] in parts else plain[inner]
        for folder in folders:
            target = target[folder]
        target[name] = _read(text)
    try:
        return from_plain(type(settings), plain, "the settings")
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
