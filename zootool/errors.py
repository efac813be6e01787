"""The errors that zootool raises on purpose.

    ZooError
    |- UsageError (also a ValueError)   a wrong argument or a command that cannot be meant     exit 2
    |- BadDataError                     the data is broken, inconsistent or not what it claims  exit 3
    |  |- FormatError                   a file or folder is not in the format it should be in
    |  |- IntegrityError                a digest, checksum, size or count does not match
    |  `- UntrustedError                a file asks for something that is never allowed
    |- MissingError                     an image set, zoo, package, room or right is not there  exit 4
    `- NumericalError                   a computation left the finite numbers                   exit 3

Anything else that escapes is a bug of ours (exit 1). Only `cli` catches these and turns them into exit codes.
"""

import errno
import operator
import os
from collections.abc import Iterable
from difflib import get_close_matches
from functools import partial
from typing import Any, ClassVar, SupportsIndex

_MAX_CHOICES = 60

_NO_ROOM = "make room there, or choose another place"
_NO_RIGHT = "choose a place that is yours to use, or see to its rights"
_NO_NAME = "check the path"
_STEPS = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or choose another place",
    errno.EROFS: _NO_RIGHT,
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.ENOENT: _NO_NAME,
    errno.ELOOP: _NO_NAME,
    errno.ENOTDIR: "a part of the path is a file: choose another path",
    errno.EISDIR: "it is a folder: give a file",
    errno.EEXIST: "choose another name, or remove it first",
    errno.ENOTEMPTY: "choose another name, or remove it first",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n 4096), or use fewer --workers",
    errno.ENFILE: "end other programs, or use fewer --workers",
    errno.ENOMEM: "free memory, or use fewer --workers",
    errno.EIO: "check the disk and its connection",
    errno.ENXIO: "give a regular file or a folder",
    errno.ENODEV: "give a regular file or a folder",
    errno.EBUSY: "see who uses it",
    errno.ETXTBSY: "see who uses it",
    errno.ESTALE: "see whether the network disk is there, and run the command again",
    errno.EINVAL: "choose another name or another disk",
    errno.ENOLCK: "choose a disk with locks",
    errno.ENOTSUP: "choose another disk",
    errno.EXDEV: "choose a place on the same disk",
}


class ZooError(Exception):
    """An error with a name, a reason and the next thing to do.

    `message` names the thing, what it got and what it wanted; `hint` is the next command to type or the next step
    to take, and is shown behind it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}: {hint}")
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries by pickle, which would call __init__ with the joined text and no hint.
        return (partial(type(self), hint=self.hint), (self.message,))


class UsageError(ZooError, ValueError):
    """A wrong argument, or a combination that cannot be meant."""

    exit_code = 2


class BadDataError(ZooError):
    """The data is broken, inconsistent or not what it claims to be."""

    exit_code = 3


class FormatError(BadDataError):
    """A file or folder is not in the format that it should be in."""


class IntegrityError(BadDataError):
    """A digest, checksum, size or count does not match what was recorded."""


class UntrustedError(BadDataError):
    """A file asks for something that is never allowed, such as running code."""


class NumericalError(BadDataError):
    """A computation left the finite numbers."""


class MissingError(ZooError):
    """An image set, a zoo, a file, an optional package, or room or the right to write is not there."""

    exit_code = 4


def refusal_of(error: OSError, doing: str | None = None) -> MissingError | None:
    """What the operating system refused, with the path and the next step; None where the error says something else.

    `doing`, such as "publish to /x", begins the message.
    """
    step = _STEPS.get(error.errno or 0)
    if step is None:
        return None
    place = printable(os.fsdecode(error.filename), 1000) if isinstance(error.filename, str | bytes) else None
    what = f"can't {printable(doing, 1000)}" if doing else f"can't use {place}" if place else "the system refuses"
    where = f" ({place})" if doing and place and place not in doing else ""
    return MissingError(f"{what}: {os.strerror(error.errno or 0)}{where}", hint=step)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A sentence that offers the choices nearest to `name`, or lists all of them when none is near."""
    choices = sorted(choices)
    by_case = [choice for choice in choices if choice.casefold() == name.casefold()]
    near = by_case or get_close_matches(name, choices, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(choice) for choice in near) + "?"
    more = f" and {len(choices) - _MAX_CHOICES:,} more" if len(choices) > _MAX_CHOICES else ""
    return "choose from " + ", ".join(choices[:_MAX_CHOICES]) + more


