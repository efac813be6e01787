"""What the source images, where they are on this computer, say about networks that were collected: is each fitted to
the image that its row names, and which way round is it rendered?"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from zootool.architecture import Architecture
from zootool.errors import ZooError
from zootool.formats.collection import CollectedImages, Collection
from zootool.images import Images, load_images
from zootool.nets.rendering import GRIDS, indexing_of, render
from zootool.store.pack import as_torch
from zootool.store.stored_images import SOURCE_INDEX

if TYPE_CHECKING:
    import torch
    from torch import nn

_SAMPLE = 16
_ALIKE = 0.5
"""How far a picture has to resemble its image (their correlation) before it says which way round it is."""
_CLEARER = 0.1
_AGREEING = 0.99


def check_images(found: Collection) -> Collection:
    """The collection with its places and its grid put right where the images show them wrong; notes say what was.

    What the source doesn't say and no image shows is noted as assumed.
    """
    if len(found.image_sets) != 1:
        return found
    images = None
    if SOURCE_INDEX in found.table.column_names and ("label" in found.table.column_names or _is_inr(found)):
        try:
            images = load_images(found.image_sets[0].name)
        except ZooError:
            images = None
    if images is not None:
        found = _with_places(found, images)
        found = _with_grid(found, images)
    notes = [_assumption(found.image_sets[0], name) for name in found.image_sets[0].assumed]
    return replace(found, notes=(*found.notes, *notes))


def state_of(found: Collection, row: int) -> "tuple[Architecture, dict[str, torch.Tensor]]":
    """The network at a row of the table: its architecture and its state_dict."""
    architecture: Architecture = found.architectures[int(found.architecture_index[row])]
    tensors = found.load(np.array([row]))
    return architecture, as_torch(architecture, {key: tensor[0] for key, tensor in tensors.items()})


def _assumption(images: CollectedImages, name: str) -> str:
    if name == "grid":
        return f"the grid is taken for {images.grid}: declare another by --grid, check it by rendering (zoo view)"
    return f"{name} is assumed: the images of {images.name} aren't here to compare labels with"


def _with_places(found: Collection, images: Images) -> Collection:
    """Compares labels. Places that were assumed are moved to the test images, or given up, where labels say so."""
    if "label" not in found.table.column_names or not pa.types.is_integer(found.table["label"].type):
        return found
    places = found.table[SOURCE_INDEX].to_numpy().astype(np.float64)
    labels = found.table["label"].to_numpy().astype(np.float64)
    agreeing, known = _agreeing(places, labels, images)
    name = found.image_sets[0].name
    if "source_index" not in found.image_sets[0].assumed:
        if agreeing == known:
            return found
        note = f"{known - agreeing:,} of {known:,} networks have another label than their image in {name}"
        return replace(found, notes=(*found.notes, note))
    if not known:
        return found
    if agreeing >= _AGREEING * known:
        return _settled(found, "source_index")
    first_test = images.source_index[images.split == "test"].min(initial=np.iinfo(np.int64).max)
    moved, compared = _agreeing(places + first_test, labels, images)
    if compared == len(found) and moved >= _AGREEING * compared:
        column, note = pa.array((places + first_test).astype(np.int64)), "labels are those of the test images of {}"
    else:
        column, note = pa.nulls(len(found), pa.int64()), "labels aren't those of the images of {}: source_index is null"
    table = found.table.set_column(found.table.schema.get_field_index(SOURCE_INDEX), SOURCE_INDEX, column)
    return _settled(replace(found, table=table, notes=(*found.notes, note.format(name))), "source_index")


def _agreeing(places: np.ndarray, labels: np.ndarray, images: Images) -> tuple[int, int]:
    """How many networks have their image's label, and how many were compared."""
    rows = np.searchsorted(images.source_index, places)
    rows = np.minimum(rows, len(images) - 1)
    known = (images.source_index[rows] == places) & np.isfinite(labels)
    return int((images.labels[rows] == labels)[known].sum()), int(known.sum())


def _with_grid(found: Collection, images: Images) -> Collection:
    """Renders some networks both ways, and records the grid on which they resemble their images."""
    (source,) = found.image_sets
    known = indexing_of(source.grid)
    places = found.table[SOURCE_INDEX].to_numpy().astype(np.float64)
    rows = np.flatnonzero(np.isin(places, images.source_index))
    if known is None or not _is_inr(found) or not len(rows):
        return found
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).astype(np.int64))]
    other = "xy" if known == "ij" else "ij"
    alike = []
    for row in rows.tolist():
        pixels = images.pixels[np.searchsorted(images.source_index, places[row])]
        try:
            module = _module(found, row)
        except ZooError:
            continue  # Reading the networks comes to this one again, and names it.
        height, width, _ = pixels.shape
        pictures = [render(module, height, width, indexing) for indexing in (known, other)]
        if pictures[0].shape == pixels.shape:
            alike.append([_correlation(picture, pixels) for picture in pictures])
    if not alike:
        return found
    upright, transposed = np.median(np.array(alike), axis=0)
    if max(upright, transposed) < _ALIKE:
        note = f"{len(alike)} networks that were rendered don't resemble their images in {source.name}"
        return replace(found, notes=(*found.notes, note))
    if transposed > upright + _CLEARER:
        note = f"rendered, {len(alike)} networks show their images upright on {GRIDS[other]}: recorded instead of "
        found = replace(found, notes=(*found.notes, note + str(source.grid)))
        found = replace(found, image_sets=(replace(source, grid=GRIDS[other]),))
    return _settled(found, "grid") if abs(transposed - upright) > _CLEARER else found


def _is_inr(found: Collection) -> bool:
    return found.kind == "siren" and all(architecture.num_inputs == 2 for architecture in found.architectures)


def _module(found: Collection, row: int) -> "nn.Module":
    from zootool.nets.network import Network

    architecture, state = state_of(found, row)
    module = Network(architecture)
    module.load_state_dict(state)
    return module.eval()


def _correlation(picture: np.ndarray, pixels: np.ndarray) -> float:
    """Of the deviations from each channel's mean: a scaling of the targets doesn't count."""
    one, other = (a.reshape(-1, a.shape[-1]).astype(np.float64) for a in (picture, pixels))
    one, other = (a - a.mean(axis=0) for a in (one, other))
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum() / size) if size > 0 and np.isfinite(size) else 0.0


def _settled(found: Collection, name: str) -> Collection:
    (source,) = found.image_sets
    return replace(found, image_sets=(replace(source, assumed=tuple(a for a in source.assumed if a != name)),))
