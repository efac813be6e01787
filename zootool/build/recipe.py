"""Recipes: how the networks of a zoo are made, as datasets.yaml names them and a folder of units records them.

A recipe's `kind` says which keys it has: "siren" (the default), "cnn" or "vit".
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from zootool.architecture import Architecture
from zootool.build.philox import MAX_SEED
from zootool.build.siren.settings import NUM_INPUTS, FitSettings
from zootool.catalog import Catalog, load_catalog
from zootool.errors import FormatError, UsageError, did_you_mean, printable
from zootool.nets.cnn import Head
from zootool.nets.siren import siren_architecture
from zootool.nets.vit import SimpleVitConfig, simple_vit_architecture
from zootool.validation import Entry, validate

DEFAULT_RECIPE = "inr-nfn"


def _tuple_of(value: Any) -> Any:
    """A tuple's value as `--set` may give it: "16,32", or 16 alone."""
    if isinstance(value, str):
        return value.split(",")
    return (value,) if isinstance(value, int | float) else value


def _check_rising(target: tuple[float, float]) -> tuple[float, float]:
    if target[0] >= target[1]:
        raise ValueError("the target of dark pixels must be below that of bright ones")
    return target


def _check_order(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("a range is the least, then the most")
    return span


def _check_sum(ratios: tuple[float, float, float]) -> tuple[float, float, float]:
    if abs(sum(ratios) - 1) > 1e-9:
        raise ValueError(f"the ratios of train, validation and test must add up to 1, not {sum(ratios):g}")
    return ratios


Item = TypeVar("Item")
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
UnitSize = Annotated[int, Field(gt=0, le=1 << 20)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0)]
Activation = Literal["relu", "gelu", "tanh", "sigmoid", "leaky_relu", "none"]
OptimiserName = Literal["sgd", "adam", "rmsprop"]
InitKind = Literal["glorot_normal", "normal", "truncated_normal", "orthogonal", "he_normal"]
Target = Annotated[tuple[Finite, Finite], BeforeValidator(_tuple_of), AfterValidator(_check_rising)]
Ratios = Annotated[tuple[Share, Share, Share], BeforeValidator(_tuple_of), AfterValidator(_check_sum)]
Range = Annotated[tuple[Item, Item], BeforeValidator(_tuple_of), AfterValidator(_check_order)]
Some = Annotated[tuple[Item, ...], Field(min_length=1), BeforeValidator(_tuple_of)]


