"""`zoo convert`: from anything that holds networks to a store."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from zootool.errors import FormatError, IntegrityError, UsageError, printable
from zootool.formats.collection import Collection
from zootool.formats.options import ReadOptions
from zootool.progress import Reporter, silent
from zootool.store.append import Appended, append_store
from zootool.store.blocks import BlockSource
from zootool.store.layout import WriteOptions
from zootool.store.schema import MANIFEST_JSON, ImageSource
from zootool.store.stored_images import ImagesByKey
from zootool.store.writer import write_store


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    name: str | None = None,
    with_images: bool = False,
    format: str | None = None,
    reading: ReadOptions | None = None,
    options: WriteOptions | None = None,
    report: Reporter = silent,
) -> str:
    """Write the networks at `source` as a new store at `destination`, and return the store's id.

    `source` is a folder of units or anything that a reader of `zootool.formats` knows: `format` names the
    reader where it isn't to be found out, `reading` tells it what the source doesn't say. `name` is the zoo's name, by
    default that of `destination` without its suffix. `with_images` carries the source images along, where their terms
    allow it.

    Raises MissingError when there is nothing at `source` or nothing in it is finished, FormatError when it is of no
    format that is known, UsageError when `destination` exists or images may not be passed on, and what reading and
    checking the networks raises.
    """
    source, destination = Path(source), Path(destination)
    blocks = open_source(source, name or destination.stem, format, reading)
    images = images_of(blocks) if with_images else None
    return write_store(destination, blocks, options, report, images=images)


def append(
    source: str | Path,
    destination: str | Path,
    *,
    format: str | None = None,
    reading: ReadOptions | None = None,
    options: WriteOptions | None = None,
    report: Reporter = silent,
) -> Appended:
    """Put a version of the store at `destination` in its place that has the networks at `source` too.

    Raises what `convert` raises, and what `append_store` says.
    """
    source, destination = Path(source), Path(destination)
    blocks = open_source(source, source.name, format, reading)
    return append_store(destination, blocks, options, report, images=lambda: images_of(blocks))


def open_source(source: Path, name: str, format: str | None = None, reading: ReadOptions | None = None) -> BlockSource:
    """The networks at `source`. Raises UsageError for an unknown format, MissingError, and BadDataError's children."""
    from zootool.build.units import is_unit_folder
    from zootool.conversion.block_sources import CollectionSource, UnitSource

    reading = reading or ReadOptions()
    if (source / MANIFEST_JSON).is_file() and format is None:
        raise UsageError(
            f"{printable(source)} is a store already", hint="see `zoo subset`, `zoo merge` and `zoo export`"
        )
    if format is None and is_unit_folder(source):
        if reading != ReadOptions():
            raise UsageError(
                f"{printable(source)} is a folder that `zoo build` wrote, and says all of its networks itself",
                hint="leave out the options about reading; `zoo subset` selects afterwards",
            )
        return UnitSource(source, name)
    return CollectionSource(collect(source, format, reading), name)


def collect(source: Path, format: str | None = None, reading: ReadOptions | None = None) -> Collection:
    """The networks at `source`, with what their source images and their own code, where these are here, say about them.

    Raises what `read_collection` raises, and FormatError where the code that `reading.check` names computes something
    else than an architecture does.
    """
    from zootool.conversion.image_check import check_images
    from zootool.formats.reading import read_collection

    reading = reading or ReadOptions()
    found = check_images(read_collection(source, format, reading))
    return found if reading.check is None else _compared(found, reading.check)


def _compared(found: Collection, check: str) -> Collection:
    """The collection, once outputs of a network of each architecture have been compared with those of its own code."""
    from zootool.conversion.image_check import state_of
    from zootool.nets.agreement import check_agreement, load_object

    factory, named = load_object(check), check.rpartition("/")[2]
    numbers = dict.fromkeys(found.architecture_index.tolist())
    for number in numbers:
        row = int(np.flatnonzero(found.architecture_index == number)[0])
        architecture, state = state_of(found, row)
        try:
            check_agreement(architecture, state, factory, named)
        except FormatError as error:
            assumed = "; ".join(found.assumptions[number]) if found.assumptions else ""
            raise FormatError(
                f"{printable(found.table['net_id'][row].as_py())}: {error.message}"
                + (f" (assumed was: {assumed})" if assumed else ""),
                hint="declare what differs in YAML: --architecture NET.yaml (docs/collecting.md)",
            ) from error
    several = "its architecture's" if len(numbers) == 1 else f"each of {len(numbers)} architectures'"
    note = f"outputs equal those of {named}, compared for {several} first network: what was assumed holds"
    return replace(found, assumptions=((),) * len(found.architectures), notes=(*found.notes, note))


def images_of(blocks: BlockSource) -> ImagesByKey:
    """The local image set that the networks were made from, for carrying along.

    Raises UsageError where its terms don't allow that, MissingError and IntegrityError where it isn't here.
    """
    from zootool.catalog import load_catalog
    from zootool.images import load_images

    sources = blocks.info.sources
    if len(sources) != 1:
        raise UsageError(f"{blocks.info.name} was made from {len(sources)} image sets, images need exactly one")
    source: ImageSource = sources[0]
    known = load_catalog().image_sets.get(source.name)
    if known is None or not known.redistributable:
        raise UsageError(
            f"the terms of {source.name} don't allow passing its images on ({source.terms or 'unknown terms'})",
            hint="convert without --with-images: the loader joins the local image set",
        )
    images = load_images(source.name, partial=source.is_partial or None)
    if source.digest is not None and images.digest != source.digest:
        raise IntegrityError(f"the local {source.name} isn't the one that the networks were made from")

    def take(indices: np.ndarray) -> np.ndarray:
        places = np.searchsorted(images.source_index, indices)
        if len(images) == 0 or np.any(images.source_index[np.minimum(places, len(images) - 1)] != indices):
            raise IntegrityError(f"{source.name} lacks images that the networks were made from")
        return images.pixels[places]

    return take  # with one source, an image's key is its index
