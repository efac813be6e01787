"""A run's folder belongs to one set of settings: the first run writes them down, every later one has to agree."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dng.training.distributed import ALONE, Ranks
from zootool.errors import UsageError, printable
from zootool.files import refuse_inside, write_json_atomic
from zootool.records import parse_json


def claim(
    path: Path, wanted: dict[str, Any], ranks: Ranks = ALONE, update: Callable[[Any], Any] = lambda found: found
) -> None:
    """Write `wanted` (JSON values) to `path`, or compare it with what is there.

    `update` makes of an older file's contents what would be written now. Of several ranks the first writes and all
    compare. Raises UsageError naming the first key that differs, FormatError where the file isn't JSON.
    """
    wanted = json.loads(json.dumps(wanted))
    if ranks.is_first and not path.exists():
        refuse_inside(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, wanted)
    ranks.wait()
    found = update(read_json(path))
    for key, value in _leaves(wanted):
        there = _at(found, key)
        if there != value:
            raise UsageError(
                f"{path.parent} holds a run with {'.'.join(key)}={printable(there, 60)}, "
                f"this one has {'.'.join(key)}={printable(value, 60)}",
                hint="choose another folder, or remove that one",
            )


def read_json(path: Path) -> Any:
    """The JSON value in a file of a run. Raises FormatError."""
    return parse_json(path.read_bytes(), str(path))


def _leaves(value: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _leaves(item, (*prefix, key))
        else:
            yield (*prefix, key), item


def _at(value: Any, key: tuple[str, ...]) -> Any:
    for part in key:
        # What a run of an older version didn't know yet counts as None, the default of every later option.
        value = value.get(part) if isinstance(value, dict) else None
    return value
