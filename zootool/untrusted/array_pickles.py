"""Reading somebody else's pickle without running anything: plain values and numeric arrays, nothing else.

No code of numpy's is reached from the pickle either: the few names that a pickled array mentions are bound to inert
records, and the arrays are built from those afterwards.
"""

import io
import math
import pickle
import pickletools
from typing import Any, ClassVar

import numpy as np

from zootool.errors import BadDataError, FormatError, UntrustedError, printable

_NUMERIC = frozenset({"u1", "i1", "i2", "i4", "i8", "f4", "f8"})
_MAX_DIMS = 32
_MAX_COPIES = 2
_BYTE_ORDERS = frozenset("|<>")


def load_plain_pickle(content: bytes, shown: str) -> Any:
    """The value of a pickle of dicts, lists, tuples, numbers, bytes, text and numeric arrays.

    Python 2's strings become bytes. `shown` names the file in errors. Raises UntrustedError for any other class or
    function, before it is looked up, and FormatError for a broken pickle.
    """
    try:
        _check_memo(content)
        value = _PlainUnpickler(content).load()
        return _with_arrays(value, shown)
    except _ForbiddenName as error:
        raise UntrustedError(
            f"{shown} asks for {printable(error, 80)!r}, which a file of images never needs",
            hint="don't use this file: get it from its publisher",
        ) from error
    except BadDataError:
        raise
    # A damaged pickle makes the unpickler raise nearly anything; whatever it is, the file is what's wrong.
    except Exception as error:
        raise FormatError(f"{shown} is not a readable pickle: {printable(error)}", hint="get the file again") from error


def _check_memo(content: bytes) -> None:
    """Refuse a memo index beyond the file's length: the unpickler makes room for every index up to it."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and argument is not None and argument > len(content):
            raise ValueError(f"it numbers an object {argument}")


class _ForbiddenName(Exception):
    """A pickle named something that isn't on the list."""


class _ArrayRecord:
    """What a pickle says about an array: shape, type, order and bytes."""

    state: tuple[Any, ...] = ()

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _DtypeRecord:
    """What a pickle says about an array's number type; only the name and the byte order matter."""

    name = ""
    byte_order = "|"

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = _text(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = _text(state[1])


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value if isinstance(value, str) else ""


class _PlainUnpickler(pickle.Unpickler):
    _stand_ins: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _ArrayRecord,
        ("numpy._core.multiarray", "_reconstruct"): _ArrayRecord,
        ("numpy", "ndarray"): _ArrayRecord,
        ("numpy", "dtype"): _DtypeRecord,
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        # No text is longer than the file, but one may be asked for over and over.
        self._chars_left = _MAX_COPIES * len(content)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._latin1
        if (module, name) not in self._stand_ins:
            raise _ForbiddenName(f"{module}.{name}")
        return self._stand_ins[module, name]

    def _latin1(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise _ForbiddenName(f"_codecs.encode with {printable(encoding, 40)}")
        self._chars_left -= len(text)
        if self._chars_left < 0:
            raise ValueError(f"it makes more than {_MAX_COPIES} times its own bytes")
        return text.encode("latin1")

    def persistent_load(self, pid: Any) -> Any:
        raise _ForbiddenName("a persistent object")


def _with_arrays(value: Any, shown: str) -> Any:
    """`value` with its array records made into arrays: in the value itself, a dict's values or a list's items."""
    if isinstance(value, _ArrayRecord):
        return _to_array(value, shown)
    if isinstance(value, dict):
        return {key: _to_array(v, shown) if isinstance(v, _ArrayRecord) else v for key, v in value.items()}
    return value


def _to_array(record: _ArrayRecord, shown: str) -> np.ndarray:
    if len(record.state) != 5:
        raise FormatError(f"{shown} holds an incomplete array")
    _, shape, kind, is_fortran, content = record.state
    if not isinstance(kind, _DtypeRecord) or kind.name not in _NUMERIC or not isinstance(content, bytes):
        raise UntrustedError(f"{shown} holds an array that isn't of plain numbers", hint="don't use this file")
    if kind.byte_order not in _BYTE_ORDERS:
        raise FormatError(f"{shown} holds an array of the byte order {printable(kind.byte_order, 20)!r}")
    dtype = np.dtype(kind.byte_order + kind.name)
    if type(shape) is not tuple or len(shape) > _MAX_DIMS or any(type(n) is not int or n < 0 for n in shape):
        raise FormatError(f"{shown} holds an array of the shape {printable(shape, 60)}")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise FormatError(f"{shown} holds an array of {printable(shape, 60)} {dtype} with {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
