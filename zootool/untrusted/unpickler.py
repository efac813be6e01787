"""Python's unpickler, held to plain values: names become inert stand-ins; nothing is looked up, made or called.

`pickle.Unpickler`, which is in C, can be told what a name means, but not to count its opcodes, to refuse keys that
share a hash or come twice, nor to make no room for what is only announced. Its twin in Python does the same by a table
of opcodes, `dispatch`: what builds plain values is taken from there, what could do more is replaced below, and opcodes
that no checkpoint of protocol 2 to 5 has, are refused.
"""

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

from zootool.errors import FormatError, UntrustedError, printable
from zootool.untrusted.lazy_tensor import LoadLimits

_MAX_LONG_BYTES = 64
_MAX_NAME_CHARS = 200
# Beyond these, integers that share a hash are easily found, and a dictionary of them takes quadratic time.
_MAX_KEY = 1 << 53
# What an item of a list, a set or a dict takes, and an empty set.
_ITEM_BYTES = 64
_SET_BYTES = 216


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

    def content_as(self, kind: type) -> Any:
        """The content, an empty `kind` at first. Raises TypeError where it is another."""
        if self.content is None:
            self.content = kind()
        if type(self.content) is not kind:
            raise TypeError
        return self.content

    def extend(self, items: list[Any]) -> None:
        """Take in items of a subclass of list."""
        self.content_as(list).extend(items)

    def append(self, item: Any) -> None:
        """Take in one more of them."""
        self.extend([item])


class _Operations(dict[int, Callable[[Any], None]]):
    """What each opcode does; those that aren't there are refused."""

    def __missing__(self, opcode: int) -> NoReturn:
        if opcode in _RUNNING_OPCODES:
            raise UntrustedError(
                f"holds a pickle with the opcode {_RUNNING_OPCODES[opcode]}, which makes objects of any class",
                hint="don't use this file",
            )
        raise FormatError(f"holds a pickle with the opcode 0x{opcode:02x}, which checkpoints don't have")


