"""recipe.yaml as a record: the recipe, the image set and the extents of a folder of units."""

from importlib.metadata import version
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zootool.build.extents import AnyExtent, Count, Extent, RunsExtent
from zootool.build.recipe import AnyRecipe, SirenRecipe
from zootool.images import Images
from zootool.validation import Entry

FORMAT_VERSION = 1


def tool_version() -> str:
    """The version of zootool that is running."""
    return version("zootool")


class ImageSetRecord(Entry):
    """The image set that a folder's networks were fitted to; `digest` is the SHA-256 of its shape and pixels."""

    name: str
    digest: str
    shape: tuple[int, int, int]
    num_images: Count
    num_classes: Count
    is_partial: bool
    source_terms: str

    @classmethod
    def of(cls, images: Images) -> "ImageSetRecord":
        """The record of `images`."""
        return cls(
            name=images.name,
            digest=images.digest,
            shape=images.shape,
            num_images=len(images),
            num_classes=len(images.class_names),
            is_partial=images.is_partial,
            source_terms=images.source_terms,
        )


class BuildRecord(Entry):
    """recipe.yaml: what a folder of units is to hold."""

    format_version: Literal[1] = FORMAT_VERSION
    tool_version: str = Field(default_factory=tool_version)
    recipe: Annotated[AnyRecipe, Field(discriminator="kind")]
    image_set: ImageSetRecord
    extents: Annotated[tuple[AnyExtent, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_resolved(self) -> "BuildRecord":
        if self.recipe.unit_size is None:
            raise ValueError("recipe.unit_size must be set")
        wanted: type[Any] = Extent if isinstance(self.recipe, SirenRecipe) else RunsExtent
        if not all(isinstance(extent, wanted) for extent in self.extents):
            raise ValueError(f"a recipe of kind {self.recipe.kind} has other extents")
        return self

    @property
    def extent(self) -> AnyExtent:
        """What was asked for last, which holds everything that was asked for before."""
        return self.extents[-1]

    @property
    def unit_size(self) -> int:
        """Networks in a full unit."""
        return self.recipe.unit_size or 1

    @property
    def num_units(self) -> int:
        """Units of all extents together."""
        counts = [0, *(extent.num_networks for extent in self.extents)]
        return sum(-(-(after - before) // self.unit_size) for before, after in pairwise(counts))
