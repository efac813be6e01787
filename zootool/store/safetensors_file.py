"""Reading a safetensors file without copying it: named views of mapped memory, every bound checked first."""

import json
import mmap
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from zootool.architecture import DTYPE_BYTES
from zootool.errors import FormatError, printable
from zootool.store.dtypes import raw_dtype

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip

_MAX_HEADER_BYTES = 100 << 20


def read_safetensors(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Every tensor of a file by its name, as (checkpoint dtype, read-only array). Raises FormatError.

    bfloat16, which numpy lacks, comes as the uint16 of its bytes.
    """
    with path.open("rb") as source:
        if path.stat().st_size < 8:
            raise FormatError(f"{path} is too short for a safetensors file")
        content = np.frombuffer(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
    header_bytes = int(content[:8].view("<u8")[0])
    if header_bytes > min(len(content) - 8, _MAX_HEADER_BYTES):
        raise FormatError(f"{path} claims a header of {header_bytes} bytes, but has {len(content)}")
    data = content[8 + header_bytes :]
    tensors, spans = {}, []
    for name, entry in _header(content[8 : 8 + header_bytes].tobytes(), path).items():
        dtype, shape, (start, stop) = _parse_entry(entry, f"{path}[{printable(name, 80)}]")
        if not 0 <= start <= stop <= len(data) or stop - start != prod(shape) * DTYPE_BYTES[dtype]:
            raise FormatError(f"{path}[{printable(name, 80)}]: bytes {start} to {stop} don't hold {dtype} {shape}")
        spans.append((start, stop))
        tensors[name] = dtype, data[start:stop].view(raw_dtype(dtype)).reshape(shape)
    _check_spans(spans, len(data), path)
    return tensors


def _header(content: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} has no readable safetensors header") from error
    if not isinstance(header, dict):
        raise FormatError(f"{path} has no readable safetensors header")
    header.pop("__metadata__", None)
    return header


def _parse_entry(entry: Any, where: str) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    if not isinstance(entry, dict) or entry.get("dtype") not in DTYPES:
        raise FormatError(f"{where} has no dtype that zootool knows")
    start, stop = _counts(entry.get("data_offsets"), where, 2)
    return DTYPES[entry["dtype"]], _counts(entry.get("shape"), where), (start, stop)


def _counts(value: Any, where: str, length: int | None = None) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
        raise FormatError(f"{where} has no shape or no offsets")
    if length is not None and len(value) != length:
        raise FormatError(f"{where} has {len(value)} offsets, two are wanted")
    return tuple(value)


def _check_spans(spans: list[tuple[int, int]], size: int, path: Path) -> None:
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise FormatError(f"{path}: tensors overlap or leave holes at byte {min(start, end)}")
        end = stop
    if end != size:
        raise FormatError(f"{path}: {size - end} bytes belong to no tensor")
