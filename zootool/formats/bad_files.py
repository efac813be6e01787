"""Files and networks that can't be read: refused all at once, or left out where the user asked for that."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from zootool.architecture import DTYPE_BYTES
from zootool.errors import BadDataError, FormatError, MissingError, ZooError, printable
from zootool.formats.collection import Collection, LeftOut

READING_ERRORS = (BadDataError, MissingError)
"""What a file may be guilty of. Anything else is a fault of the command or of ours, and never skipped."""

MAX_LISTED = 20
_MAX_NAMED = 4
_CHECKED_NETWORKS = 1024
_CHECKED_BYTES = 64 << 20


def refuse_or_leave_out(
    bad: Mapping[str, ZooError], num_good: int, skip: bool, *, are_files: bool = True
) -> list[LeftOut]:
    """What is left out of a source, by the names of its bad files or networks and what is wrong with each.

    Raises an error that lists them all, unless they are to be skipped and something else is left.
    """
    if not bad:
        return []
    if skip and num_good:
        return [LeftOut(name, printable(error.message, 300)) for name, error in bad.items()]
    errors = list(bad.values())
    first = errors[0]
    if len(errors) == 1 and not num_good:
        raise first
    names = list(dict.fromkeys(name.rsplit("/", 1)[-1] for name in bad))
    exclude = " ".join(f"--exclude '{printable(name, 60)}'" for name in names) if len(names) <= _MAX_NAMED else ""
    hint = f"leave them out by {exclude or '--exclude PATTERN'} or --skip-bad"
    if not are_files:
        hint = "leave out what can't be read by --skip-bad"
    if len(errors) == 1:
        raise type(first)(first.message, hint=f"{first.hint}; or {hint}" if first.hint else hint)
    kind = type(first) if len({type(error) for error in errors}) == 1 else FormatError
    lines = [printable(error.message, 300) for error in errors[:MAX_LISTED]]
    more = f"\n  and {len(errors) - MAX_LISTED:,} more" if len(errors) > MAX_LISTED else ""
    counted = f"{len(errors):,} of {len(errors) + num_good:,} can't be read"
    raise kind(f"{counted}:\n  " + "\n  ".join(lines) + more, hint=hint if num_good else first.hint)


def without_bad(found: Collection) -> Collection:
    """The networks whose tensors can be read: every one is, once, which takes as long as converting does.

    Raises FormatError where none can.
    """
    bad = bad_networks(found, np.arange(len(found)))
    if not bad:
        return found
    ids = found.table["net_id"]
    left = refuse_or_leave_out({str(ids[row]): error for row, error in bad.items()}, len(found) - len(bad), skip=True)
    kept = found.take(np.setdiff1d(np.arange(len(found)), list(bad)))
    return replace(kept, left_out=(*found.left_out, *left))


def bad_networks(found: Collection, rows: np.ndarray) -> dict[int, ZooError]:
    """The rows whose networks can't be read, and why."""
    bad: dict[int, ZooError] = {}
    index = found.architecture_index[rows]
    for number in np.unique(index):
        own = rows[index == number]
        size = sum(prod(slot.shape) * DTYPE_BYTES[slot.dtype] for slot in found.architectures[number].slots)
        at_a_time = max(1, min(_CHECKED_NETWORKS, _CHECKED_BYTES // max(size, 1)))
        for start in range(0, len(own), at_a_time):
            _look(found, own[start : start + at_a_time], bad)
    return dict(sorted(bad.items()))


def _look(found: Collection, rows: np.ndarray, bad: dict[int, ZooError]) -> None:
    """Whole blocks first, halves of those that fail: a few bad networks cost little."""
    try:
        found.load(rows)
    except READING_ERRORS as error:
        if len(rows) == 1:
            bad[int(rows[0])] = error
            return
        for half in np.array_split(rows, 2):
            _look(found, half, bad)


def described(left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """`left_out` as zoo.json's provenance has it: the first of them, and how many there are."""
    first = [{"file": printable(left.file, 500), "reason": left.reason} for left in left_out[:MAX_LISTED]]
    return {"left_out": first, "num_left_out": len(left_out)} if first else {}
