"""Reading a safetensors file without copying it: named views of mapped memory, every bound checked first."""

import mmap
from pathlib import Path

import numpy as np

from zootool.errors import FormatError
from zootool.store.dtypes import raw_dtype
from zootool.untrusted.byte_source import MemorySource
from zootool.untrusted.safetensors import read_header

_MAX_HEADER_BYTES = 100 << 20


def read_safetensors(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Every tensor of a file by its name, as (checkpoint dtype, read-only array). Raises FormatError.

    bfloat16, which numpy lacks, comes as the uint16 of its bytes.
    """
    with path.open("rb") as source:
        if path.stat().st_size < 8:
            raise FormatError(f"{path} is too short for a safetensors file")
        content = np.frombuffer(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
    try:
        entries, data_start, _ = read_header(MemorySource(content.data, str(path)), _MAX_HEADER_BYTES)
    except FormatError as error:
        raise FormatError(f"{path} {error.message}", hint=error.hint) from error
    data = content[data_start:]
    return {
        name: (entry.dtype, data[entry.start : entry.stop].view(raw_dtype(entry.dtype)).reshape(entry.shape))
        for name, entry in entries.items()
    }
