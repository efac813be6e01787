"""The IDX format of MNIST and its kin: a magic number, the axes, then unsigned bytes."""

import math
import struct

import numpy as np

from zootool.errors import FormatError
from zootool.images.images import Labels, Pixels, Reader

_UNSIGNED_BYTE = 0x08


def read_idx_pair(images: bytes, labels: bytes, shown: str) -> tuple[Pixels, Labels]:
    """Pixels and labels from the content of an image file and its label file. Raises FormatError."""
    pixels = _read_idx(images, 3, shown)
    classes = _read_idx(labels, 1, f"the labels of {shown}")
    if len(pixels) != len(classes):
        raise FormatError(
            f"{shown} has {len(pixels)} images, its label file {len(classes)} labels",
            hint="the two files must be of the same split: get both again",
        )
    return pixels[..., None], classes.astype(np.int64)


def _read_idx(content: bytes, num_axes: int, shown: str) -> np.ndarray:
    """The array of unsigned bytes in an IDX file of `num_axes` axes."""
    header_bytes = 4 + 4 * num_axes
    magic = bytes([0, 0, _UNSIGNED_BYTE, num_axes])
    if content[:4] != magic or len(content) < header_bytes:
        raise FormatError(
            f"{shown} starts with {content[:4].hex() or 'nothing'}, an IDX file of {num_axes} axes of bytes "
            f"starts with {magic.hex()}",
            hint="it is another file, or still packed under a wrong name",
        )
    shape = struct.unpack_from(f">{num_axes}I", content, 4)
    expected = header_bytes + math.prod(shape)
    if len(content) != expected:
        raise FormatError(
            f"{shown} has {len(content)} bytes, its header {shape} asks for {expected}",
            hint="the file is truncated or has something behind it: get it again",
        )
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


READERS: dict[str, Reader] = {"idx": lambda part: read_idx_pair(part.images, part.labels, part.shown)}
