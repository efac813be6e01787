"""Loading an image set by name, from wherever it lies on this computer."""

from pathlib import Path

import numpy as np

from zootool.catalog import Catalog, ImageSet, PublishedForm, load_catalog
from zootool.data_dir import DataFolder, cache_dir, data_folders
from zootool.errors import IntegrityError, MissingError
from zootool.images.digits import read_digits
from zootool.images.images import FOLDER_PREFIX, Images
from zootool.images.packed import Located, locate, wanted_paths
from zootool.images.published import complete_paths, read_published
from zootool.images.splits import assign_splits, named_splits
from zootool.progress import Reporter, silent

_BUNDLED = {"digits": read_digits}


def load_images(
    name: str,
    *,
    partial: bool | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    splits: str | None = None,
    catalog: Catalog | None = None,
    report: Reporter = silent,
) -> Images:
    """The image set called `name` in datasets.yaml, or `folder:PATH` (see `zootool.images.folder`).

    `data_dir`, then $ZOO_DATA, then the per-user cache are searched. A prefix of a set (whole records, later files
    missing) is accepted with `partial=True`, and where `partial` is None if it lies under $ZOO_DATA. With `download`
    a set that isn't found is fetched into `data_dir` or the cache. `splits` names other splits than the set's own,
    such as "rest" for MNIST.

    Raises UsageError for an unknown name, MissingError for a set that isn't there, FormatError, IntegrityError or
    UntrustedError for files that aren't what was published.
    """
    data_dir = None if data_dir is None else Path(data_dir)
    if name.startswith(FOLDER_PREFIX):
        from zootool.images.folder import read_folder

        return read_folder(name, data_folders(data_dir), report=report)
    image_set = (catalog or load_catalog()).image_set(name)
    ranges = named_splits(image_set, splits)
    if image_set.bundled_with is not None:
        pixels, labels = _BUNDLED[name]()
        indices = np.arange(len(pixels), dtype=np.int64)
    else:
        folder, form, located = _found(name, image_set, partial, data_dir, download, report)
        pixels, labels, indices = read_published(image_set, form, located)
        if len(pixels) < image_set.num_images and not _accepts(folder, partial):
            raise _incomplete(name, image_set, folder, len(pixels))
    return Images(
        name=name,
        pixels=pixels,
        labels=labels,
        source_index=indices,
        split=assign_splits(indices, ranges),
        class_names=image_set.classes,
        is_partial=len(pixels) < image_set.num_images,
        source_terms=image_set.source_terms,
    )


def _accepts(folder: DataFolder, partial: bool | None) -> bool:
    return folder.accepts_partial if partial is None else partial


def _found(
    name: str, image_set: ImageSet, partial: bool | None, data_dir: Path | None, download: bool, report: Reporter
) -> tuple[DataFolder, PublishedForm, dict[str, Located]]:
    """The first folder, and the form in it, that has the set, or as much of it as is accepted there."""
    folders = data_folders(data_dir)
    incomplete = None
    for folder in folders:
        places = [(form, locate(form, folder.path)) for form in image_set.forms]
        whole = next((place for place in places if complete_paths(*place)), None)
        some = next((place for place in places if place[1]), None)
        if usable := whole or (some if _accepts(folder, partial) else None):
            return folder, *usable
        incomplete = incomplete or (some and (folder, *some))
    if download:
        return _downloaded(image_set.forms[0], cache_dir() if data_dir is None else data_dir, report)
    raise _missing(name, image_set, folders, incomplete)


def _downloaded(
    form: PublishedForm, into: Path, report: Reporter
) -> tuple[DataFolder, PublishedForm, dict[str, Located]]:
    from zootool.fetch.fetch import fetch

    for file in form.files:
        fetch(file, into, report=report)
    return DataFolder(into, "downloaded"), form, locate(form, into)


def _missing(
    name: str,
    image_set: ImageSet,
    folders: tuple[DataFolder, ...],
    incomplete: tuple[DataFolder, PublishedForm, dict[str, Located]] | None,
) -> MissingError:
    searched = ", ".join(f"{folder.path} ({folder.origin})" for folder in folders)
    lines = [f"{image_set.title} is not on this computer; searched {searched}"]
    if incomplete is not None:
        folder, form, located = incomplete
        lost = [path for path, _ in wanted_paths(form) if path not in located]
        lines = [f"{image_set.title} in {folder.path} is incomplete, it lacks {', '.join(lost)}"]
    for file in image_set.forms[0].files:
        lines.append(f"  {file.path} from {' or '.join(file.urls) or image_set.homepage}, {file.checksum}")
    into = folders[0].path
    hint = f"put these files into {into} as they are (packed or unpacked), or add --download"
    if incomplete is not None:
        hint += ", or accept the part that is there with --partial"
    return MissingError("\n".join(lines), hint=hint)


def _incomplete(name: str, image_set: ImageSet, folder: DataFolder, num_found: int) -> IntegrityError:
    return IntegrityError(
        f"{name} in {folder.path} holds {num_found} of its {image_set.num_images} images",
        hint="get the files again, or accept the part that is there with --partial",
    )
