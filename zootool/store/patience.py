"""Trying again what a network didn't do the first time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from zootool.errors import MissingError, ZooError, printable

Result = TypeVar("Result")

_NEVER_PASSES = (
    LookupError,
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Patience:
    """How often something is tried, and the seconds before the second time; each later wait is twice the one before."""

    attempts: int = 6
    backoff_seconds: float = 0.25


def patiently(call: Callable[[], Result], what: str, patience: Patience | None = None) -> Result:
    """What `call` returns, tried again while it fails in a way that may pass.

    Raises MissingError when patience is over, and at once what trying again doesn't help: a ZooError, a file that isn't
    there or may not be read, and mistakes of ours.
    """
    patience = patience or Patience()
    last: Exception | None = None
    for attempt in range(patience.attempts):
        try:
            return call()
        except (ZooError, TypeError, AttributeError, *_NEVER_PASSES):
            raise
        # Clients of object stores raise classes of their own, which have no other base in common.
        except Exception as error:
            last = error
            if attempt + 1 < patience.attempts:
                time.sleep(patience.backoff_seconds * 2**attempt)
    raise MissingError(
        f"{what} failed {patience.attempts} times ({type(last).__name__}: {printable(last, 160)})",
        hint="check the connection and run the same command again: it goes on from there",
    ) from last
