"""Numpy's arrays from elsewhere: in .npy files, mapped once their header is checked, and inside pickles.

No code of numpy's is reached from a pickle: the few names that a pickled array mentions stand for records, and the
arrays are built from those afterwards.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.lib import format as npy

from zootool.errors import FormatError, MissingError, UntrustedError, printable
from zootool.untrusted.byte_source import errors_name
from zootool.untrusted.lazy_tensor import LoadLimits
from zootool.untrusted.unpickler import Name, SafeUnpickler, operations

_MAX_HEADER_BYTES = 10_000
_MAX_COUNT = 1 << 48
_KINDS = "biuf"
_NUMERIC = frozenset({"b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"})
_MAX_DIMS = 32
_MAX_COPIES = 2
_CORES = ("numpy.core.multiarray", "numpy._core.multiarray")


def open_npy(path: Path) -> np.ndarray:
    """The array in a .npy file, read-only and memory-mapped: plain numbers, little-endian or single bytes.

    Raises UntrustedError for Python objects in it, FormatError for a header that is broken or doesn't fit the file:
    `numpy.load` maps a file that has more bytes, and says nothing of the byte order.
    """
    shown = printable(path)
    try:
        with path.open("rb") as file:
            head = file.read(_MAX_HEADER_BYTES + 12)
            num_bytes = file.seek(0, 2)
    except OSError as error:
        raise MissingError(f"{shown} can't be read: {printable(error.strerror)}", hint="check the path") from error
    stream = io.BytesIO(head)
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise FormatError(f"{shown} is a .npy file of version {version}, 1.0 and 2.0 are read")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(stream, max_header_size=_MAX_HEADER_BYTES)
    # Numpy's parser and the one of Python below it raise nearly anything for a damaged header.
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError, KeyError) as error:
        raise FormatError(f"{shown} is no readable .npy file: {printable(error)}", hint="get it again") from error
    if dtype.hasobject:
        raise UntrustedError(f"{shown} holds Python objects", hint="don't use this file")
    if dtype.kind not in _KINDS or dtype.names is not None or dtype.byteorder == ">":
        raise FormatError(f"{shown} holds {printable(dtype, 60)}, wanted are plain little-endian numbers")
    if not _are_sizes(shape):
        raise FormatError(f"{shown} has the shape {printable(shape, 80)}")
    num_bytes -= stream.tell()
    if math.prod(shape) * dtype.itemsize != num_bytes:
        raise FormatError(
            f"{shown} has {num_bytes} bytes of values, its header says {printable(shape, 80)} {dtype}",
            hint="get the file again",
        )
    if 0 in shape:
        empty = np.empty(shape, dtype)
        empty.flags.writeable = False
        return empty
    return np.memmap(path, dtype, "r", stream.tell(), shape, "F" if is_fortran else "C")


def _are_sizes(shape: Any) -> bool:
    is_shape = type(shape) is tuple and len(shape) <= _MAX_DIMS and all(type(n) is int and n >= 0 for n in shape)
    # Numpy multiplies the sizes even where one of them is 0.
    return is_shape and math.prod(max(size, 1) for size in shape) <= _MAX_COUNT


@dataclass(slots=True, eq=False, repr=False)
class DtypeRecord:
    """What a pickle says about a number type: its name, and in `state` its byte order."""

    name: Any
    state: Any = field(default=None)


@dataclass(slots=True, eq=False, repr=False)
class ArrayRecord:
    """What a pickle says about an array; `state` is version, shape, dtype, order and bytes."""

    state: Any = field(default=None)


def to_array(record: ArrayRecord, byte_orders: str = "<|") -> np.ndarray:
    """The array of a record, read-only. Raises UntrustedError for objects and FormatError for sizes that don't fit."""
    if type(record.state) is not tuple or len(record.state) != 5:
        raise FormatError("holds an incomplete numpy array")
    _, shape, kind, is_fortran, content = record.state
    dtype = _dtype(kind, byte_orders)
    if type(content) is not bytes or not _are_sizes(shape):
        raise FormatError(f"holds a numpy array of the shape {printable(shape, 60)}")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise FormatError(f"holds a numpy array of {printable(shape, 60)} {dtype} with {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran in (True, 1) else "C")


def _dtype(kind: Any, byte_orders: str = "<|") -> np.dtype[Any]:
    if type(kind) is not DtypeRecord or kind.name not in _NUMERIC:
        raise UntrustedError("holds a numpy array that isn't of plain numbers", hint="don't use this file")
    order = _text(kind.state[1]) if type(kind.state) is tuple and len(kind.state) > 1 else "|"
    if type(order) is not str or len(order) != 1 or order not in byte_orders:
        raise FormatError(f"holds a numpy array of the byte order {printable(order, 20)!r}")
    return np.dtype(kind.name).newbyteorder(">" if order == ">" else "<")


def _text(value: Any) -> Any:
    """Python 2's names are bytes."""
    return value.decode("ascii", "replace") if type(value) is bytes else value


def _scalar(kind: Any, content: Any) -> int | float | bool:
    dtype = _dtype(kind)
    if type(content) is not bytes or len(content) != dtype.itemsize:
        raise FormatError(f"holds a numpy {dtype} that isn't of {dtype.itemsize} bytes")
    return np.frombuffer(content, dtype)[0].item()


def _latin1(text: Any, encoding: Any = None) -> bytes:
    """How protocol 2 writes bytes."""
    if type(text) is not str or encoding != "latin1":
        raise UntrustedError(f"asks for _codecs.encode with {printable(encoding, 40)!r}", hint="don't use this file")
    return text.encode("latin1")


_ARRAY_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): lambda name, *_: DtypeRecord(_text(name) if type(name) in (str, bytes) else None),
    ("_codecs", "encode"): _latin1,
    **{(core, "_reconstruct"): lambda *_: ArrayRecord() for core in _CORES},
}
NUMPY_CALLS = {
    **_ARRAY_CALLS,
    **{(core, "scalar"): _scalar for core in _CORES},
    # How protocol 5 writes arrays.
    **{
        (module, "_frombuffer"): lambda content, kind, shape, order: ArrayRecord(
            (1, shape, kind, order == "F", content)
        )
        for module in ("numpy.core.numeric", "numpy._core.numeric")
    },
}
"""What the calls in a pickled array or scalar stand for."""

