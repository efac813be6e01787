"""What the recipes of all classifiers share: the images they are trained on, and how their runs are split."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from zootool.build.recipe_parts import PositiveCount, Recipe, Target, listed, rising

Ratios = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class ClassifierRecipe(Recipe):
    """Networks that are trained to classify an image set, from its training images to its test images.

    `runs` networks are trained where nobody says how many. A network's run, all its checkpoints, is in one split:
    the runs that are asked for at a time are cut by `split_ratios` (train, validation, test) in the order of their
    numbers. Accuracies and losses called test are of the images of `test_split`; those that are neither in it nor
    in train take no part. `train_images` and `test_images` bound how many are used, from the first on. Pixels 0..255
    are scaled linearly to `target`.
    """

    UNIT_SIZES: ClassVar = {"cpu": 64}

    runs: PositiveCount = 1000
    split_ratios: Ratios = (0.7, 0.15, 0.15)
    train_images: PositiveCount | None = None
    test_images: PositiveCount | None = None
    test_split: Literal["test", "validation"] = "test"
    target: Target = (0.0, 1.0)

    _listed = field_validator("split_ratios", "target", mode="before")(listed)
    _rising = field_validator("target")(rising)

    @field_validator("split_ratios")
    @classmethod
    def _fills(cls, ratios: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(ratios) - 1) > 1e-9:
            raise ValueError(f"the ratios of train, validation and test must add up to 1, not {sum(ratios):g}")
        return ratios