def checked_flag(name: str, value: object) -> bool:
    """`value`, where it is true or false. Raises UsageError: any text, "no" too, would count as true."""
    if isinstance(value, bool) or type(value).__name__ == "bool":  # numpy's own among them
        return bool(value)
    raise UsageError(f"{name} is true or false, got {quoted(value, 60)}")


def checked_count(name: str, value: object, least: int = 0) -> int:
    """`value`, where it is a whole number from `least` on. Raises UsageError."""
    if isinstance(value, SupportsIndex) and not isinstance(value, bool) and (count := operator.index(value)) >= least:
        return count
    raise UsageError(f"{name} must be at least {least}, a whole number, got {quoted(value, 60)}")


def printable(value: object, limit: int = 200) -> str:
    """`value` with control characters escaped and its length bounded, safe to show on a terminal.

    Names and labels come from files that nobody has checked: an escape sequence in one could rewrite the screen, and
    a small file can hold what is endless once it is written out. Hence no more is written out than is shown.
    """
    text = value if isinstance(value, str) else _Spelling(limit).spell(value)
    head = text[: limit + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in head)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def quoted(value: object, limit: int = 60) -> str:
    """As `printable`, with quotes around text."""
    return printable(_Spelling(limit).inside(value, 0), limit)


class _Spelling:
    """Writes a value out, up to a budget of characters and a depth, as `str` would."""

    _MAX_DEPTH = 8
    _BRACKETS: ClassVar[dict[type, tuple[str, str]]] = {
        tuple: ("(", ")"), list: ("[", "]"), set: ("{", "}"), frozenset: ("{", "}"), dict: ("{", "}"),
    }  # fmt: skip

    def __init__(self, limit: int) -> None:
        self._left = limit + 1

    def spell(self, value: object) -> str:
        if isinstance(value, BaseException) and len(value.args) == 1:
            # A KeyError, for one, writes out whatever it was given.
            return self.inside(value.args[0], 0) if type(value.args[0]) in self._BRACKETS else self._whole(value)
        return self.inside(value, 0) if type(value) in (*self._BRACKETS, int, bytes, bytearray) else self._whole(value)

    def inside(self, value: Any, depth: int) -> str:
        kind = type(value)
        if kind in self._BRACKETS:
            text = self._group(value, depth)
        elif kind is str or kind is bytes or kind is bytearray:
            text = repr(value[: max(self._left, 0)])
        elif kind is int and value.bit_length() > 256:
            # Python refuses to write out more than some thousand digits.
            text = f"an integer of {value.bit_length()} bits"
        else:
            return self._whole(value)
        if kind not in self._BRACKETS:
            self._left -= len(text)
        return text

    def _group(self, value: Any, depth: int) -> str:
        first, last = self._BRACKETS[type(value)]
        parts: list[str] = []
        for item in value:
            self._left -= 2
            if self._left <= 0 or depth == self._MAX_DEPTH:
                parts.append("...")
                break
            part = self.inside(item, depth + 1)
            parts.append(f"{part}: {self.inside(value[item], depth + 1)}" if type(value) is dict else part)
        return first + ", ".join(parts) + ("," if len(parts) == 1 and first == "(" else "") + last

    def _whole(self, value: object) -> str:
        try:
            text = str(value)
        # Whatever holds too much to be written out has a class with a name.
        except (RecursionError, MemoryError, ValueError, UnicodeError):
            text = f"a {type(value).__name__}"
        self._left -= len(text)
        return text
