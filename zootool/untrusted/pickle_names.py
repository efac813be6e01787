"""What a pickle may name, and what it may use as a key."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from zootool.errors import FormatError, printable

# Beyond these, integers that share a hash are easily found, and a dictionary of them takes quadratic time.
_MAX_KEY = 1 << 53


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names. Nothing was looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}", 120)


@dataclass(slots=True, eq=False, repr=False)
class Stub:
    """An object among the settings, which is not made: its class's name, and what the pickle says about it.

    The class itself, where a file stores that rather than an object, has None for its arguments. `content` is that
    of a subclass of dict or list.
    """

    class_name: str
    arguments: tuple[Any, ...] | None
    state: Any = field(default=None)
    content: dict[Any, Any] | list[Any] | None = field(default=None)

    def __repr__(self) -> str:
        return f"<{self.class_name}>"


class Names(Protocol):
    """What the names in a pickle stand for."""

    def check(self, name: Name) -> None:
        """Raise UntrustedError or FormatError for a name that has no place in such a file."""
        ...

    def call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """The value of a call, which is never one of the function named."""
        ...

    def make(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """What stands for an object of a class, of which no object is made."""
        ...

    def content_of(self, target: Any, kind: type) -> Any:
        """The dict or list in which a subclass of that keeps its items. Raises TypeError for anything else."""
        ...

    def set_state(self, target: Any, state: Any) -> None:
        """Take in what a pickle says about an object beyond its arguments."""
        ...

    def persistent(self, identity: Any) -> Any:
        """The object that lies outside of the pickle."""
        ...


def check_key(key: Any) -> Any:
    """A dictionary's key or a set's item: text, bytes, small integers and such, or a stub, which is equal to itself
    alone. Raises FormatError for anything else.
    """
    kind = type(key)
    if (
        kind is str
        or kind is bytes
        or kind is bool
        or key is None
        or kind is Stub
        or (kind is int and abs(key) < _MAX_KEY)
    ):
        return key
    if kind is tuple and len(key) <= 4 and all(type(item) in (str, int, bool) for item in key):
        for item in key:
            check_key(item)
        return key
    raise FormatError(f"holds a pickle with a {kind.__name__} as a key")


def add_items(target: dict[Any, Any], keys: list[Any], values: list[Any]) -> None:
    """Put entries into `target`. Raises FormatError for a key that isn't plain or is given twice."""
    before = len(target)
    for key, value in zip(keys, values, strict=True):
        target[key if type(key) is str else check_key(key)] = value
    if len(target) != before + len(keys):
        raise FormatError("holds a pickle that gives a key twice")
