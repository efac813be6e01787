"""The source images beside their networks: from the store itself, else from the local image set."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from zootool.errors import FormatError, IntegrityError, MissingError
from zootool.store.reader import Store
from zootool.store.schema import ImageSource

SOURCE_INDEX = "source_index"


class ImageJoin:
    """uint8 images by the `source_index` of the networks' rows.

    Raises MissingError when the image set isn't on this machine, IntegrityError when its pixels aren't those that
    the networks were made from, FormatError when the store doesn't name one image set.
    """

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        indices = np.asarray(store.nets.read([SOURCE_INDEX])[SOURCE_INDEX].to_numpy(), dtype=np.int64)[rows]
        pixels, known = _pixels(store)
        order = np.argsort(known, kind="stable")
        places = np.searchsorted(known, indices, sorter=order)
        found = order[np.minimum(places, len(order) - 1)]
        if np.any(known[found] != indices):
            lost = int(indices[np.flatnonzero(known[found] != indices)[0]])
            raise IntegrityError(f"{store.info.name} has networks of image {lost}, which its image set lacks")
        self._pixels = torch.from_numpy(pixels)
        self._place_of = torch.from_numpy(found)

    def images(self, positions: Tensor) -> UInt8[Tensor, "batch height width channels"]:
        """The images of the networks at these positions of the rows given at the start."""
        return self._pixels.index_select(0, self._place_of[positions])


def one_source(store: Store) -> ImageSource:
    """The zoo's image set. Raises FormatError unless it has exactly one."""
    if len(store.info.sources) != 1:
        raise FormatError(
            f"{store.info.name} was made from {len(store.info.sources)} image sets, images need exactly one"
        )
    return store.info.sources[0]


def load_source(source: ImageSource) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, H, W, C) and source indices (N,) of the local image set, its digest compared with the zoo's."""
    from zootool.images import load_images

    images = load_images(source.name)
    if source.digest is not None and images.digest != source.digest:
        raise MissingError(
            f"the image set {source.name} here has the digest {images.digest[:16]}, "
            f"the zoo was made from {source.digest[:16]}",
            hint="put the same files in place, or convert with --with-images where they are",
        )
    return images.pixels, images.source_index


def _pixels(store: Store) -> tuple[np.ndarray, np.ndarray]:
    if store.images is not None:
        known = np.unique(store.nets.read([SOURCE_INDEX])[SOURCE_INDEX].to_numpy())
        return store.images.read(0, len(store.images)), known
    return load_source(one_source(store))
