"""Images: a set of equally large images in memory, with labels, splits and their places in the full set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int64, UInt8

from zootool.catalog import SPLITS, SplitName
from zootool.files import canonical_json

FOLDER_PREFIX = "folder:"  # what the name of a folder of one's own images starts with


@dataclass(frozen=True, eq=False)
class Images:
    """N images of one shape.

    pixels: (N, height, width, channels), 0..255.
    labels: (N,), an index into `class_names`.
    source_index: (N,), the image's place in the full set, training images first, then test images.
    split: (N,) of "train", "validation", "test" or "" (in no split).
    is_partial: whether the set was read from a prefix of what is published.
    source_terms: the licence or terms of the images, as datasets.yaml states them.

    Raises ValueError where the arrays don't fit together.
    """

    name: str
    pixels: UInt8[np.ndarray, "images height width channels"]
    labels: Int64[np.ndarray, " images"]
    source_index: Int64[np.ndarray, " images"]
    split: np.ndarray
    class_names: tuple[str, ...]
    is_partial: bool
    source_terms: str

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 (N, H, W, C), got {self.pixels.dtype} {self.pixels.shape}")
        for field in ("labels", "source_index"):
            column = getattr(self, field)
            if column.dtype != np.int64 or column.shape != (len(self),):
                raise ValueError(f"{field} must be int64 ({len(self)},), got {column.dtype} {column.shape}")
        if self.split.dtype.kind != "U" or self.split.shape != (len(self),):
            raise ValueError(f"split must be strings ({len(self)},), got {self.split.dtype} {self.split.shape}")
        if unknown := set(np.unique(self.split).tolist()) - {*SPLITS, ""}:
            raise ValueError(f"split holds {sorted(unknown)}, it may hold {SPLITS} and ''")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        height, width, channels = self.pixels.shape[1:]
        return height, width, channels

    @cached_property
    def digest(self) -> str:
        """SHA-256, in lowercase hex, over the shape (as JSON) and the pixels."""
        digest = hashlib.sha256(canonical_json(self.pixels.shape))
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()

    def take(self, rows: np.ndarray) -> "Images":
        """The images at `rows` (positions or a boolean mask), in that order."""
        return replace(
            self,
            pixels=self.pixels[rows],
            labels=self.labels[rows],
            source_index=self.source_index[rows],
            split=self.split[rows],
        )

    def select(self, split: SplitName | None = None, limit: int | Sequence[int] | None = None) -> "Images":
        """The images of one split, or of all, in their order.

        `limit` is the largest number of images, or three numbers: the first so many of train, of validation and of
        test, which leaves out the images that are in no split. Raises ValueError for another limit.
        """
        chosen = np.ones(len(self), bool) if split is None else self.split == split
        if limit is None:
            return self.take(chosen)
        if isinstance(limit, int):
            return self.take(chosen & _first(chosen, _checked(limit)))
        if len(limit) != len(SPLITS):
            raise ValueError(f"limit must be one number or one each for {', '.join(SPLITS)}, got {tuple(limit)}")
        kept = np.zeros(len(self), bool)
        for name, count in zip(SPLITS, limit, strict=True):
            kept |= _first(self.split == name, _checked(count))
        return self.take(chosen & kept)


def _first(mask: np.ndarray, count: int) -> np.ndarray:
    return mask & (np.cumsum(mask) <= count)


def _checked(count: int) -> int:
    if count < 0:
        raise ValueError(f"limit must not be negative, got {count}")
    return count
