"""The source images that a store carries."""

import numpy as np
from jaxtyping import Int64, UInt8

from zootool.errors import FormatError
from zootool.store.arrays import FlatArray
from zootool.store.image_keys import SOURCE, SOURCE_INDEX, image_keys
from zootool.store.reader import Store


class StoredImages:
    """Images by their `image_keys`: called with ascending keys, it gives (images, height, width, channels) uint8.

    Raises FormatError where the images aren't as many as the distinct keys of the networks.
    """

    def __init__(self, store: Store, images: FlatArray) -> None:
        columns = [name for name in (SOURCE_INDEX, SOURCE) if name in store.nets.column_names]
        known = image_keys(store.nets.read(columns))
        self.keys: Int64[np.ndarray, " images"] = np.unique([] if known is None else known).astype(np.int64)
        self._images = images
        if len(self.keys) != len(images):
            raise FormatError(f"{store.info.name} has {len(images)} images for {len(self.keys)} source images")

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels."""
        return self._images.layout.item_shape

    def __call__(self, keys: Int64[np.ndarray, " wanted"]) -> UInt8[np.ndarray, "wanted height width channels"]:
        places = np.searchsorted(self.keys, keys)
        return self._images.gather(places, 1)[:, 0]

    def all(self) -> UInt8[np.ndarray, "images height width channels"]:
        """Every image, in the order of `keys`."""
        return self._images.read(0, len(self._images))


def stored_images(store: Store) -> StoredImages | None:
    """The images of a store, or None where it carries none."""
    return None if store.images is None else StoredImages(store, store.images)


def joined_images(parts: list[tuple[StoredImages, Int64[np.ndarray, " images"]]]) -> "JoinedImages | None":
    """The images of several stores, each with new keys for its own, or None where their shapes differ."""
    return JoinedImages(parts) if len({images.shape for images, _ in parts}) == 1 else None


class JoinedImages:
    """Images of several stores by keys of their own; an image that several have is taken from the first."""

    def __init__(self, parts: list[tuple[StoredImages, Int64[np.ndarray, " images"]]]) -> None:
        self._parts = parts

    def __call__(self, keys: Int64[np.ndarray, " wanted"]) -> UInt8[np.ndarray, "wanted height width channels"]:
        out = np.zeros((len(keys), *self._parts[0][0].shape), np.uint8)
        for images, new_keys in reversed(self._parts):
            order = np.argsort(new_keys)
            places = np.minimum(np.searchsorted(new_keys, keys, sorter=order), len(order) - 1)
            found = new_keys[order[places]] == keys
            out[found] = images(images.keys[order[places[found]]])
        return out
