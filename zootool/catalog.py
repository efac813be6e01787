"""The catalog: datasets.yaml as checked entries. Image sets, recipes and published zoos.

A set's images are numbered through: training images first, then test images, in the order of the published files.
Splits are ranges of these numbers.
"""

import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

import zootool
from zootool.errors import MissingError, UsageError, did_you_mean, printable
from zootool.validation import Entry, read_yaml, validate

CATALOG_NAME = "datasets.yaml"

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Named = TypeVar("Named")


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
        raise ValueError("a path must stay inside the data folder, with / between its parts")
    return path


def _in_order(span: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= span[0] < span[1]:
        raise ValueError("a range is [first, last + 1] with 0 <= first <= last")
    return span


InnerPath = Annotated[str, AfterValidator(_inside)]
Span = Annotated[tuple[int, int], AfterValidator(_in_order)]
Splits = dict[SplitName, Span]
Md5 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
FormatName = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
Url = Annotated[str, StringConstraints(pattern="^(https?|file)://")]


class PublishedFile(Entry):
    """A file as its publisher offers it: where it goes below the data folder, its mirrors in order, its checksum."""

    path: InnerPath
    urls: tuple[Url, ...] = ()
    size: Annotated[int, Field(gt=0)] | None = None
    md5: Md5 | None = None
    sha256: Sha256 | None = None

    @property
    def checksum(self) -> str:
        """The strongest checksum that is known, with its name."""
        if self.sha256 or self.md5:
            return f"SHA-256 {self.sha256}" if self.sha256 else f"MD5 {self.md5}"
        return "no checksum known"


class Part(Entry):
    """A run of `count` images, numbered from `start`, in one file (for IDX: two). Digests are of the unpacked files.

    `archive` is the published file that packs it; `path` is then its name in there as well.
    """

    path: InnerPath
    labels: InnerPath | None = None
    archive: InnerPath | None = None
    start: Annotated[int, Field(ge=0)]
    count: Annotated[int, Field(gt=0)]
    md5: Md5 | None = None
    sha256: Sha256 | None = None
    labels_sha256: Sha256 | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it is read from: the images', and for IDX the labels'."""
        return (self.path,) if self.labels is None else (self.path, self.labels)


class PublishedForm(Entry):
    """One format (of those in `zootool.images`) of an image set: what to download, which images are where in it."""

    format: FormatName
    files: tuple[PublishedFile, ...] = ()
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _archives_are_files(self) -> "PublishedForm":
        known = {file.path for file in self.files}
        if lost := sorted({p.archive for p in self.parts if p.archive} - known):
            raise ValueError(f"the archive {lost[0]!r} is not among the files {sorted(known)}")
        return self


class ImageSet(Entry):
    """An image set: its shape (height, width, channels), counts, classes, splits, terms and published forms.

    `other_splits` are named alternatives to `splits`. A set that is `bundled_with` a package has no forms.
    """

    title: str
    shape: tuple[int, int, int]
    num_train: Annotated[int, Field(gt=0)]
    num_test: Annotated[int, Field(ge=0)]
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    splits: Splits
    other_splits: dict[str, Splits] = Field(default_factory=dict)
    source_terms: str
    redistributable: bool
    citation: str
    homepage: Url
    bundled_with: str | None = None
    forms: tuple[PublishedForm, ...] = ()

    @property
    def num_images(self) -> int:
        """Training and test images together."""
        return self.num_train + self.num_test

    @model_validator(mode="after")
    def _ranges_fit(self) -> "ImageSet":
        for splits in (self.splits, *self.other_splits.values()):
            for (name, span), (other_name, other) in combinations(splits.items(), 2):
                if span[0] < other[1] and other[0] < span[1]:
                    raise ValueError(f"the splits {name} {span} and {other_name} {other} overlap")
            for name, span in splits.items():
                if span[1] > self.num_images:
                    raise ValueError(f"the split {name} {span} goes beyond the {self.num_images} images")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "ImageSet":
        if (self.bundled_with is None) == (not self.forms):
            raise ValueError("an image set is either bundled_with a package or has forms")
        for part in (part for form in self.forms for part in form.parts):
            limit = self.num_train if part.start < self.num_train else self.num_images
            if part.start + part.count > limit:
                raise ValueError(f"{part.path}: {part.start} + {part.count} goes beyond the {limit} images")
        return self


class PublishedZoo(Entry):
    """A zoo that somebody published: its page, its layout on disk (see `zoo collect`) and what is known of its files.

    Without `files`, the page offers no stable links: the zoo is fetched by hand.
    """

    title: str
    page: Url
    layout: str
    licence: str
    citation: str
    description: str
    expects: tuple[str, ...] = ()
    files: tuple[PublishedFile, ...] = ()


class Catalog(Entry):
    """Everything datasets.yaml names. Recipes are raw mappings, checked by `zootool.build.recipe`."""

    image_sets: dict[str, ImageSet]
    recipes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    zoos: dict[str, PublishedZoo] = Field(default_factory=dict)

    def image_set(self, name: str) -> ImageSet:
        """The image set called `name`. Raises UsageError."""
        return _named(self.image_sets, name, "image set")

    def recipe(self, name: str) -> dict[str, Any]:
        """A copy of the recipe called `name`. Raises UsageError."""
        return dict(_named(self.recipes, name, "recipe"))

    def zoo(self, name: str) -> PublishedZoo:
        """The published zoo called `name`. Raises UsageError."""
        return _named(self.zoos, name, "published zoo")


@cache
def load_catalog(path: Path | None = None) -> Catalog:
    """The catalog at `path`, or the one that comes with zootool; read once per path.

    Raises FormatError, which lists every problem of the file, and MissingError where there is no such file.
    """
    found = catalog_path() if path is None else path
    if not found.is_file():
        raise MissingError(f"there is no catalog at {found}", hint="give the path of a datasets.yaml")
    return validate(Catalog, read_yaml(found), str(found))


def catalog_path() -> Path:
    """Where zootool's own datasets.yaml lies: in the checkout, or where the installed wheel has put it."""
    for candidate in _candidates():
        if candidate.is_file():
            return candidate.resolve()
    raise MissingError(f"{CATALOG_NAME} is not beside zootool", hint="install zootool again")


def _candidates() -> list[Path]:
    # `pip install --target` moves data files without correcting RECORD, hence the guesses behind it.
    beside = Path(zootool.__file__).resolve().parent.parent
    checkout = [beside / CATALOG_NAME] if (beside / "pyproject.toml").is_file() else []
    shared = Path("share", "zootool", CATALOG_NAME)
    try:
        recorded = [Path(str(f.locate())) for f in files("zootool") or () if f.name == CATALOG_NAME]
    except PackageNotFoundError:
        recorded = []
    return [*checkout, *recorded, beside / shared, Path(sys.prefix) / shared]


def _named(entries: Mapping[str, Named], name: str, kind: str) -> Named:
    if name not in entries:
        raise UsageError(f"unknown {kind} {printable(name, 60)!r}", hint=did_you_mean(name, entries))
    return entries[name]
