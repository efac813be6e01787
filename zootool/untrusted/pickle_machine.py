"""A pickle's opcodes, followed by a machine of our own that can build plain values and nothing else.

Python's unpickler looks names up in live modules and calls what it finds. This one has no such step: a name becomes
an inert `Name`, and what a call, an instance or a state means is asked of `Names`, which knows a few by heart.
Opcodes that no checkpoint of protocol 2 to 5 has, are refused.
"""

import struct
from collections.abc import Callable
from typing import Any, NoReturn

from zootool.errors import FormatError, UntrustedError, printable
from zootool.untrusted.limits import LoadLimits
from zootool.untrusted.pickle_names import Name, Names, add_items, check_key

_MAX_LONG_BYTES = 64
_MAX_NAME_CHARS = 200
# What an item of a list, a set or a dict takes, and an empty set.
_ITEM_BYTES = 64
_SET_BYTES = 216


class PickleMachine:
    """One pickle that begins at byte `position` of `content`; after `run`, `position` is the byte behind it."""

    def __init__(self, content: bytes, names: Names, limits: LoadLimits, position: int = 0) -> None:
        self.position = position
        self._content = content
        self._names = names
        self._limits = limits
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._bytes_left = limits.max_made_bytes
        self._value: Any = None
        self._is_done = False

    def run(self) -> Any:
        """The value. Raises UntrustedError for a forbidden name or opcode and FormatError for a broken pickle."""
        try:
            for _ in range(self._limits.max_opcodes):
                opcode = self._content[self.position]
                self.position += 1
                operation = _OPERATIONS.get(opcode)
                if operation is None:
                    _refuse_opcode(opcode)
                operation(self)
                if self._is_done:
                    return self._value
        # What a damaged pickle does to an empty stack, a missing memo or a cut-off argument.
        except (IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error, AttributeError) as error:
            reason = printable(f"{type(error).__name__} at byte {self.position}")
            raise FormatError(f"holds no readable pickle ({reason})", hint="get the file again") from error
        raise FormatError(
            f"holds a pickle of more than {self._limits.max_opcodes} opcodes in {len(self._content)} bytes",
            hint="save the state_dict alone",
        )

    def _charge(self, num_bytes: int) -> None:
        """Count what is made beyond the pickle's own bytes: a call can copy its arguments over and over."""
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            raise FormatError(
                f"holds a pickle that makes more than {self._limits.max_made_bytes} bytes of objects "
                f"out of {len(self._content)}",
                hint="save the state_dict alone",
            )

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._content):
            raise IndexError
        taken = self._content[self.position : end]
        self.position = end
        return taken

    def _number(self, form: struct.Struct) -> Any:
        number = form.unpack_from(self._content, self.position)[0]
        self.position += form.size
        return number

    def _push_number(self, form: struct.Struct) -> None:
        self._stack.append(self._number(form))

    def _push_long(self, size: int) -> None:
        if size > _MAX_LONG_BYTES:
            raise FormatError(f"holds an integer of {size} bytes")
        self._stack.append(int.from_bytes(self._take(size), "little", signed=True))

    def _push_text(self, size: int) -> None:
        self._stack.append(self._take(size).decode("utf-8"))

    def _push_bytes(self, size: int) -> None:
        self._stack.append(self._take(size))

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _stop(self) -> None:
        self._value = self._stack.pop()
        if self._stack or self._marks:
            raise FormatError("holds a pickle that leaves objects behind")
        self._is_done = True

    def _memoize(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _tuple(self, size: int) -> None:
        items = tuple(self._stack[-size:])
        if len(items) != size:
            raise IndexError
        self._stack[-size:] = [items]

    def _list_of(self, items: list[Any]) -> None:
        target = self._stack[-1]
        (target if type(target) is list else self._names.content_of(target, list)).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if len(items) % 2:
            raise TypeError
        found = target if type(target) is dict else self._names.content_of(target, dict)
        add_items(found, items[::2], items[1::2])

    def _add(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not set:
            raise TypeError
        target.update(check_key(item) for item in items)

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._push_name(module, name)

    def _line(self) -> str:
        end = self._content.index(b"\n", self.position, self.position + _MAX_NAME_CHARS)
        line = self._content[self.position : end].decode("utf-8")
        self.position = end + 1
        return line

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str or len(module) + len(name) > _MAX_NAME_CHARS:
            raise UntrustedError("holds a pickle that asks for a name which is no text")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        named = Name(module, name)
        self._names.check(named)
        self._stack.append(named)

    def _call(self) -> None:
        self._apply(self._names.call)

    def _make(self) -> None:
        self._apply(self._names.make)

    def _make_with_keywords(self) -> None:
        keywords = self._stack.pop()
        if type(keywords) is not dict or keywords:
            raise UntrustedError("holds a pickle that makes an object by keywords")
        self._make()

    def _apply(self, act: Callable[[Name, tuple[Any, ...]], Any]) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if type(function) is not Name:
            raise UntrustedError(f"holds a pickle that calls a {type(function).__name__}, which is no listed name")
        if type(arguments) is not tuple:
            raise TypeError
        self._charge(_ITEM_BYTES * len(arguments))
        self._charge(sum(map(_num_bytes, arguments)))
        self._stack.append(act(function, arguments))

    def _push_set(self) -> None:
        self._charge(_SET_BYTES)
        self._stack.append(set())

    def _push_frozenset(self) -> None:
        items = self._pop_mark()
        self._charge(_SET_BYTES + _ITEM_BYTES * len(items))
        self._stack.append(frozenset(check_key(item) for item in items))

    def _build(self) -> None:
        state = self._stack.pop()
        self._names.set_state(self._stack[-1], state)

    def _persistent(self) -> None:
        self._stack.append(self._names.persistent(self._stack.pop()))


def _refuse_opcode(opcode: int) -> NoReturn:
    if opcode in _RUNNING_OPCODES:
        raise UntrustedError(
            f"holds a pickle with the opcode {_RUNNING_OPCODES[opcode]}, which makes objects of any class",
            hint="don't use this file",
        )
    raise FormatError(f"holds a pickle with the opcode 0x{opcode:02x}, which checkpoints don't have")


def _wrong_frame(machine: PickleMachine) -> None:
    if machine._number(_U64) > len(machine._content) - machine.position:
        raise IndexError


_U8, _U16, _U32, _U64 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q"))
_I32, _F64 = struct.Struct("<i"), struct.Struct(">d")

_RUNNING_OPCODES = {
    ord("i"): "INST", ord("o"): "OBJ", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", ord("P"): "PERSID",
}  # fmt: skip

_OPERATIONS: dict[int, Callable[[PickleMachine], None]] = {
    0x80: lambda m: _check_protocol(m._number(_U8)),
    0x95: _wrong_frame,
    ord("."): PickleMachine._stop,
    ord("("): PickleMachine._mark,
    ord("0"): PickleMachine._pop,
    ord("1"): lambda m: m._pop_mark().clear(),
    ord("2"): lambda m: m._stack.append(m._stack[-1]),
    ord("N"): lambda m: m._stack.append(None),
    0x88: lambda m: m._stack.append(True),
    0x89: lambda m: m._stack.append(False),
    ord("K"): lambda m: m._push_number(_U8),
    ord("M"): lambda m: m._push_number(_U16),
    ord("J"): lambda m: m._push_number(_I32),
    ord("G"): lambda m: m._push_number(_F64),
    0x8A: lambda m: m._push_long(m._number(_U8)),
    0x8B: lambda m: m._push_long(m._number(_U32)),
    0x8C: lambda m: m._push_text(m._number(_U8)),
    ord("X"): lambda m: m._push_text(m._number(_U32)),
    0x8D: lambda m: m._push_text(m._number(_U64)),
    # Python 2's strings.
    ord("U"): lambda m: m._push_text(m._number(_U8)),
    ord("T"): lambda m: m._push_text(m._number(_U32)),
    ord("C"): lambda m: m._push_bytes(m._number(_U8)),
    ord("B"): lambda m: m._push_bytes(m._number(_U32)),
    0x8E: lambda m: m._push_bytes(m._number(_U64)),
    0x96: lambda m: m._push_bytes(m._number(_U64)),
    ord(")"): lambda m: m._stack.append(()),
    0x85: lambda m: m._tuple(1),
    0x86: lambda m: m._tuple(2),
    0x87: lambda m: m._tuple(3),
    ord("t"): lambda m: _push_items(m, tuple),
    ord("]"): lambda m: m._stack.append([]),
    ord("l"): lambda m: _push_items(m, list),
    ord("a"): lambda m: m._list_of([m._stack.pop()]),
    ord("e"): lambda m: m._list_of(m._pop_mark()),
    ord("}"): lambda m: m._stack.append({}),
    ord("d"): lambda m: _push_items(m, _dict_of),
    ord("s"): lambda m: m._set_items([m._stack.pop(-2), m._stack.pop()]),
    ord("u"): lambda m: m._set_items(m._pop_mark()),
    0x8F: PickleMachine._push_set,
    0x90: lambda m: m._add(m._pop_mark()),
    0x91: PickleMachine._push_frozenset,
    ord("h"): lambda m: m._stack.append(m._memo[m._number(_U8)]),
    ord("j"): lambda m: m._stack.append(m._memo[m._number(_U32)]),
    ord("q"): lambda m: m._memoize(m._number(_U8)),
    ord("r"): lambda m: m._memoize(m._number(_U32)),
    0x94: lambda m: m._memoize(len(m._memo)),
    ord("c"): PickleMachine._global,
    0x93: PickleMachine._stack_global,
    ord("R"): PickleMachine._call,
    0x81: PickleMachine._make,
    0x92: PickleMachine._make_with_keywords,
    ord("b"): PickleMachine._build,
    ord("Q"): PickleMachine._persistent,
}


def _check_protocol(protocol: int) -> None:
    if not 2 <= protocol <= 5:
        raise FormatError(f"holds a pickle of protocol {protocol}, 2 to 5 are known")


def _push_items(machine: PickleMachine, make: Callable[[list[Any]], Any]) -> None:
    items = machine._pop_mark()
    machine._stack.append(make(items))


def _dict_of(items: list[Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    add_items(made, items[::2], items[1::2])
    return made


def _num_bytes(value: Any) -> int:
    """About what a copy of a value takes, without what is in it."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    return _ITEM_BYTES * len(value) if kind in (tuple, list, dict, set, frozenset) else 0
