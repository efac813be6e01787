"""Recipes: how the networks of a zoo are made, as datasets.yaml names them and a folder of units records them."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationInfo, field_validator

from zootool.architecture import Architecture
from zootool.build.philox import MAX_SEED
from zootool.build.siren.settings import NUM_INPUTS, FitSettings
from zootool.catalog import Catalog, load_catalog
from zootool.errors import UsageError, did_you_mean, printable
from zootool.nets.siren_architecture import siren_architecture
from zootool.validation import Entry, validate

DEFAULT_RECIPE = "inr-nfn"
UNIT_SIZES = {"cpu": 256, "cuda": 4096}

Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class SirenRecipe(Entry):
    """One SIREN per image, `copies` more per training image, fitted to all pixels by Adam on the mean squared error.

    Coordinates are linspace(-1, 1) along rows and columns; pixels 0..255 are scaled linearly to `target`, and
    `output_offset` is added to the network's output. The first layer starts from U(+-1/fan_in), the others from
    U(+-sqrt(6/fan_in)/omega_0), biases from U(+-1/sqrt(fan_in)): for each network anew, or (`init` "shared") once for
    all. `unit_size` is the number of networks in a unit; None stands for the device's default.
    """

    kind: Literal["siren"] = "siren"
    name: Annotated[str, Field(min_length=1, max_length=100)] = DEFAULT_RECIPE
    hidden: Annotated[tuple[Annotated[int, Field(gt=0, le=4096)], ...], Field(min_length=1)] = (32, 32)
    omega_0: Positive = 30.0
    init: Literal["random", "shared"] = "random"
    init_scheme: Literal["siren"] = "siren"
    grid: Literal["linspace(-1, 1), ij"] = "linspace(-1, 1), ij"
    target: tuple[Finite, Finite] = (-1.0, 1.0)
    output_offset: Finite = 0.0
    steps: PositiveCount = 5000
    lr: Positive = 5e-5
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Positive = 1e-8
    copies: Annotated[int, Field(ge=0, le=10_000)] = 10
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    unit_size: Annotated[int, Field(gt=0, le=1 << 20)] | None = None

    @field_validator("hidden", "target", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value.split(",")
        return (value,) if isinstance(value, int) else value

    @field_validator("target")
    @classmethod
    def _rises(cls, target: tuple[float, float]) -> tuple[float, float]:
        if target[0] >= target[1]:
            raise ValueError("the target of dark pixels must be below that of bright ones")
        return target

    @field_validator("copies")
    @classmethod
    def _differ(cls, copies: int, info: ValidationInfo) -> int:
        if copies and info.data.get("init") == "shared":
            raise ValueError("copies that share their initialisation would be equal: set copies to 0")
        return copies

    def with_unit_size(self, device: str) -> "SirenRecipe":
        """This recipe with a definite unit size, the one for `device` where none is set."""
        if self.unit_size is not None:
            return self
        return self.model_copy(update={"unit_size": UNIT_SIZES[device.partition(":")[0]]})

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


class RecipeEntry(SirenRecipe):
    """A recipe in datasets.yaml: its parts, a title, and what is different for single image sets."""

    title: str = ""
    per_dataset: dict[str, dict[str, Any]] = Field(default_factory=dict)


def load_recipe(
    name: str = DEFAULT_RECIPE,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    catalog: Catalog | None = None,
) -> SirenRecipe:
    """The recipe called `name`, as it is for `dataset`, with single keys overridden. Raises UsageError."""
    entry = _entry(name, catalog or load_catalog())
    own = entry.per_dataset.get(dataset or "", {})
    parts = entry.model_dump(exclude={"title", "per_dataset"})
    return validate(SirenRecipe, parts | dict(own) | dict(overrides or {}), f"recipe {name}", UsageError)


def check_recipe(name: str, value: Any) -> RecipeEntry:
    """A recipe as datasets.yaml has it, with every problem named at once. Raises FormatError."""
    entry = validate(RecipeEntry, {"name": name, **value} if isinstance(value, dict) else value, f"recipe {name}")
    for dataset, own in entry.per_dataset.items():
        parts = entry.model_dump(exclude={"title", "per_dataset"})
        validate(SirenRecipe, parts | own, f"recipe {name}, per_dataset {printable(dataset, 60)}")
    return entry


def parse_overrides(settings: Iterable[str]) -> dict[str, Any]:
    """The values of `key=value` words, read as YAML: `steps=1000`, `hidden=64,64`. Raises UsageError."""
    overrides = {}
    for word in settings:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {printable(word, 60)} is no key=value", hint="write it like --set steps=1000")
        if key not in SirenRecipe.model_fields:
            raise UsageError(
                f"no recipe has the key {printable(key, 60)!r}", hint=did_you_mean(key, SirenRecipe.model_fields)
            )
        try:
            overrides[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(
                f"--set {key}: {printable(text, 60)} is not readable", hint="give a plain value"
            ) from error
    return overrides


def _entry(name: str, catalog: Catalog) -> RecipeEntry:
    return check_recipe(name, catalog.recipe(name))
