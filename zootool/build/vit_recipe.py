"""The recipe of a zoo of SimpleViTs."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from zootool.architecture import Architecture
from zootool.build.classifier_recipe import ClassifierRecipe, Ratios
from zootool.build.recipe_parts import Count, Name, Positive, PositiveCount, Seed, Target, UnitSize, listed
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture


class VitRecipe(ClassifierRecipe):
    """SimpleViTs that differ in how long they were trained: run i for 1 + epochs[i % len(epochs)] epochs.

    Images are square, their side a multiple of `patch_size`. Adam in batches of `batch_size` on the cross-entropy;
    every training image is mirrored with probability 1/2 where `flip` is set, and cut out of its surroundings,
    `crop` black pixels wide, at a random place. A run's one checkpoint is its last epoch. Weights start as torch
    initialises linear layers, U(+-1/sqrt(sources)); norms at 1 and 0.
    """

    kind: Literal["vit"] = "vit"
    name: Name = "simple-vit"
    patch_size: PositiveCount = 4
    dim: PositiveCount = 32
    depth: PositiveCount = 2
    num_heads: PositiveCount = 4
    head_dim: PositiveCount = 16
    mlp_dim: PositiveCount = 64
    epochs: Annotated[tuple[Count, ...], Field(min_length=1)] = (0, 1, 2, 3, 5, 10, 13, 18, 23)
    lr: Positive = 1e-3
    batch_size: PositiveCount = 128
    flip: bool = True
    crop: Count = 4
    split_ratios: Ratios = (0.8, 0.1, 0.1)
    target: Target = (-1.0, 1.0)
    seed: Seed = 0
    unit_size: UnitSize | None = None

    _lists = field_validator("epochs", mode="before")(listed)

    @model_validator(mode="after")
    def _has_positions(self) -> "VitRecipe":
        if self.dim % 4 or self.dim < 8:
            raise ValueError(f"positions need a dim that is a multiple of 4, and at least 8, not {self.dim}")
        return self

    def config(self, num_channels: int, num_classes: int) -> SimpleVitConfig:
        """The networks' sizes."""
        return SimpleVitConfig(
            channels=num_channels,
            patch_size=self.patch_size,
            dim=self.dim,
            depth=self.depth,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            mlp_dim=self.mlp_dim,
            num_classes=num_classes,
        )

    def architecture(self, num_channels: int, num_classes: int) -> Architecture:
        """The networks' Architecture."""
        return simple_vit_architecture(self.config(num_channels, num_classes))
