"""What the numbers and words of a record may be. Each check raises a ValueError that names the field. Stdlib only."""

import math
from collections.abc import Collection
from typing import Any

from zootool.records import shown

MAX_SIZE = (1 << 31) - 1
"""Of one axis, and of nodes: torch's own counts of channels and features are no larger."""

MAX_ELEMENTS = 1 << 53
"""Of one array. Doubles, and with them JSON's readers, count no further."""

MAX_STEP = 1024
"""Of strides, paddings and dilations. More of one would make a small image an impossibly large feature map."""

MAX_WINDOW = 1 << 14
"""Of a kernel's or a pooling's side."""

MAX_LAYERS = 10_000
MAX_FACTOR = 1e6
"""Of what multiplies or shifts what a network computes, so that it stays a number."""

MAX_TEXT = 1000
"""Of a name, in characters."""


def check_whole(name: str, value: Any, low: int = 1, high: int = MAX_SIZE) -> None:
    """Raise ValueError unless `value` is an integer from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {shown(value)}")


def checked_number(name: str, value: Any, low: float = -MAX_FACTOR, high: float = MAX_FACTOR) -> float:
    """`value` as a float. Raises ValueError unless it is a finite number from `low` to `high`."""
    # Compared before it is converted: integers may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must be a finite number from {low:g} to {high:g}, got {shown(value)}")
    return float(value)


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of some words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")


def check_text(name: str, value: Any, limit: int = MAX_TEXT) -> None:
    """Raise ValueError unless `value` is text of at most `limit` characters."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {shown(value)}")
    if len(value) > limit:
        raise ValueError(f"{name} has {len(value)} characters, at most {limit} are possible")


def check_all(name: str, values: Any, kind: type, limit: int) -> None:
    """Raise ValueError unless `values` is a tuple of at most `limit` of one kind."""
    if not isinstance(values, tuple) or not all(isinstance(value, kind) for value in values):
        raise ValueError(f"{name} must be a tuple of {kind.__name__}")
    if len(values) > limit:
        raise ValueError(f"{len(values)} {name} are too many, at most {limit} are possible")


def check_plain(name: str, value: Any, depth: int = 64, limit: int = 1 << 20) -> None:
    """Raise ValueError unless `value` is plain JSON of bounded depth, size and numbers.

    `limit` counts values, and every 64 characters of text as one. Integers fit into 128 bits, numbers are finite.
    """
    level, left = [value], limit
    while level:
        left -= len(level) + sum(len(item) // 64 for item in level if isinstance(item, str))
        if left < 0:
            raise ValueError(f"{name} is too large: it has more than {limit} values")
        if depth < 0:
            raise ValueError(f"{name} is nested too deeply")
        depth -= 1
        level = [inner for item in level for inner in _inner(name, item)]


def _inner(name: str, value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        for key in value:
            check_text(f"a key of {name}", key)
        return value.values()
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} holds {value}, which JSON can't")
    if isinstance(value, int) and value.bit_length() > 128:
        raise ValueError(f"{name} holds {shown(value)}")
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"{name} holds {shown(value)}, which JSON can't")
    return ()
