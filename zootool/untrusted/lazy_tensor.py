"""A tensor that has been found in a checkpoint and checked, but not read; and the limits that all checks share."""

import re
import zlib
from dataclasses import dataclass, field
from math import prod

import numpy as np

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, IntegrityError, printable
from zootool.untrusted.byte_source import ByteSource

_MAX_COUNT = 1 << 48
_MAX_PATH_CHARS = 1_000


@dataclass(frozen=True)
class LoadLimits:
    """Bounds on one checkpoint; the defaults leave room for every published zoo and keep a hostile file cheap.

    Tensors are bounded by the file itself: none is larger than the bytes of its storage there, and all of them
    together, tied ones counted each time, hold at most `max_expansion` times the file's bytes.
    """

    max_file_bytes: int = 64 << 30
    max_pickle_bytes: int = 8 << 20
    max_header_bytes: int = 4 << 20
    """Of a safetensors file."""
    max_opcodes: int = 1_000_000
    max_made_bytes: int = 64 << 20
    """Of what the calls in a pickle make, beyond the pickle's own bytes."""
    max_objects: int = 250_000
    max_depth: int = 64
    max_tensors: int = 50_000
    max_dims: int = 16
    max_name_chars: int = 256
    max_records: int = 100_000
    max_expansion: int = 4


@dataclass(slots=True, eq=False)
class Storage:
    """A run of bytes in a file that one or more tensors view; `crc` is its CRC-32, where the file states one."""

    key: str
    source: ByteSource
    start: int
    num_bytes: int
    crc: int | None = None
    _is_checked: bool = field(default=False, init=False)

    def read(self, start: int, size: int) -> memoryview:
        """`size` bytes from byte `start` of this storage on. The first read checks all of it: IntegrityError."""
        if self._is_checked or self.crc is None:
            return self.source.read(self.start + start, size)
        content = self.source.read(self.start, self.num_bytes)
        if zlib.crc32(content) != self.crc:
            raise IntegrityError(
                f"{self.source.shown}: the bytes of storage {printable(self.key, 40)} don't match their CRC",
                hint="the copy is damaged: get the file again",
            )
        self._is_checked = True
        return content[start : start + size]


@dataclass(slots=True, eq=False)
class LazyTensor:
    """A dense tensor in a file. Strides and offset count elements of the storage, as torch's do.

    What it describes has been checked against the bytes that the file has.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: Storage

    def read(self) -> np.ndarray:
        """The values: read-only, C-contiguous, aligned, little-endian, in a dtype of `NUMPY_DTYPES`.

        It may view the memory that the file was read into. Raises IntegrityError for bytes that were damaged.
        """
        dtype = NUMPY_DTYPES[self.dtype]
        span = _extent(self.shape, self.strides)
        content = self.storage.read(self.offset * dtype.itemsize, span * dtype.itemsize)
        strides = tuple(stride * dtype.itemsize for stride in self.strides)
        array = np.ndarray(self.shape, dtype, content if span else None, 0, strides if span else None)
        if not (array.flags.c_contiguous and array.flags.aligned):
            array = array.copy(order="C")
        array.flags.writeable = False
        return array


_LACKING = {name: np.dtype(f"<u{size}") for name, size in DTYPE_BYTES.items() if name.startswith(("bfloat", "float8"))}
NUMPY_DTYPES = {name: _LACKING.get(name) or np.dtype(name).newbyteorder("<") for name in DTYPE_BYTES}
"""The numpy dtype that holds the bytes of each dtype of a checkpoint: unsigned integers where numpy lacks it."""


def check_layout(
    dtype: str, shape: object, strides: object, offset: object, storage_bytes: int, limits: LoadLimits
) -> None:
    """Raise FormatError unless the tensor lies in its storage and is no larger than that."""
    if not _are_counts(shape, limits) or not _are_counts(strides, limits) or not _are_counts((offset,), limits):
        raise FormatError(f"has the shape {printable(shape, 60)}, strides {printable(strides, 60)} or offset")
    assert isinstance(shape, tuple)
    assert isinstance(strides, tuple)
    assert isinstance(offset, int)
    if len(shape) != len(strides):
        raise FormatError(f"has {len(shape)} axes and {len(strides)} strides")
    # Numpy and torch multiply the sizes even where one of them is 0.
    if prod(max(size, 1) for size in shape) > _MAX_COUNT:
        raise FormatError(f"has the shape {printable(shape, 60)}, which no file can hold")
    itemsize = DTYPE_BYTES[dtype]
    end = (offset + _extent(shape, strides)) * itemsize
    if end > storage_bytes:
        raise FormatError(f"ends at byte {end} of a storage of {storage_bytes} bytes")
    if prod(shape) * itemsize > storage_bytes:
        raise FormatError(f"has {prod(shape) * itemsize} bytes in a storage of {storage_bytes} bytes: it repeats them")


def check_tensor_name(name: str, limits: LoadLimits) -> None:
    """Raise FormatError for a name that can't be shown, is too long, or would lead out of a folder."""
    problem = name_problem(name, limits.max_name_chars)
    if problem:
        raise FormatError(f"names a tensor {printable(name, 80)!r}, which {problem}")


def name_problem(name: str, max_chars: int) -> str | None:
    """What speaks against showing a name, or using it as a path below a folder."""
    if len(name) > max_chars:
        return f"has more than {max_chars} characters"
    if not name.isprintable():
        return "has control characters"
    if name.startswith(("/", "\\")) or (":" in name and re.match(r"[A-Za-z]:[/\\]", name)):
        return "is an absolute path"
    if ".." in name and ".." in re.split(r"[/\\]", name):
        return "leads out of its folder"
    return None


def join_path(path: str, key: object) -> str:
    """The path of what stands under a key, such as `model/fc.weight`; longer than any tensor's name it is cut."""
    shown = (key if type(key) is str else printable(key, _MAX_PATH_CHARS))[:_MAX_PATH_CHARS]
    return f"{path[:_MAX_PATH_CHARS]}/{shown}" if path else shown


def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """How many elements of its storage a tensor reaches over, from its first to its last; 0 where it has none."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def _are_counts(values: object, limits: LoadLimits) -> bool:
    if not isinstance(values, tuple):
        return False
    if len(values) > limits.max_dims:
        raise FormatError(f"has {len(values)} axes, at most {limits.max_dims} are read")
    return all(type(value) is int and 0 <= value < _MAX_COUNT for value in values)
