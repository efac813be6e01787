"""Numpy scalars and arrays inside a pickle: what it says about them, made into numbers without numpy's own help."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zootool.errors import FormatError, UntrustedError, printable

_NUMERIC = frozenset({"b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"})
_MAX_DIMS = 32
_CORES = ("numpy.core.multiarray", "numpy._core.multiarray")


@dataclass(slots=True, eq=False, repr=False)
class DtypeRecord:
    """What a pickle says about a number type: its name, and in `state` its byte order."""

    name: Any
    state: Any = field(default=None)


@dataclass(slots=True, eq=False, repr=False)
class ArrayRecord:
    """What a pickle says about an array; `state` is version, shape, dtype, order and bytes."""

    state: Any = field(default=None)


def to_array(record: ArrayRecord) -> np.ndarray:
    """The array of a record, read-only. Raises UntrustedError for objects and FormatError for sizes that don't fit."""
    if type(record.state) is not tuple or len(record.state) != 5:
        raise FormatError("holds an incomplete numpy array")
    _, shape, kind, is_fortran, content = record.state
    dtype = _dtype(kind)
    are_sizes = type(shape) is tuple and len(shape) <= _MAX_DIMS and all(type(n) is int and n >= 0 for n in shape)
    if type(content) is not bytes or not are_sizes:
        raise FormatError(f"holds a numpy array of the shape {printable(shape, 60)}")
    if math.prod(max(n, 1) for n in shape) > 1 << 48 or math.prod(shape) * dtype.itemsize != len(content):
        raise FormatError(f"holds a numpy array of {printable(shape, 60)} {dtype} with {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran is True else "C")


def _scalar(kind: Any, content: Any) -> int | float | bool:
    dtype = _dtype(kind)
    if type(content) is not bytes or len(content) != dtype.itemsize:
        raise FormatError(f"holds a numpy {dtype} that isn't of {dtype.itemsize} bytes")
    return np.frombuffer(content, dtype)[0].item()


def _dtype(kind: Any) -> np.dtype[Any]:
    if type(kind) is not DtypeRecord or kind.name not in _NUMERIC:
        raise UntrustedError("holds a numpy array that isn't of plain numbers", hint="don't use this file")
    order = kind.state[1] if type(kind.state) is tuple and len(kind.state) > 1 else "|"
    if order not in ("<", "|"):
        raise FormatError(f"holds a numpy array of the byte order {printable(order, 20)!r}")
    return np.dtype(kind.name).newbyteorder("<")


def _new_array(*_: Any) -> ArrayRecord:
    return ArrayRecord()


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> ArrayRecord:
    """How protocol 5 writes arrays."""
    return ArrayRecord((1, shape, kind, order == "F", content))


def _new_dtype(name: Any, *_: Any) -> DtypeRecord:
    return DtypeRecord(name if type(name) is str else None)


def _latin1(text: Any, encoding: Any = None) -> bytes:
    """How protocol 2 writes bytes."""
    if type(text) is not str or encoding != "latin1":
        raise UntrustedError(f"asks for _codecs.encode with {printable(encoding, 40)!r}", hint="don't use this file")
    return text.encode("latin1")


NUMPY_CALLS = {
    ("numpy", "dtype"): _new_dtype,
    ("_codecs", "encode"): _latin1,
    **{(core, "_reconstruct"): _new_array for core in _CORES},
    **{(core, "scalar"): _scalar for core in _CORES},
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}
"""What the calls in a pickled array or scalar stand for."""

NUMPY_NAMES = {*NUMPY_CALLS, ("numpy", "ndarray")}
