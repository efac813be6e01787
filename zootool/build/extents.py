"""Which networks a folder holds, and in which units.

An extent is a request: the first so many images of each split, and how many copies. A folder keeps its extents in the
order in which they were asked for. Each contributes the networks that it has beyond the one before it, by copy and
then by place in the image set, cut into units; the units of all extents are numbered through. So units that were built
for an earlier request stay what they are, and the list follows from recipe.yaml and the splits alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Int64
from pydantic import Field

from zootool.errors import UsageError, printable
from zootool.validation import Entry

SPLIT_KEYS = ("train", "validation", "test", "unsplit")

Count = Annotated[int, Field(ge=0)]
Limit = int | tuple[int, int, int] | None


class Extent(Entry):
    """The first images of every split ("unsplit": those in none), and copies beyond the first of training images."""

    train: Count
    validation: Count
    test: Count
    unsplit: Count
    copies: Count

    @property
    def num_images(self) -> int:
        """Images that have a network."""
        return self.train + self.validation + self.test + self.unsplit

    @property
    def num_networks(self) -> int:
        """One network per image and the copies."""
        return self.num_images + self.copies * self.train


class RunsExtent(Entry):
    """The first so many runs: classifiers are trained on the whole image set, one after the other."""

    runs: Count

    @property
    def num_networks(self) -> int:
        """One network per run, however many of its checkpoints are kept."""
        return self.runs


AnyExtent = Extent | RunsExtent


@dataclass(frozen=True)
class PlannedUnit:
    """The networks of one unit.

    Of SIRENs `networks` are the positions of their images in the image set and `parts` their copies' numbers; of
    classifiers `networks` are their runs and `parts` the splits that these are in.
    """

    number: int
    networks: Int64[np.ndarray, " networks"]
    parts: np.ndarray

    def __len__(self) -> int:
        return len(self.networks)


def extent_of(split: np.ndarray, limit: Limit, copies: int) -> Extent:
    """The extent of `--limit`: None is all images, N the first N, (a, b, c) the first of train, validation and test.

    `split` holds the split of every image. Raises UsageError for a negative limit.
    """
    names = np.where(split == "", "unsplit", split)
    if limit is None:
        chosen = names
    elif isinstance(limit, int):
        chosen = names[: _checked(limit)]
    else:
        counts = [min(_checked(n), int((names == key).sum())) for key, n in zip(SPLIT_KEYS, limit, strict=False)]
        return Extent(train=counts[0], validation=counts[1], test=counts[2], unsplit=0, copies=copies)
    return Extent(**{key: int((chosen == key).sum()) for key in SPLIT_KEYS}, copies=copies)


def parse_limit(text: str | None) -> Limit:
    """`--limit`'s text: "64" or "3000,500,500". Raises UsageError."""
    if text is None:
        return None
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise UsageError(
            f"--limit {text!r} is neither one number nor three", hint="such as --limit 64 or --limit 3000,500,500"
        )
    for number in numbers:
        _checked(number)
    if not any(numbers):
        raise UsageError(f"--limit {text} asks for no image", hint="give more than 0, or leave it out for all")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])


def parse_share(text: str | None) -> tuple[int, int] | None:
    """`--unit`'s text, "i/n" with 0 <= i < n. Raises UsageError."""
    if text is None:
        return None
    first, _, step = text.partition("/")
    if not (first.isascii() and first.isdigit() and step.isascii() and step.isdigit() and int(first) < int(step)):
        raise UsageError(f"--unit must be I/N with I from 0 to N - 1, got {printable(text, 40)!r}", hint="such as 0/4")
    return int(first), int(step)


def first_smaller_key(old: Entry, new: Entry) -> str | None:
    """A key in which the extent `new` asks for less than `old` has, if there is one."""
    return next((key for key in type(old).model_fields if getattr(new, key) < getattr(old, key)), None)


def units_of_images(extents: Sequence[Extent], split: np.ndarray, unit_size: int) -> list[PlannedUnit]:
    """The units of all extents in the order of their numbers; `split` holds the split of every image."""
    steps = zip((None, *extents), extents, strict=False)
    return _cut(unit_size, (_added(split, before, extent) for before, extent in steps))


def units_of_runs(extents: Sequence[RunsExtent], ratios: Sequence[float], unit_size: int) -> list[PlannedUnit]:
    """The units of all extents in the order of their numbers.

    `ratios` are those of train, validation and test, by which the runs that an extent adds are cut in their order.
    """
    counts = [0, *(extent.runs for extent in extents)]
    added = []
    for first, stop in pairwise(counts):
        count = stop - first
        ends = [0, round(ratios[0] * count), round((ratios[0] + ratios[1]) * count), count]
        added.append((np.arange(first, stop), np.repeat(SPLIT_KEYS[:3], np.diff(ends))))
    return _cut(unit_size, added)


def _cut(unit_size: int, added: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[PlannedUnit]:
    """The units of the networks that each extent adds, with their copies or splits."""
    units: list[PlannedUnit] = []
    for networks, parts in added:
        for start in range(0, len(networks), unit_size):
            rows = slice(start, start + unit_size)
            units.append(PlannedUnit(len(units), networks[rows], parts[rows]))
    return units


def _added(split: np.ndarray, before: Extent | None, extent: Extent) -> tuple[np.ndarray, np.ndarray]:
    copies = range(extent.copies + 1)
    new = [np.flatnonzero(_members(split, extent, copy) & ~_members(split, before, copy)) for copy in copies]
    return np.concatenate(new), np.repeat(np.array(copies, np.int64), list(map(len, new)))


def _members(split: np.ndarray, extent: Extent | None, copy: int) -> Bool[np.ndarray, " images"]:
    members = np.zeros(len(split), bool)
    if extent is None or copy > extent.copies:
        return members
    for key in SPLIT_KEYS if copy == 0 else SPLIT_KEYS[:1]:
        of_split = split == ("" if key == "unsplit" else key)
        members |= of_split & (np.cumsum(of_split) <= getattr(extent, key))
    return members


def _checked(number: int) -> int:
    if number < 0:
        raise UsageError(f"--limit must not be negative, got {number}", hint="give 0 or more, or leave it out for all")
    return number