class _Stop(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class SafeUnpickler(pickle._Unpickler):
    """One pickle that begins at byte `position` of `content`; after `load`, `position` is the byte behind it.

    Subclasses say what names stand for: `find_class` refuses those that have no place in such a file. Methods named
    `load_` and an opcode are what that does.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = _Operations()
    unreadable: ClassVar[str] = "holds no readable pickle"
    memo: dict[int, Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, content: bytes, limits: LoadLimits, position: int = 0, encoding: str = "utf-8") -> None:
        self._file = io.BytesIO(content)
        self._file.seek(position)
        super().__init__(self._file, encoding=encoding)
        self.limits = limits
        self._num_bytes = len(content)
        self._bytes_left = limits.max_made_bytes

    @property
    def position(self) -> int:
        """The byte that is read next."""
        return self._file.tell()

    def load(self) -> Any:
        """The value. Raises UntrustedError for a forbidden name or opcode and FormatError for a broken pickle."""
        self.stack, self.metastack = [], []
        # Read as it lies: frames, which `pickle` would read at once, say nothing that isn't there.
        self.append, self.read = self.stack.append, self._file.read
        dispatch, read = self.dispatch, self.read
        try:
            for _ in range(self.limits.max_opcodes):
                dispatch[read(1)[0]](self)
        except _Stop as stop:
            return stop.value
        # What a damaged pickle does to an empty stack, a missing memo or a cut-off argument.
        except (
            EOFError, IndexError, KeyError, ValueError, TypeError, OverflowError, AttributeError, struct.error,
            pickle.UnpicklingError,
        ) as error:  # fmt: skip
            reason = printable(f"{type(error).__name__} at byte {self.position}")
            raise FormatError(f"{self.unreadable} ({reason})", hint="get the file again") from error
        raise FormatError(
            f"holds a pickle of more than {self.limits.max_opcodes} opcodes in {self._num_bytes} bytes",
            hint="save the state_dict alone",
        )

    def find_class(self, module: str, name: str) -> Name:
        """The stand-in of a name."""
        if len(module) + len(name) > _MAX_NAME_CHARS:
            raise ValueError
        return Name(module, name)

    def call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """The value that a call stands for, which is never one of the function named."""
        raise NotImplementedError

    def make(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """What stands for an object of a class, of which no object is made."""
        return self.call(name, arguments)

    def set_state(self, target: Any, state: Any) -> None:
        """Take in what a pickle says about an object beyond its arguments."""
        raise NotImplementedError

    def _charge(self, num_bytes: int) -> None:
        """Count what is made beyond the pickle's own bytes: a call can copy its arguments over and over."""
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            raise FormatError(
                f"holds a pickle that makes more than {self.limits.max_made_bytes} bytes of objects "
                f"out of {self._num_bytes}",
                hint="save the state_dict alone",
            )

    # No attribute of `load`, as in `pickle`: one that held a method would keep all that was made until a collection.
    def readline(self) -> bytes:
        """A line that has an end."""
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def _number(self, form: struct.Struct) -> int:
        return form.unpack(self.read(form.size))[0]

    def load_proto(self) -> None:
        protocol = self._number(_U8)
        if not 2 <= protocol <= 5:
            raise FormatError(f"holds a pickle of protocol {protocol}, 2 to 5 are known")

    def load_frame(self) -> None:
        if self._number(_U64) > self._num_bytes - self.position:
            raise IndexError

    def load_stop(self) -> None:
        if len(self.stack) > 1 or self.metastack:
            raise FormatError("holds a pickle that leaves objects behind")
        raise _Stop(self.stack.pop())

    def _push_long(self, size: int) -> None:
        if size > _MAX_LONG_BYTES:
            raise FormatError(f"holds an integer of {size} bytes")
        self.append(int.from_bytes(self.read(size), "little", signed=True))

    def _push_text(self, size: int) -> None:
        self.append(self.read(size).decode("utf-8"))

    def load_stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise UntrustedError("holds a pickle that asks for a name which is no text")
        self.append(self.find_class(module, name))

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        if type(keywords) is not dict or keywords:
            raise UntrustedError("holds a pickle that makes an object by keywords")
        self._apply(self.make)

    def _apply(self, act: Callable[[Name, tuple[Any, ...]], Any]) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Name:
            raise UntrustedError(f"holds a pickle that calls a {type(function).__name__}, which is no listed name")
        if type(arguments) is not tuple:
            raise TypeError
        self._charge(_ITEM_BYTES * len(arguments) + sum(map(_num_bytes, arguments)))
        self.append(act(function, arguments))

    def _put_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            if type(target) is not Stub:
                raise TypeError
            target = target.content_as(dict)
        add_items(target, items)

    def load_empty_set(self) -> None:
        self._charge(_SET_BYTES)
        self.append(set())

    def load_additems(self) -> None:
        items, target = self.pop_mark(), self.stack[-1]
        if type(target) is not set:
            raise TypeError
        target.update(map(check_key, items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self._charge(_SET_BYTES + _ITEM_BYTES * len(items))
        self.append(frozenset(map(check_key, items)))


def operations(
    inherited: str, replaced: dict[str, Callable[[Any], None]], others: dict[int, Callable[[Any], None]] | None = None
) -> _Operations:
    """A table of opcodes, by their names in `pickle`: as Python's own unpickler serves them, as given, and `others`."""
    own = pickle._Unpickler.dispatch
    codes = {name: getattr(pickle, name)[0] for name in (*inherited.split(), *replaced)}
    return _Operations((others or {}) | {code: replaced.get(name) or own[code] for name, code in codes.items()})


_U8, _U32, _U64 = (struct.Struct(form) for form in ("<B", "<I", "<Q"))

_RUNNING_OPCODES = {getattr(pickle, name)[0]: name for name in ("INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID")}

SafeUnpickler.dispatch = operations(
    "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT MARK POP POP_MARK DUP "
    "BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE GLOBAL BINPERSID",
    {
        **{name[5:].upper(): method for name, method in vars(SafeUnpickler).items() if name.startswith("load_")},
        "LONG1": lambda u: u._push_long(u._number(_U8)),
        "LONG4": lambda u: u._push_long(u._number(_U32)),
        "SHORT_BINUNICODE": lambda u: u._push_text(u._number(_U8)),
        "BINUNICODE": lambda u: u._push_text(u._number(_U32)),
        "BINUNICODE8": lambda u: u._push_text(u._number(_U64)),
        # Bytes will do, and take no room before they are there.
        "BYTEARRAY8": pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
        "DICT": lambda u: u.append(add_items({}, u.pop_mark())),
        "SETITEM": lambda u: u._put_items([u.stack.pop(-2), u.stack.pop()]),
        "SETITEMS": lambda u: u._put_items(u.pop_mark()),
        "REDUCE": lambda u: u._apply(u.call),
        "NEWOBJ": lambda u: u._apply(u.make),
        "BUILD": lambda u: u.set_state(u.stack[-2], u.stack.pop()),
    },
)


def check_key(key: Any) -> Any:
    """A dictionary's key or a set's item: text, bytes, small integers and such, or a stub, which is equal to itself
    alone. Raises FormatError for anything else.
    """
    kind = type(key)
    if kind in (str, bytes, bool, type(None), Stub) or (kind is int and abs(key) < _MAX_KEY):
        return key
    if kind is tuple and len(key) <= 4 and all(type(item) in (str, int, bool) for item in key):
        return tuple(map(check_key, key))
    raise FormatError(f"holds a pickle with a {kind.__name__} as a key")


def add_items(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """Put keys and values, which take turns, into `target`, and return it.

    Raises FormatError for a key that isn't plain or is given twice.
    """
    before = len(target)
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[key if type(key) is str else check_key(key)] = value
    if len(target) != before + len(items) // 2:
        raise FormatError("holds a pickle that gives a key twice")
    return target


def _num_bytes(value: Any) -> int:
    """About what a copy of a value takes, without what is in it."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    return _ITEM_BYTES * len(value) if kind in (tuple, list, dict, set, frozenset) else 0