class Recipe(Entry):
    """Base of the recipes: how the networks of a zoo are made. Each kind has `name`, `seed` and `unit_size`."""

    UNIT_SIZES: ClassVar[dict[str, int]]

    def with_unit_size(self, device: str) -> Self:
        """This recipe with a definite unit size, the one for `device` where none is set."""
        if getattr(self, "unit_size", None) is not None:
            return self
        return self.model_copy(update={"unit_size": self.UNIT_SIZES[device.partition(":")[0]]})


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
    hidden: Some[Annotated[int, Field(gt=0, le=4096)]] = (32, 32)
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

    def architecture(self, num_channels: int) -> Architecture:
        """The networks' Architecture."""
        return siren_architecture(NUM_INPUTS, self.hidden, num_channels, self.omega_0, self.output_offset)

    def settings(self, image_shape: tuple[int, int, int]) -> FitSettings:
        """What the fitting backends are told, for images of (height, width, channels)."""
        adam = {"lr": self.lr, "beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}
        return FitSettings(image_shape[:2], image_shape[2], self.hidden, self.omega_0, self.steps, **adam)


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


class CnnRecipe(ClassifierRecipe):
    """CNNs with drawn architectures and hyper-parameters; the defaults are those of Unterthiner et al. (2020).

    Architecture: `num_convolutions` (least, most); for each, its channels, kernel and stride, drawn from what is
    listed; padding "valid" (none) or "same" (kernel // 2). One activation per network or per layer. With `residuals`
    every convolution adds, with probability 1/2, the output of one before the preceding one that has its size. The
    head is pooled or flattened; a flatten that has more than `max_edges_per_pair` positions is pooled instead where
    that is listed too. With `grey`, colours become (299 R + 587 G + 114 B) / 1000, rounded.

    Training: cross-entropy in batches of `batch_size`, the last of an epoch being what is left; learning rates and L2
    penalties log-uniform, dropout (of the last layer's inputs) uniform, a fraction of the training images drawn for
    each network. Initial weights: `init_std` (log-uniform) is the deviation of "normal" and "truncated_normal" (cut
    at two deviations); "glorot_normal" and "he_normal" have their own, "orthogonal" the gain 1. Biases start at zero.
    Adam and RMSprop have torch's constants. `checkpoints` are epochs; the last one ends the run.
    """

    kind: Literal["cnn"] = "cnn"
    name: Name = "small-cnn"
    grey: bool = True
    num_convolutions: Range[PositiveCount] = (3, 3)
    channels: Some[PositiveCount] = (16,)
    kernels: Some[PositiveCount] = (3,)
    strides: Some[PositiveCount] = (2,)
    padding: Literal["valid", "same"] = "valid"
    activations: Some[Activation] = ("relu", "tanh")
    activation_per: Literal["network", "layer"] = "network"
    residuals: bool = False
    heads: Some[Head] = ("pool",)
    max_edges_per_pair: PositiveCount = 49
    optimisers: Some[OptimiserName] = ("sgd", "adam", "rmsprop")
    lr: Range[Positive] = (5e-4, 5e-2)
    l2: Range[Positive] = (1e-8, 1e-2)
    dropout: Range[Decay] = (0.0, 0.7)
    init_kinds: Some[InitKind] = (
        "glorot_normal", "normal", "truncated_normal", "orthogonal", "he_normal",
    )  # fmt: skip
    init_std: Range[Positive] = (1e-3, 0.5)
    train_fractions: Some[Fraction] = (0.1, 0.25, 0.5, 1.0)
    batch_size: PositiveCount = 512
    checkpoints: Some[Count] = (0, 1, 2, 3, 20, 40, 60, 80, 86)
    seed: Seed = 0
    unit_size: UnitSize | None = None

    @field_validator("checkpoints")
    @classmethod
    def _rise(cls, checkpoints: tuple[int, ...]) -> tuple[int, ...]:
        if list(checkpoints) != sorted(set(checkpoints)):
            raise ValueError("checkpoints are epochs in rising order, each once")
        return checkpoints

    @model_validator(mode="after")
    def _is_readable(self) -> "CnnRecipe":
        if max(self.kernels) ** 2 > self.max_edges_per_pair:
            raise ValueError(
                f"a kernel of {max(self.kernels)} x {max(self.kernels)} has {max(self.kernels) ** 2} edges per pair, "
                f"encoders take up to max_edges_per_pair = {self.max_edges_per_pair}"
            )
        return self


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
    epochs: Some[Count] = (0, 1, 2, 3, 5, 10, 13, 18, 23)
    lr: Positive = 1e-3
    batch_size: PositiveCount = 128
    flip: bool = True
    crop: Count = 4
    split_ratios: Ratios = (0.8, 0.1, 0.1)
    target: Target = (-1.0, 1.0)
    seed: Seed = 0
    unit_size: UnitSize | None = None

    @model_validator(mode="after")
    def _has_positions(self) -> "VitRecipe":
        if self.dim % 4 or self.dim < 8:
            raise ValueError(f"positions need a dim that is a multiple of 4, and at least 8, not {self.dim}")
        return self

    def num_epochs(self, run: int) -> int:
        """How long run number `run` is trained."""
        return 1 + self.epochs[run % len(self.epochs)]

    def config(self, num_channels: int, num_classes: int) -> SimpleVitConfig:
        """The networks' sizes."""
        sizes = self.model_dump(include={"patch_size", "dim", "depth", "num_heads", "head_dim", "mlp_dim"})
        return SimpleVitConfig(channels=num_channels, num_classes=num_classes, **sizes)

    def architecture(self, num_channels: int, num_classes: int) -> Architecture:
        """The networks' Architecture."""
        return simple_vit_architecture(self.config(num_channels, num_classes))


AnyRecipe = SirenRecipe | CnnRecipe | VitRecipe
RECIPE_KINDS: dict[str, type[AnyRecipe]] = {"siren": SirenRecipe, "cnn": CnnRecipe, "vit": VitRecipe}

Kind = TypeVar("Kind", SirenRecipe, CnnRecipe, VitRecipe)


class _Listed(Entry):
    """What datasets.yaml has beside a recipe's parts: a title, and what is different for single image sets."""

    title: str = ""
    per_dataset: dict[str, dict[str, Any]] = Field(default_factory=dict)


_ENTRIES: dict[str, Any] = {
    name: create_model(f"{kind.__name__}Entry", __base__=(_Listed, kind)) for name, kind in RECIPE_KINDS.items()
}


def load_recipe(
    name: str = DEFAULT_RECIPE,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    catalog: Catalog | None = None,
) -> SirenRecipe:
    """The recipe for SIRENs called `name`, as it is for `dataset`, with single keys overridden. Raises UsageError."""
    return load_recipe_of(SirenRecipe, name, dataset, overrides, catalog)


def load_recipe_of(
    kind: type[Kind],
    name: str,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    catalog: Catalog | None = None,
) -> Kind:
    """The recipe called `name`, which must be of this kind, as in `load_recipe`. Raises UsageError."""
    entry = check_recipe(name, (catalog or load_catalog()).recipe(name))
    own = entry.per_dataset.get(dataset or "", {})
    if not isinstance(entry, kind):
        raise UsageError(f"the recipe {name} is of kind {entry.kind}", hint=f"run `zoo build {entry.kind}`")
    return validate(kind, _parts(entry) | dict(own) | dict(overrides or {}), f"recipe {name}", UsageError)


def load_any_recipe(
    name: str,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    catalog: Catalog | None = None,
) -> AnyRecipe:
    """The recipe called `name`, of whatever kind, as in `load_recipe`; an unknown `dataset` is a UsageError too."""
    catalog = catalog or load_catalog()
    entry = check_recipe(name, catalog.recipe(name))
    if dataset is not None and dataset not in entry.per_dataset and not dataset.startswith("folder:"):
        catalog.image_set(dataset)
    kind: Any = RECIPE_KINDS[entry.kind]
    return load_recipe_of(kind, name, dataset, overrides, catalog)


def check_recipe(name: str, value: Any) -> Any:
    """A recipe as datasets.yaml has it, `title` and `per_dataset` included; every problem is named at once.

    Raises FormatError.
    """
    kind = value.get("kind", "siren") if isinstance(value, dict) else "siren"
    if not isinstance(kind, str) or kind not in _ENTRIES:
        hint = did_you_mean(str(kind), _ENTRIES)
        raise FormatError(f"recipe {name}: no zoo is of kind {printable(kind, 40)!r}", hint=hint)
    entry = validate(_ENTRIES[kind], {"name": name, **value} if isinstance(value, dict) else value, f"recipe {name}")
    for dataset, own in entry.per_dataset.items():
        validate(RECIPE_KINDS[kind], _parts(entry) | own, f"recipe {name}, per_dataset {printable(dataset, 60)}")
    return entry


def parse_overrides(settings: Iterable[str], kind: type[Recipe] = SirenRecipe) -> dict[str, Any]:
    """The values of `key=value` words, read as YAML: `steps=1000`, `hidden=64,64`. Raises UsageError."""
    overrides = {}
    for word in settings:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {printable(word, 60)} is no key=value", hint="write it like --set steps=1000")
        if key not in kind.model_fields:
            hint = did_you_mean(key, kind.model_fields)
            raise UsageError(f"no recipe has the key {printable(key, 60)!r}", hint=hint)
        if key in overrides:
            raise UsageError(f"--set {key} is given twice", hint="give it once")
        try:
            overrides[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(
                f"--set {key}: {printable(text, 60)} is not readable", hint="give a plain value"
            ) from error
    return overrides


def _parts(entry: Any) -> dict[str, Any]:
    return entry.model_dump(exclude={"title", "per_dataset"})
