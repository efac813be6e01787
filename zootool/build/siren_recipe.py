"""The recipe of a zoo of SIRENs."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from zootool.architecture import Architecture
from zootool.build.recipe_parts import (
    Finite,
    Name,
    Positive,
    PositiveCount,
    Recipe,
    Seed,
    Target,
    UnitSize,
    listed,
    rising,
)
from zootool.build.siren.settings import NUM_INPUTS, FitSettings
from zootool.nets.siren import siren_architecture

DEFAULT_RECIPE = "inr-nfn"

Decay = Annotated[float, Field(ge=0, lt=1)]


class SirenRecipe(Recipe):
    """One SIREN per image, `copies` more per training image, fitted to all pixels by Adam on the mean squared error.

    Coordinates are linspace(-1, 1) along rows and columns; pixels 0..255 are scaled linearly to `target`, and
    `output_offset` is added to the network's output. The first layer starts from U(+-1/fan_in), the others from
    U(+-sqrt(6/fan_in)/omega_0), biases from U(+-1/sqrt(fan_in)): for each network anew, or (`init` "shared") once for
    all. `unit_size` is the number of networks in a unit; None stands for the device's default.
    """

    UNIT_SIZES: ClassVar = {"cpu": 256, "cuda": 4096}

    kind: Literal["siren"] = "siren"
    name: Name = DEFAULT_RECIPE
    hidden: Annotated[tuple[Annotated[int, Field(gt=0, le=4096)], ...], Field(min_length=1)] = (32, 32)
    omega_0: Positive = 30.0
    init: Literal["random", "shared"] = "random"
    init_scheme: Literal["siren"] = "siren"
    grid: Literal["linspace(-1, 1), ij"] = "linspace(-1, 1), ij"
    target: Target = (-1.0, 1.0)
    output_offset: Finite = 0.0
    steps: PositiveCount = 5000
    lr: Positive = 5e-5
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Positive = 1e-8
    copies: Annotated[int, Field(ge=0, le=10_000)] = 10
    seed: Seed = 0
    unit_size: UnitSize | None = None

    _listed = field_validator("hidden", "target", mode="before")(listed)
    _rising = field_validator("target")(rising)

    @field_validator("copies")
    @classmethod
    def _differ(cls, copies: int, info: ValidationInfo) -> int:
        if copies and info.data.get("init") == "shared":
            raise ValueError("copies that share their initialisation would be equal: set copies to 0")
        return copies

    @property
    def target_span(self) -> float:
        """From the darkest target to the brightest: the peak in PSNR."""
        return self.target[1] - self.target[0]

    @property
    def target_scaling(self) -> str:
        """The map from pixels to targets in words."""
        return f"0..255 to {self.target[0]:g}..{self.target[1]:g}"

    def architecture(self, num_channels: int) -> Architecture:
        """The networks' Architecture."""
        return siren_architecture(NUM_INPUTS, self.hidden, num_channels, self.omega_0, self.output_offset)

    def settings(self, image_shape: tuple[int, int, int]) -> FitSettings:
        """What the fitting backends are told, for images of (height, width, channels)."""
        adam = {"lr": self.lr, "beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}
        return FitSettings(image_shape[:2], image_shape[2], self.hidden, self.omega_0, self.steps, **adam)
