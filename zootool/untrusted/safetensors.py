"""The header of a safetensors file, read with suspicion: every tensor in bounds, none over another, no hole.

The library of that name takes the last of two equal names, maps files by path alone (not members of archives, nor
what is in memory, of which it makes copies) and names no tensor that it refuses.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, printable
from zootool.untrusted.byte_source import ByteSource
from zootool.untrusted.lazy_tensor import LazyTensor, LoadLimits, Storage, check_layout, check_tensor_name

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip

METADATA_KEY = "__metadata__"
ORDER_KEY = "zoo.keys"
"""The metadata in which `zoo export` writes the names in the state_dict's order: safetensors sorts them."""

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a file: its bytes are `start` to `stop` behind the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_safetensors_lazily(source: ByteSource, limits: LoadLimits) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """Every tensor of a file by its name, and the file's metadata. Raises FormatError.

    The order is that of `ORDER_KEY` where it lists exactly these names, else the header's.
    """
    entries, data_start, metadata = read_header(source, limits.max_header_bytes)
    if len(entries) > limits.max_tensors:
        raise FormatError(f"holds {len(entries)} tensors, at most {limits.max_tensors} are read")
    tensors = {}
    for name in _ordered(entries, metadata):
        entry = entries[name]
        check_tensor_name(name, limits)
        strides = tuple(prod(max(size, 1) for size in entry.shape[axis + 1 :]) for axis in range(len(entry.shape)))
        check_layout(entry.dtype, entry.shape, strides, 0, entry.stop - entry.start, limits)
        storage = Storage(name, source, data_start + entry.start, entry.stop - entry.start)
        tensors[name] = LazyTensor(name, entry.dtype, entry.shape, strides, 0, storage)
    return tensors, metadata


def _ordered(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> list[str]:
    try:
        keys = json.loads(metadata.get(ORDER_KEY, "null"))
    except (ValueError, RecursionError):
        keys = None
    is_order = isinstance(keys, list) and len(keys) == len(entries) and all(type(key) is str for key in keys)
    return keys if is_order and set(keys) == set(entries) else list(entries)


def read_header(source: ByteSource, max_header_bytes: int) -> tuple[dict[str, Entry], int, dict[str, str]]:
    """The entries by name, the byte where the data begin, and the metadata's texts. Raises FormatError.

    The entries' bytes fit their dtypes and shapes, and follow each other to the end of the file.
    """
    if source.size < _LENGTH.size:
        raise FormatError("is too short for a safetensors file")
    length = _LENGTH.unpack(source.read(0, _LENGTH.size))[0]
    if length > min(source.size - _LENGTH.size, max_header_bytes):
        raise FormatError(f"claims a header of {length} bytes, but has {source.size}")
    data_start = _LENGTH.size + length
    header = _parse_header(bytes(source.read(_LENGTH.size, length)))
    metadata = header.pop(METADATA_KEY, None)
    entries = {
        name: _parse_entry(entry, printable(name, 80), source.size - data_start) for name, entry in header.items()
    }
    end = 0
    for start, stop in sorted((entry.start, entry.stop) for entry in entries.values()):
        if start != end:
            raise FormatError(f"holds tensors that overlap or leave holes at byte {min(start, end)}")
        end = stop
    if data_start + end != source.size:
        raise FormatError(f"has {source.size - data_start - end} bytes that belong to no tensor")
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return entries, data_start, {key: text for key, text in texts if isinstance(text, str)}


def _parse_header(content: bytes) -> dict[str, Any]:
    try:
        header = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
        if isinstance(header, dict):
            return header
        problem = None
    except (ValueError, RecursionError) as error:
        problem = error
    raise FormatError("has no readable safetensors header", hint="get the file again") from problem


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise FormatError("names a tensor twice in its header", hint="don't use this file")
    return made


def _parse_entry(entry: Any, shown: str, num_bytes: int) -> Entry:
    told = entry.get("dtype") if isinstance(entry, dict) else "none"
    dtype = DTYPES.get(told) if isinstance(told, str) else None
    if dtype is None:
        raise FormatError(f"holds {shown} of the dtype {printable(told, 20)}, known are {', '.join(DTYPES)}")
    shape, offsets = _counts(entry.get("shape"), shown), _counts(entry.get("data_offsets"), shown)
    if len(offsets) != 2:
        raise FormatError(f"holds {shown} with {len(offsets)} offsets, two are wanted")
    start, stop = offsets
    if not start <= stop <= num_bytes or stop - start != prod(shape) * DTYPE_BYTES[dtype]:
        raise FormatError(f"holds {shown}: bytes {start} to {stop} don't hold {dtype} {printable(shape, 80)}")
    return Entry(dtype, shape, start, stop)


def _counts(value: Any, shown: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > 64 or not all(type(n) is int and 0 <= n < 1 << 62 for n in value):
        raise FormatError(f"holds {shown} without a shape or without offsets")
    return tuple(value)
