"""Loading an image set by name, from wherever it lies on this computer."""

from pathlib import Path
from typing import Any

import numpy as np

from zootool.catalog import Catalog, ImageSet, PublishedForm, load_catalog
from zootool.data_dir import DataFolder, cache_dir, data_folders
from zootool.errors import IntegrityError, MissingError
from zootool.images.images import FOLDER_PREFIX, Images, Labels, Pixels, assign_splits, named_splits
from zootool.images.published import Located, locate, missing_paths, read_published
from zootool.progress import Reporter, silent

Found = tuple[DataFolder, PublishedForm, dict[str, Located]]
"""Where a set lies, in which form, and which of its files are there."""

_LARGEST_DIGIT_VALUE = 16


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
        pixels, labels = _read_digits()
        indices = np.arange(len(pixels), dtype=np.int64)
    else:
        folder, form, located = _found(image_set, partial, data_dir, download, report)
        pixels, labels, indices = read_published(image_set, form, located)
        if len(pixels) < image_set.num_images and not _accepts(folder, partial):
            raise IntegrityError(
                f"{name} in {folder.path} holds {len(pixels)} of its {image_set.num_images} images",
                hint="get the files again, or accept the part that is there with --partial",
            )
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


def _found(image_set: ImageSet, partial: bool | None, data_dir: Path | None, download: bool, report: Reporter) -> Found:
    """The first folder, and the form in it, that has the set, or as much of it as is accepted there."""
    folders = data_folders(data_dir)
    incomplete = None
    for folder in folders:
        places = [(form, locate(form, folder.path)) for form in image_set.forms]
        whole = next((place for place in places if not missing_paths(*place)), None)
        some = next((place for place in places if place[1]), None)
        if usable := whole or (some if _accepts(folder, partial) else None):
            return folder, *usable
        incomplete = incomplete or (some and (folder, *some))
    if download:
        from zootool.fetch.fetch import fetch

        form, into = image_set.forms[0], cache_dir() if data_dir is None else data_dir
        for file in form.files:
            fetch(file, into, report=report)
        return DataFolder(into, "downloaded"), form, locate(form, into)
    raise _missing(image_set, folders, incomplete)


def _missing(image_set: ImageSet, folders: tuple[DataFolder, ...], incomplete: Found | None) -> MissingError:
    searched = ", ".join(f"{folder.path} ({folder.origin})" for folder in folders)
    lines = [f"{image_set.title} is not on this computer; searched {searched}"]
    hint = f"put these files into {folders[0].path} as they are (packed or unpacked), or add --download"
    if incomplete is not None:
        folder, form, located = incomplete
        lost = ", ".join(missing_paths(form, located))
        lines = [f"{image_set.title} in {folder.path} is incomplete, it lacks {lost}"]
        hint += ", or accept the part that is there with --partial"
    for file in image_set.forms[0].files:
        lines.append(f"  {file.path} from {' or '.join(file.urls) or image_set.homepage}, {file.checksum}")
    return MissingError("\n".join(lines), hint=hint)


def _read_digits() -> tuple[Pixels, Labels]:
    """The 1,797 digits of 8 x 8 pixels that come with scikit-learn: real images without a download.

    The set's 0..16 become 0..255 by round(value * 255 / 16), halves to even.
    """
    from sklearn.datasets import load_digits

    digits: Any = load_digits()  # declared as a union of a tuple and a bunch
    pixels = np.rint(digits.images * 255 / _LARGEST_DIGIT_VALUE).astype(np.uint8)
    return pixels[..., None], digits.target.astype(np.int64)
