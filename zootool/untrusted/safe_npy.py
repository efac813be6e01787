"""Numpy's .npy files, memory-mapped once their header has been checked against the file."""

import io
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from zootool.errors import FormatError, MissingError, UntrustedError, printable

_MAX_HEADER_BYTES = 10_000
_KINDS = "biuf"


def open_npy(path: Path) -> np.ndarray:
    """The array in a file, read-only and memory-mapped: plain numbers, little-endian or single bytes.

    Raises UntrustedError for Python objects in it, FormatError for a header that is broken or doesn't fit the file.
    """
    shown = printable(path)
    try:
        with path.open("rb") as file:
            head = file.read(_MAX_HEADER_BYTES + 12)
            num_bytes = file.seek(0, 2)
    except OSError as error:
        raise MissingError(f"{shown} can't be read: {printable(error.strerror)}", hint="check the path") from error
    shape, is_fortran, dtype, start = _read_header(head, shown)
    if dtype.hasobject:
        raise UntrustedError(f"{shown} holds Python objects", hint="don't use this file")
    if dtype.kind not in _KINDS or dtype.names is not None or dtype.byteorder == ">":
        raise FormatError(f"{shown} holds {printable(dtype, 60)}, wanted are plain little-endian numbers")
    _check_shape(shape, dtype, num_bytes - start, shown)
    if 0 in shape:
        empty = np.empty(shape, dtype)
        empty.flags.writeable = False
        return empty
    return np.memmap(path, dtype, "r", start, shape, "F" if is_fortran else "C")


def _read_header(head: bytes, shown: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether it is in Fortran's order, dtype, and where the values begin."""
    stream = io.BytesIO(head)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        if version not in ((1, 0), (2, 0)):
            raise FormatError(f"{shown} is a .npy file of version {version}, 1.0 and 2.0 are read")
        shape, is_fortran, dtype = read(stream, max_header_size=_MAX_HEADER_BYTES)
    # Numpy's parser and the one of Python below it raise nearly anything for a damaged header.
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError, KeyError) as error:
        raise FormatError(f"{shown} is no readable .npy file: {printable(error)}", hint="get it again") from error
    return shape, is_fortran, dtype, stream.tell()


def _check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], num_bytes: int, shown: str) -> None:
    if any(type(size) is not int or not 0 <= size < 1 << 48 for size in shape) or len(shape) > 16:
        raise FormatError(f"{shown} has the shape {printable(shape, 80)}")
    if prod(max(size, 1) for size in shape) > 1 << 48 or prod(shape) * dtype.itemsize != num_bytes:
        raise FormatError(
            f"{shown} has {num_bytes} bytes of values, its header says {printable(shape, 80)} {dtype}",
            hint="get the file again",
        )
