"""The errors that zootool raises on purpose.

    ZooError
    |- UsageError (also a ValueError)   a wrong argument or a command that cannot be meant     exit 2
    |- BadDataError                     the data is broken, inconsistent or not what it claims  exit 3
    |  |- FormatError                   a file or folder is not in the format it should be in
    |  |- IntegrityError                a digest, checksum, size or count does not match
    |  `- UntrustedError                a file asks for something that is never allowed
    |- MissingError                     an image set, zoo or optional package is not there      exit 4
    `- NumericalError                   a computation left the finite numbers                   exit 3

Anything else that escapes is a bug of ours (exit 1). Only `cli` catches these and turns them into exit codes.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


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
        return (_rebuild, (type(self), self.message, self.hint))


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
    """An image set, a zoo, a file or an optional package is not there."""

    exit_code = 4


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A sentence that offers the choices nearest to `name`, or lists all of them when none is near."""
    choices = sorted(choices)
    near = get_close_matches(name, choices, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(choice) for choice in near) + "?"
    return "choose from " + ", ".join(choices)


def printable(text: object, limit: int = 200) -> str:
    """`text` with control characters escaped and its length bounded, safe to show on a terminal.

    Names and labels come from files that nobody has checked; an escape sequence in one could rewrite the screen.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _rebuild(kind: type[ZooError], message: str, hint: str | None) -> ZooError:
    return kind(message, hint=hint)
