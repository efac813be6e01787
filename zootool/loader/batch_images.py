"""The source images beside their networks: from the store itself, else from the local image set."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from zootool.errors import FormatError, IntegrityError, MissingError
from zootool.store.reader import Store
from zootool.store.schema import ImageSource
from zootool.store.stored_images import MAX_IMAGES, SOURCE, SOURCE_INDEX, stored_images
from zootool.store.stored_images import image_keys as keys_of


class ImageJoin:
    """uint8 images by the `source_index` of the networks' rows.

    Raises MissingError when the image set isn't on this machine, IntegrityError when its pixels aren't those that
    the networks were made from, FormatError when the store doesn't name one image set.
    """

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        keys = image_keys(store)
        pixels, known = _pixels(store, keys)
        wanted = keys[rows]
        order = np.argsort(known, kind="stable")
        places = np.searchsorted(known, wanted, sorter=order)
        found = order[np.minimum(places, len(order) - 1)]
        if np.any(known[found] != wanted):
            lost = int(wanted[np.flatnonzero(known[found] != wanted)[0]]) % MAX_IMAGES
            raise IntegrityError(f"{store.info.name} has networks of image {lost}, which its image set lacks")
        self._pixels = pixels
        self._place_of = found

    def images(self, positions: Tensor) -> UInt8[Tensor, "batch height width channels"]:
        """The images of the networks at these positions of the rows given at the start."""
        return torch.from_numpy(self._pixels[self._place_of[positions.numpy()]])


def image_keys(store: Store) -> np.ndarray:
    """The key of each network's image. Raises FormatError."""
    keys = keys_of(store.nets.read([name for name in (SOURCE_INDEX, SOURCE) if name in store.nets.column_names]))
    if keys is None:
        raise FormatError(
            f"{store.info.name} ({store.info.kind} networks) has networks without a source image",
            hint="take a zoo of INRs, as `zoo build siren` makes them, or select those that have an image",
        )
    if keys.max() >= len(store.info.sources) * MAX_IMAGES:
        raise FormatError(f"{store.info.name} has networks of image sets that zoo.json doesn't name")
    return keys


def load_source(source: ImageSource) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, H, W, C) and source indices (N,) of the local image set, its digest compared with the zoo's."""
    from zootool.images import load_images

    images = load_images(source.name, partial=source.is_partial or None)
    if source.digest is not None and images.digest != source.digest:
        raise MissingError(
            f"the image set {source.name} here has the digest {images.digest[:16]}, "
            f"the zoo was made from {source.digest[:16]}",
            hint="put the same files in place, or convert with --with-images where they are",
        )
    return images.pixels, images.source_index


def _pixels(store: Store, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (images, H, W, C) and their keys."""
    carried = stored_images(store)
    if carried is not None:
        return carried.all(), carried.keys
    used = np.unique(keys // MAX_IMAGES).tolist()
    parts = [(number, *load_source(store.info.sources[number])) for number in used]
    if len({pixels.shape[1:] for _, pixels, _ in parts}) != 1:
        raise FormatError(f"the images of {store.info.name} differ in shape", hint="select one source")
    known = np.concatenate([number * MAX_IMAGES + index for number, _, index in parts])
    return np.concatenate([pixels for _, pixels, _ in parts]), known
