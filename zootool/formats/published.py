"""Splits that a source publishes, and which training steps a user wants."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zootool.errors import FormatError, MissingError, UsageError, printable
from zootool.untrusted.bounded_text import read_json

_NAMES = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


def find_splits(given: Path | None, folder: Path, *names: str) -> Path | None:
    """The split file that the user named, or one of these names in `folder`, or None. Raises MissingError."""
    if given is not None:
        if not given.is_file():
            raise MissingError(f"there is no split file {printable(given)}", hint="check the path")
        return given
    return next((folder / name for name in names if (folder / name).is_file()), None)


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


def path_tail(value: Any, parts: int, where: str) -> tuple[str, ...]:
    """The last parts of a path, whatever folder its writer had it in. Raises FormatError for no text."""
    if not isinstance(value, str) or len(value) > 10_000:
        raise FormatError(f"{where} has {printable(value, 60)!r} where a path is wanted")
    return tuple(part for part in value.replace("\\", "/").split("/") if part)[-parts:]


def split_of_each(splits: Mapping[str, Iterable[Hashable]], where: str) -> dict[Any, str]:
    """Which split each name is in. Raises FormatError for one that is in two."""
    found: dict[Any, str] = {}
    for split, names in splits.items():
        for name in names:
            if found.setdefault(name, split) != split:
                raise FormatError(f"{where} has {printable(name, 120)} in {found[name]} and in {split}")
    return found


def describe_gaps(assigned: Sequence[str | None], num_listed: int, num_found: int, where: str) -> tuple[str, ...]:
    """Notes on networks that a split file doesn't list, and on those that it lists and that aren't there."""
    notes = []
    unlisted = sum(split is None for split in assigned)
    if unlisted:
        notes.append(f"{unlisted:,} networks are in no split of {where}: their split is null")
    if num_listed > num_found:
        notes.append(f"{where} lists {num_listed - num_found:,} networks that aren't here")
    return tuple(notes)


def wanted_steps(steps: Sequence[int | None], wanted: Sequence[int]) -> np.ndarray:
    """Which networks are of the wanted training steps: all of them where none is named.

    Raises UsageError for a step that no network has, naming those there are.
    """
    if not wanted:
        return np.ones(len(steps), bool)
    known = sorted({step for step in steps if step is not None})
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        shown = ", ".join(map(str, known[:40])) + (", ..." if len(known) > 40 else "")
        raise UsageError(f"no network is of training step {unknown[0]}", hint=f"there are {shown or 'no steps'}")
    return np.isin(np.array([-1 if step is None else step for step in steps], np.int64), list(wanted))
