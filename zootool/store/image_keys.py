"""One number for the source image of a network, by which images lie in a store."""

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from zootool.errors import FormatError

SOURCE_INDEX = "source_index"
SOURCE = "source"

MAX_IMAGES = 1 << 40
"""Image i of source s has the key s * MAX_IMAGES + i."""

_MAX_SOURCES = 1 << 20


def image_keys(rows: pa.Table) -> Int64[np.ndarray, " networks"] | None:
    """The key of every row's source image, or None where a row has none. Orders by source, then by source index.

    Raises FormatError for numbers that can't be.
    """
    names = [name for name in (SOURCE_INDEX, SOURCE) if name in rows.column_names]
    if SOURCE_INDEX not in names or any(rows[name].null_count for name in names):
        return None
    if not all(pa.types.is_integer(rows[name].type) for name in names):
        return None
    source = rows[SOURCE].to_numpy() if SOURCE in names else np.zeros(len(rows), dtype=np.int64)
    index = rows[SOURCE_INDEX].to_numpy()
    if len(rows) and not (
        0 <= index.min() <= index.max() < MAX_IMAGES and 0 <= source.min() <= source.max() < _MAX_SOURCES
    ):
        raise FormatError("there are networks of images or image sets that can't be")
    return source.astype(np.int64) * MAX_IMAGES + index.astype(np.int64)
