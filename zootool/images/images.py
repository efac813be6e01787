"""Images: a set of equally large images in memory, with labels, splits and their places in the full set.

A format of image files is a module of this folder with `READERS`, the format's name -> how it is read; the name begins
with the module's: "svhn-mat" is read by `svhn`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from zootool.catalog import SPLITS, ImageSet, SplitName, Splits
from zootool.errors import UsageError, did_you_mean
from zootool.files import canonical_json

Pixels = UInt8[np.ndarray, "images height width channels"]
Labels = Int64[np.ndarray, " images"]

FOLDER_PREFIX = "folder:"  # what the name of a folder of one's own images starts with
_OWN_SPLITS = "default"
_PARTIAL_VALIDATION = 10  # a partial set gives the last tenth of its training images to validation


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
    pixels: Pixels
    labels: Labels
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
            limits = [(chosen, limit)]
        elif len(limit) == len(SPLITS):
            limits = [(self.split == name, count) for name, count in zip(SPLITS, limit, strict=True)]
        else:
            raise ValueError(f"limit must be one number or one each for {', '.join(SPLITS)}, got {tuple(limit)}")
        kept = np.zeros(len(self), bool)
        for mask, count in limits:
            if count < 0:
                raise ValueError(f"limit must not be negative, got {count}")
            kept |= mask & (np.cumsum(mask) <= count)
        return self.take(chosen & kept)


class PartContent(NamedTuple):
    """The bytes of one part of a published set, what errors call it, and how many images it may hold."""

    images: bytes
    labels: bytes
    shown: str
    max_images: int


Reader = Callable[[PartContent], tuple[Pixels, Labels]]
"""How one format of image files is read."""


def named_splits(image_set: ImageSet, name: str | None) -> Splits:
    """The ranges called `name`; None or "default" are the set's own. Raises UsageError."""
    if name is None or name == _OWN_SPLITS:
        return image_set.splits
    if name not in image_set.other_splits:
        hint = did_you_mean(name, [_OWN_SPLITS, *image_set.other_splits])
        raise UsageError(f"{image_set.title} has no splits called {name!r}", hint=hint)
    return image_set.other_splits[name]


def assign_splits(source_index: Int64[np.ndarray, " images"], splits: Splits) -> np.ndarray:
    """The split (a string) of each image.

    Where no image of the validation range is there, as in a prefix of a set, the last tenth of the training images
    that are there becomes validation.
    """
    assigned = np.full(source_index.shape, "", dtype=f"<U{max(map(len, SPLITS))}")
    for name, (first, end) in splits.items():
        assigned[(source_index >= first) & (source_index < end)] = name
    if "validation" in splits and not (assigned == "validation").any():
        training = np.flatnonzero(assigned == "train")
        assigned[training[len(training) - len(training) // _PARTIAL_VALIDATION :]] = "validation"
    return assigned
