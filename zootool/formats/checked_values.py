"""Numbers, names, paths and splits in files that nobody has checked, each held to what it may be."""

import math
import re
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zootool.errors import FormatError, MissingError, UsageError, printable
from zootool.untrusted.bounded_text import read_json

_MAX_STEP = 1 << 40
_MAX_NAME = 300
_MAX_PATH = 10_000
_NAMES = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


class Splits(NamedTuple):
    """The split of every network, the rule in words, and what is odd about it."""

    of_each: Sequence[str | None]
    rule: str
    notes: tuple[str, ...] = ()


def plain_name(name: str, where: str) -> str:
    """`name`, which becomes part of ids that are shown and compared. Raises FormatError for control characters."""
    if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise FormatError(
            f"{where} is {printable(name, 60)!r}, a name has 1 to {_MAX_NAME} characters and no control characters",
            hint="rename it",
        )
    return name


def whole_number(value: Any, where: str, high: int = _MAX_STEP) -> int:
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


def path_tail(value: Any, parts: int, where: str) -> tuple[str, ...]:
    """The last parts of a path, whatever folder its writer had it in. Raises FormatError for no text."""
    if not isinstance(value, str) or len(value) > _MAX_PATH:
        raise FormatError(f"{where} has {printable(value, 60)!r} where a path is wanted")
    return tuple(part for part in value.replace("\\", "/").split("/") if part)[-parts:]


def find_splits(given: Path | None, *usual: Path) -> Path | None:
    """The split file that the user named, or the first of the usual ones that is there. Raises MissingError."""
    if given is not None and not given.is_file():
        raise MissingError(f"there is no split file {printable(given)}", hint="check the path")
    return given or next((path for path in usual if path.is_file()), None)


def published_splits(
    file: Path, names: Sequence[Hashable], name_of: Callable[[Any, str], Hashable], key: str | None = "path"
) -> Splits:
    """The splits of networks by their names, as a split file lists them: `name_of` gives an entry's, told where it is.

    Raises FormatError for a file of another form, and for a name in two splits.
    """
    where = printable(file)
    listed: dict[Hashable, str] = {}
    for split, content in read_splits(file).items():
        for entry in list_in(content, key, where):
            name = name_of(entry, where)
            if listed.setdefault(name, split) != split:
                raise FormatError(f"{where} has {printable(name, 120)} in {listed[name]} and in {split}")
    of_each = [listed.get(name) for name in names]
    return as_published(file, of_each, len(listed), len(listed.keys() & set(names)))


def as_published(file: Path, of_each: Sequence[str | None], num_listed: int, num_found: int) -> Splits:
    """These splits, with notes on networks that a file doesn't list, and on those that it lists and aren't here."""
    notes = []
    unlisted = sum(split is None for split in of_each)
    if unlisted:
        notes.append(f"{unlisted:,} networks are in no split of {file.name}: their split is null")
    if num_listed > num_found:
        notes.append(f"{file.name} lists {num_listed - num_found:,} networks that aren't here")
    return Splits(of_each, f"{file.name}, as published", tuple(notes))


def read_splits(path: Path) -> dict[str, Any]:
    """A JSON object of splits under our names for them: train, validation, test. Raises FormatError."""
    value = read_json(path)
    shown = printable(path)
    if not isinstance(value, dict) or not value or not set(value) <= set(_NAMES):
        keys = printable(", ".join(map(str, value)), 80) if isinstance(value, dict) else type(value).__name__
        raise FormatError(f"{shown} has {keys} where splits train, val and test are wanted", hint="name another file")
    splits = {_NAMES[key]: content for key, content in value.items()}
    if len(splits) != len(value):
        raise FormatError(f"{shown} has one split under two names", hint="keep one of them")
    return splits


def list_in(content: Any, key: str | None, where: str) -> list[Any]:
    """The list that a split is, or has under `key`. Raises FormatError."""
    value = content.get(key) if key is not None and isinstance(content, dict) else content
    if not isinstance(value, list):
        raise FormatError(f"{where} has no list{f' {key!r}' if key else ''} of its networks")
    return value


def wanted_steps(steps: Sequence[int | None], wanted: Sequence[int]) -> np.ndarray:
    """Which networks are of the wanted training steps, by their places: all of them where none is named.

    Raises UsageError for a step that no network has, naming those there are.
    """
    if not wanted:
        return np.arange(len(steps))
    known = sorted({step for step in steps if step is not None})
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        shown = ", ".join(map(str, known[:40])) + (", ..." if len(known) > 40 else "")
        raise UsageError(f"no network is of training step {unknown[0]}", hint=f"there are {shown or 'no steps'}")
    return np.flatnonzero(np.isin(np.array([-1 if step is None else step for step in steps], np.int64), list(wanted)))
