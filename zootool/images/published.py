"""Reading a published image set, or a prefix of one, from a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Int64, UInt8

from zootool.catalog import FormatName, ImageSet, Part, PublishedForm
from zootool.errors import FormatError, IntegrityError
from zootool.fetch.downloaded import check_digest, check_file
from zootool.images.cifar import read_cifar_pickle, read_cifar_records
from zootool.images.idx import read_idx_pair
from zootool.images.packed import Located, read_contents
from zootool.images.svhn import read_svhn_head, read_svhn_mat

Pixels = UInt8[np.ndarray, "images height width channels"]
Labels = Int64[np.ndarray, " images"]

_SPARE_BYTES = 1 << 20


@dataclass(frozen=True)
class PartContent:
    """The bytes of one part, and what errors call it."""

    images: bytes
    labels: bytes | None
    shown: str
    max_images: int


def _cifar_records(content: PartContent, num_label_bytes: int) -> tuple[Pixels, Labels]:
    return read_cifar_records(content.images, content.shown, num_label_bytes)


def _cifar_pickle(content: PartContent, label_key: bytes) -> tuple[Pixels, Labels]:
    return read_cifar_pickle(content.images, content.shown, label_key)


def _idx(content: PartContent) -> tuple[Pixels, Labels]:
    return read_idx_pair(content.images, content.labels or b"", content.shown)


def _svhn_mat(content: PartContent) -> tuple[Pixels, Labels]:
    return read_svhn_mat(content.images, content.shown, content.max_images)


def _svhn_head(content: PartContent) -> tuple[Pixels, Labels]:
    return read_svhn_head(content.images, content.shown, content.max_images)


READERS: dict[FormatName, Callable[[PartContent], tuple[Pixels, Labels]]] = {
    "cifar10-binary": partial(_cifar_records, num_label_bytes=1),
    "cifar100-binary": partial(_cifar_records, num_label_bytes=2),
    "cifar10-pickle": partial(_cifar_pickle, label_key=b"labels"),
    "cifar100-pickle": partial(_cifar_pickle, label_key=b"fine_labels"),
    "idx": _idx,
    "svhn-mat": _svhn_mat,
    "svhn-npz": _svhn_head,
}


def read_published(
    image_set: ImageSet, form: PublishedForm, located: dict[str, Located]
) -> tuple[Pixels, Labels, Int64[np.ndarray, " images"]]:
    """Pixels, labels and source indices of what is there of `form`, in the set's order.

    Raises FormatError and IntegrityError for a file that isn't what was published, or a set with a gap in it.
    """
    parts = [part for part in form.parts if part.path in located and (part.labels is None or part.labels in located)]
    _check_packed(parts, located)
    contents = read_contents(located, _limits(image_set, parts, located))
    pixels, labels, indices = [], [], []
    for part in sorted(parts, key=lambda part: part.start):
        images = _read_part(image_set, form, part, contents, located[part.path].shown)
        pixels.append(images[0])
        labels.append(images[1])
        indices.append(np.arange(part.start, part.start + len(images[0]), dtype=np.int64))
        for path in (part.path, part.labels):
            contents.pop(path or "", None)  # hundreds of megabytes that are no longer needed
    found = np.concatenate(indices)
    _check_prefix(image_set, found)
    return np.concatenate(pixels), np.concatenate(labels), found


def complete_paths(form: PublishedForm, located: dict[str, Located]) -> bool:
    """Whether every file of `form` was found."""
    return all(part.path in located and (part.labels is None or part.labels in located) for part in form.parts)


def _read_part(
    image_set: ImageSet, form: PublishedForm, part: Part, contents: dict[str, bytes], shown: str
) -> tuple[Pixels, Labels]:
    labels = contents[part.labels] if part.labels else None
    pixels, classes = READERS[form.format](PartContent(contents[part.path], labels, shown, part.count))
    if pixels.shape[1:] != image_set.shape:
        raise FormatError(f"{shown} has images of the shape {pixels.shape[1:]}, {image_set.title} {image_set.shape}")
    if len(pixels) > part.count:
        raise FormatError(f"{shown} holds {len(pixels)} images, {part.count} were published")
    if len(classes) and not 0 <= classes.min() <= classes.max() < len(image_set.classes):
        span = f"{classes.min()}..{classes.max()}"
        raise FormatError(f"{shown} has labels {span}, {image_set.title} has 0..{len(image_set.classes) - 1}")
    if len(pixels) == part.count:
        check_digest([contents[part.path]], shown, md5=part.md5, sha256=part.sha256)
        if labels is not None:
            check_digest([labels], f"the label file of {shown}", sha256=part.labels_sha256)
    return pixels, classes


def _limits(image_set: ImageSet, parts: list[Part], located: dict[str, Located]) -> dict[str, int]:
    """Bytes beyond which a file can't be what was published: twice the pixels leaves room for labels and names."""
    image_bytes = int(np.prod(image_set.shape))
    limits = dict.fromkeys(located, _SPARE_BYTES)
    for part in parts:
        limits[part.path] = 2 * part.count * image_bytes + _SPARE_BYTES
        if part.labels:
            limits[part.labels] = part.count + _SPARE_BYTES
    return limits


def _check_packed(parts: list[Part], located: dict[str, Located]) -> None:
    """Check the files that were published, where what is in them has no digest of its own."""
    unpinned = [part for part in parts if part.sha256 is None and part.md5 is None]
    places = {located[path] for part in unpinned for path in (part.path, part.labels) if path is not None}
    for place in sorted(places, key=lambda place: place.path):
        if place.published is not None:
            check_file(place.path, place.published)


def _check_prefix(image_set: ImageSet, found: Int64[np.ndarray, " images"]) -> None:
    """Training images must be the first so many, and so must the test images."""
    for kind, first, end in (("training", 0, image_set.num_train), ("test", image_set.num_train, image_set.num_images)):
        held = found[(found >= first) & (found < end)]
        if len(held) and held[-1] - first + 1 != len(held):
            gap = first + int(np.argmax(held != np.arange(first, first + len(held))))
            raise IntegrityError(
                f"the {kind} images of {image_set.title} have a gap: image {gap} is missing, later ones are there",
                hint="a partial set must be a prefix: add the missing file or remove the later ones",
            )
