"""The source images that a store carries, and the number by which each lies there."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8

from zootool.errors import FormatError
from zootool.store.arrays import FlatArray
from zootool.store.reader import Store

SOURCE_INDEX = "source_index"
SOURCE = "source"

MAX_IMAGES = 1 << 40
"""Image i of source s has the key s * MAX_IMAGES + i."""

_MAX_SOURCES = 1 << 20

ImagesByKey = Callable[[np.ndarray], np.ndarray]
"""Gives the uint8 images (images, height, width, channels) of ascending `image_keys`."""


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


class StoredImages:
    """Images by their `image_keys`: called with ascending keys, it gives (images, height, width, channels) uint8.

    Raises FormatError where the images aren't as many as the distinct keys of the networks.
    """

    def __init__(self, store: Store, images: FlatArray) -> None:
        columns = [name for name in (SOURCE_INDEX, SOURCE) if name in store.nets.column_names]
        known = image_keys(store.nets.read(columns))
        self.keys: Int64[np.ndarray, " images"] = np.unique([] if known is None else known).astype(np.int64)
        self.shape = images.layout.item_shape
        self._images = images
        if len(self.keys) != len(images):
            raise FormatError(f"{store.info.name} has {len(images)} images for {len(self.keys)} source images")

    def __call__(self, keys: Int64[np.ndarray, " wanted"]) -> UInt8[np.ndarray, "wanted height width channels"]:
        return self._images.gather(np.searchsorted(self.keys, keys), 1)[:, 0]

    def all(self) -> UInt8[np.ndarray, "images height width channels"]:
        """Every image, in the order of `keys`."""
        return self._images.read(0, len(self._images))


def stored_images(store: Store) -> StoredImages | None:
    """The images of a store, or None where it carries none."""
    return None if store.images is None else StoredImages(store, store.images)


@dataclass(frozen=True)
class JoinedImages:
    """Images of several stores, each with new keys for its own; an image that several have is taken from the first.

    What no store has, `rest` is asked for.
    """

    parts: list[tuple[StoredImages, Int64[np.ndarray, " images"]]]
    rest: ImagesByKey | None = None

    def __call__(self, keys: Int64[np.ndarray, " wanted"]) -> UInt8[np.ndarray, "wanted height width channels"]:
        out = np.zeros((len(keys), *self.parts[0][0].shape), np.uint8)
        lacking = np.ones(len(keys), bool)
        for images, new_keys in reversed(self.parts):
            order = np.argsort(new_keys)
            places = np.minimum(np.searchsorted(new_keys, keys, sorter=order), len(order) - 1)
            found = new_keys[order[places]] == keys
            out[found] = images(images.keys[order[places[found]]])
            lacking &= ~found
        if self.rest is not None and lacking.any():
            out[lacking] = self.rest(keys[lacking])
        return out