NUMPY_NAMES = {*NUMPY_CALLS, ("numpy", "ndarray")}


def load_plain_pickle(content: bytes, shown: str) -> Any:
    """The value of a pickle of dicts, lists, tuples, numbers, bytes, text and numeric arrays, of any protocol.

    Python 2's strings become bytes. `shown` names the file in errors. Raises UntrustedError for any other class or
    function, before anything is done with it, and FormatError for a broken pickle.
    """
    with errors_name(shown):
        value = _ArrayUnpickler(content).load()
        if isinstance(value, dict):
            return {key: _with_array(item) for key, item in value.items()}
        return _with_array(value)


def _with_array(value: Any) -> Any:
    return to_array(value, "<|>") if type(value) is ArrayRecord else value


class _ArrayUnpickler(SafeUnpickler):
    unreadable = "is not a readable pickle"

    def __init__(self, content: bytes) -> None:
        # An image set has a value per image: its own bytes bound how many there are.
        limits = replace(LoadLimits(), max_opcodes=len(content) + 1, max_made_bytes=1 << 40)
        super().__init__(content, limits, encoding="bytes")
        self._chars_left = _MAX_COPIES * len(content)

    def find_class(self, module: str, name: str) -> Name:
        if (module, name) not in _ARRAY_CALLS and (module, name) != ("numpy", "ndarray"):
            self._refuse(f"{module}.{name}")
        return super().find_class(module, name)

    def call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        made = _ARRAY_CALLS[name.module, name.name](*arguments)
        # No text is longer than the file, but one may be asked for over and over.
        self._chars_left -= len(made) if type(made) is bytes else 0
        if self._chars_left < 0:
            raise FormatError(f"makes more than {_MAX_COPIES} times its own bytes")
        return made

    def set_state(self, target: Any, state: Any) -> None:
        if type(target) not in (ArrayRecord, DtypeRecord):
            raise TypeError
        target.state = state

    def persistent_load(self, pid: Any) -> Any:
        self._refuse("a persistent object")

    def _put(self, place: int) -> None:
        if not 0 <= place <= self._num_bytes:
            raise FormatError(f"numbers an object {place}")
        self.memo[place] = self.stack[-1]

    def _refuse(self, what: str) -> NoReturn:
        raise UntrustedError(
            f"asks for {printable(what, 80)!r}, which a file of images never needs",
            hint="don't use this file: get it from its publisher",
        )


_ArrayUnpickler.dispatch = operations(
    # What protocols 0 and 1 have beyond the later ones; INST and PERSID end in a refusal that names what they ask for.
    "INT LONG FLOAT STRING UNICODE GET INST PERSID",
    {
        "PUT": lambda u: u._put(int(u.readline()[:-1])),
        "LONG_BINPUT": lambda u: u._put(int.from_bytes(u.read(4), "little")),
    },
    SafeUnpickler.dispatch,
)
