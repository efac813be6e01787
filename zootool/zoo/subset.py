"""A selection of a zoo as a store of its own."""

from pathlib import Path

import numpy as np

from zootool.errors import MissingError
from zootool.loader.images import MAX_IMAGES, image_keys
from zootool.progress import Reporter, silent
from zootool.store.builder import ImagesByIndex
from zootool.store.options import WriteOptions
from zootool.store.rows import StoreRows, info_of
from zootool.store.writer import write_store
from zootool.zoo.zoo import Zoo


def subset(
    zoo: Zoo,
    destination: Path,
    *,
    name: str | None = None,
    options: WriteOptions | None = None,
    report: Reporter = silent,
) -> str:
    """Write the selected networks as a new store, with their images where the zoo carries them; returns its id.

    Raises MissingError for an empty selection, and what writing a store raises.
    """
    if len(zoo) == 0:
        raise MissingError(f"no network of {zoo.info.name} is selected", hint="see the columns with `zoo info`")
    provenance: dict[str, object] = {"subset_of": {"name": zoo.info.name, "id": zoo.id, "num_networks": len(zoo.store)}}
    source = StoreRows(zoo.store, zoo.rows, info_of(zoo.store, name or destination.stem, provenance))
    return write_store(destination, source, options, report, images=_images_of(zoo))


def _images_of(zoo: Zoo) -> ImagesByIndex | None:
    if zoo.store.images is None:
        return None
    known = np.unique(image_keys(zoo.store)) % MAX_IMAGES
    read = zoo.store.images.read
    return lambda indices: np.stack([read(i, i + 1)[0] for i in np.searchsorted(known, indices).tolist()])
