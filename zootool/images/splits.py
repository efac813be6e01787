"""Which image belongs to which split, by its index into the full set."""

import numpy as np
from jaxtyping import Int64

from zootool.catalog import SPLITS, ImageSet, Splits
from zootool.errors import UsageError, did_you_mean

DEFAULT = "default"
PARTIAL_VALIDATION = 10  # a partial set gives the last tenth of its training images to validation


def named_splits(image_set: ImageSet, name: str | None) -> Splits:
    """The ranges called `name`; None or "default" are the set's own. Raises UsageError."""
    if name is None or name == DEFAULT:
        return image_set.splits
    if name not in image_set.other_splits:
        hint = did_you_mean(name, [DEFAULT, *image_set.other_splits])
        raise UsageError(f"{image_set.title} has no splits called {name!r}", hint=hint)
    return image_set.other_splits[name]


def assign_splits(source_index: Int64[np.ndarray, " images"], splits: Splits) -> np.ndarray:
    """The split (a string) of each image.

    Where no image of the validation range is there, as in a prefix of a set, the last tenth of the training images
    that are there becomes validation.
    """
    assigned = np.full(source_index.shape, "", dtype=f"<U{max(map(len, SPLITS))}")
    for name, (first, end) in splits.items():
        assigned[(source_index >= first) & (source_index < end)] = name
    if "validation" in splits and not (assigned == "validation").any():
        training = np.flatnonzero(assigned == "train")
        assigned[training[len(training) - len(training) // PARTIAL_VALIDATION :]] = "validation"
    return assigned
