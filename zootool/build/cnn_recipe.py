"""The recipe of a zoo of small CNNs: what is drawn for each network, and from what."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from zootool.build.classifier_recipe import ClassifierRecipe
from zootool.build.recipe_parts import Count, Fraction, Name, Positive, PositiveCount, Seed, UnitSize, listed
from zootool.nets.cnn import Head

Activation = Literal["relu", "gelu", "tanh", "sigmoid", "leaky_relu", "none"]
OptimiserName = Literal["sgd", "adam", "rmsprop"]
InitKind = Literal["glorot_normal", "normal", "truncated_normal", "orthogonal", "he_normal"]
Range = tuple[Positive, Positive]
DropoutRange = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
Checkpoints = Annotated[tuple[Count, ...], Field(min_length=1)]


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
    num_convolutions: tuple[PositiveCount, PositiveCount] = (3, 3)
    channels: Annotated[tuple[PositiveCount, ...], Field(min_length=1)] = (16,)
    kernels: Annotated[tuple[PositiveCount, ...], Field(min_length=1)] = (3,)
    strides: Annotated[tuple[PositiveCount, ...], Field(min_length=1)] = (2,)
    padding: Literal["valid", "same"] = "valid"
    activations: Annotated[tuple[Activation, ...], Field(min_length=1)] = ("relu", "tanh")
    activation_per: Literal["network", "layer"] = "network"
    residuals: bool = False
    heads: Annotated[tuple[Head, ...], Field(min_length=1)] = ("pool",)
    max_edges_per_pair: PositiveCount = 49
    optimisers: Annotated[tuple[OptimiserName, ...], Field(min_length=1)] = ("sgd", "adam", "rmsprop")
    lr: Range = (5e-4, 5e-2)
    l2: Range = (1e-8, 1e-2)
    dropout: DropoutRange = (0.0, 0.7)
    init_kinds: Annotated[tuple[InitKind, ...], Field(min_length=1)] = (
        "glorot_normal", "normal", "truncated_normal", "orthogonal", "he_normal",
    )  # fmt: skip
    init_std: Range = (1e-3, 0.5)
    train_fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.1, 0.25, 0.5, 1.0)
    batch_size: PositiveCount = 512
    checkpoints: Checkpoints = (0, 1, 2, 3, 20, 40, 60, 80, 86)
    seed: Seed = 0
    unit_size: UnitSize | None = None

    _lists = field_validator(
        "num_convolutions", "channels", "kernels", "strides", "activations", "heads", "optimisers", "lr", "l2",
        "dropout", "init_kinds", "init_std", "train_fractions", "checkpoints", mode="before",
    )(listed)  # fmt: skip

    @field_validator("num_convolutions", "lr", "l2", "dropout", "init_std")
    @classmethod
    def _in_order(cls, span: tuple[Any, Any]) -> tuple[Any, Any]:
        if span[0] > span[1]:
            raise ValueError("a range is the least, then the most")
        return span

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
