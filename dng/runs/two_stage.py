"""Methods of two stages by name: codes learned without labels, then a classifier of the frozen codes.

`paper` is as published. `cpu` has half the paper's widths and as many steps as two CPU cores make in less than an hour.
`demo` takes a minute or two. That of INR2ARRAY shows that everything works: its few hundred steps end where the decoder
still renders the mean of all images, since at first the latents of different networks hardly differ.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from dng.encoder.config import EncoderConfig
from dng.methods.building import RefusedError
from dng.methods.inr2array import INR2Array, INR2ArrayConfig, LatentTransformerConfig
from dng.methods.registry import TWO_STAGE
from dng.models.ablations import MemoryDecoder, ReconstructionConfig, WeightDecoder
from dng.models.inr2jls import INR2JLS, INR2JLSConfig
from dng.models.model import Representation
from dng.models.views import NUM_VIEWS
from dng.runs.codes import CodeClassifierSpec
from dng.runs.presets import INR_PRESETS, ReaderPreset
from dng.training.loop import TrainConfig
from zootool.architecture import Architecture
from zootool.errors import UsageError, did_you_mean

Ablation = Literal[
    "none", "no-augmentation", "noise", "inr-inr", "no-latent-generator", "encoder-only", "positional", "non-linearity",
    "joint-classifier",
]  # fmt: skip
"""Rows of the paper's tables: none is INR2JLS itself; no-augmentation and noise are Table 4's; inr-inr and
no-latent-generator Table 3's; encoder-only Table 3's and 7's; positional and non-linearity Table 6's;
joint-classifier is the one classifier of all views that the paper's text describes."""

NOISE = 0.06


@dataclass(frozen=True, kw_only=True)
class TwoStagePreset(ABC):
    """The settings of a method that learns codes without labels, and then a classifier of the frozen codes.

    `parts` name the settings that the codes depend on, `aside` those that neither stage does.
    """

    model: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    aside: ClassVar[str]
    sees_images: ClassVar[bool]

    reconstruction: TrainConfig
    classification: TrainConfig
    ablation: Ablation = "none"

    @property
    def seed(self) -> int:
        """The seed of initial weights, order of batches and dropout."""
        return self.reconstruction.seed

    def with_seed(self, seed: int) -> "TwoStagePreset":
        """The same settings under another seed."""
        return replace(
            self,
            reconstruction=replace(self.reconstruction, seed=seed),
            classification=replace(self.classification, seed=seed),
        )

    def plain(self) -> dict[str, Any]:
        """The settings of both stages, as a run keeps them."""
        return {name: value for name, value in asdict(self).items() if name != self.aside}

    @abstractmethod
    def with_ablation(self, name: str) -> "TwoStagePreset":
        """The same settings with a part of the method exchanged. Raises UsageError for an unknown one."""

    @abstractmethod
    def build(self, architectures: Collection[Architecture], side: int, channels: int) -> Representation:
        """The model that learns codes of INRs of images of this shape. Raises RefusedError where it can't take them."""

    @abstractmethod
    def code_classifier(self, code_shape: tuple[int, ...], num_classes: int) -> CodeClassifierSpec:
        """What classifies codes of this shape."""

    def classifier_training(self, batches_per_epoch: Callable[[int], int]) -> TrainConfig:
        """The training of the classifier; `batches_per_epoch` counts the batches of an epoch by their size."""
        del batches_per_epoch
        return self.classification


@dataclass(frozen=True, kw_only=True)
class ClassificationPreset(TwoStagePreset):
    """INR2JLS's widths, its training, the training of the classifier on its latents, and the ablations' widths."""

    model: ClassVar[str] = "inr2jls"
    parts: ClassVar[tuple[str, ...]] = (
        "reconstruction", "encoder", "latent_dim", "hidden_dim", "decoder_dim", "decoding_dim", "code_dim", "ablation",
    )  # fmt: skip
    aside: ClassVar[str] = "encoder_only"
    sees_images: ClassVar[bool] = True

    encoder: EncoderConfig
    latent_dim: int
    hidden_dim: int
    decoder_dim: int
    classifier_dim: int
    encoder_only: ReaderPreset
    decoding_dim: int = 512
    code_dim: int = 256

    def with_seed(self, seed: int) -> "ClassificationPreset":
        """The same settings under another seed."""
        alone = replace(self.encoder_only, training=replace(self.encoder_only.training, seed=seed))
        return replace(super().with_seed(seed), encoder_only=alone)  # type: ignore[bad-return]

    def with_ablation(self, name: str) -> "ClassificationPreset":
        """The same settings for one row of the paper's tables; INR-INR trains for half as many steps, as published.

        Raises UsageError for an unknown one.
        """
        if name not in get_args(Ablation):
            raise UsageError(f"there is no ablation {name!r}", hint=did_you_mean(name, get_args(Ablation)))
        encoder = self.encoder
        if name == "positional":
            encoder = replace(encoder, positional=True)
        if name == "non-linearity":
            encoder = replace(encoder, activations=("sine", "none"))
        reconstruction = self.reconstruction
        if name == "inr-inr" != self.ablation:
            reconstruction = replace(reconstruction, steps=max(1, reconstruction.steps // 2))
        return replace(self, ablation=name, encoder=encoder, reconstruction=reconstruction)

    def build(self, architectures: Collection[Architecture], side: int, channels: int) -> Representation:
        """INR2JLS, which knows networks of the first architecture, or the model of the ablation."""
        architecture = next(iter(architectures))
        if self.ablation in ("inr-inr", "no-latent-generator"):
            kind = WeightDecoder if self.ablation == "inr-inr" else MemoryDecoder
            widths = (self.decoding_dim, self.code_dim, self.hidden_dim)
            return kind(architecture, ReconstructionConfig(side, channels, self.encoder, *widths))
        is_single = self.ablation in ("no-augmentation", "noise")
        config = INR2JLSConfig(
            side, channels, self.encoder, 1 if is_single else NUM_VIEWS, self.latent_dim, self.hidden_dim,
            self.decoder_dim, NOISE if self.ablation == "noise" else 0.0,
        )  # fmt: skip
        return INR2JLS(architecture, config)

    def code_classifier(self, code_shape: tuple[int, ...], num_classes: int) -> CodeClassifierSpec:
        """A network of convolutions on latent maps, or an MLP on the ablations' codes."""
        return CodeClassifierSpec(code_shape, num_classes, self.classifier_dim, self.ablation == "joint-classifier")


@dataclass(frozen=True, kw_only=True)
class INR2ArrayPreset(TwoStagePreset):
    """INR2ARRAY, its training against renderings, the transformer that classifies its latents, and its training.

    The side of the images and the kind of decoder in `representation` are exchanged for what the zoo's images ask for.
    With `epochs` the classifier is trained for so many instead of its steps.
    """

    model: ClassVar[str] = "inr2array"
    parts: ClassVar[tuple[str, ...]] = ("reconstruction", "representation")
    aside: ClassVar[str] = "ablation"
    sees_images: ClassVar[bool] = False

    representation: INR2ArrayConfig
    classifier: LatentTransformerConfig
    epochs: int | None = None

    def with_ablation(self, name: str) -> "INR2ArrayPreset":
        """The same settings: INR2ARRAY has no ablations. Raises UsageError where one is named."""
        if name != "none":
            raise UsageError(f"INR2ARRAY has no ablation {name!r}", hint="they are INR2JLS's: --model inr2jls")
        return self

    def for_images(self, side: int, channels: int) -> INR2ArrayConfig:
        """The model for images of this shape: coloured ones have the decoder that was published for them."""
        published = INR2Array.presets["inr" if channels == 1 else "inr-rgb"]
        return replace(self.representation, image_side=side, decoder=published.decoder)

    def build(self, architectures: Collection[Architecture], side: int, channels: int) -> Representation:
        """INR2ARRAY."""
        if reason := INR2Array.refusal(architectures):
            raise RefusedError(f"INR2ARRAY can't take the zoo: {reason}")
        return INR2Array(architectures, self.for_images(side, channels))

    def code_classifier(self, code_shape: tuple[int, ...], num_classes: int) -> CodeClassifierSpec:
        """A transformer on grids of latents."""
        return CodeClassifierSpec(code_shape, num_classes, config=self.classifier)

    def classifier_training(self, batches_per_epoch: Callable[[int], int]) -> TrainConfig:
        """Epochs become steps, with a validation behind each."""
        if self.epochs is None:
            return self.classification
        epoch = batches_per_epoch(self.classification.batch_size)
        return replace(self.classification, steps=self.epochs * epoch, validate_every=epoch)


def _codes(steps: int, lr: float, validate_every: int, **options: Any) -> TrainConfig:
    """A training of codes, whose score is an error."""
    return TrainConfig(steps, lr=lr, validate_every=validate_every, higher_is_better=False, **options)


def _labels(steps: int, lr: float, validate_every: int, **options: Any) -> TrainConfig:
    """A training of a classifier of codes."""
    return TrainConfig(steps, lr=lr, validate_every=validate_every, optimizer="adamw", weight_decay=0.1, **options)


PAPER = ClassificationPreset(
    encoder=EncoderConfig(), latent_dim=128, hidden_dim=1024, decoder_dim=256, classifier_dim=256,
    reconstruction=_codes(400_000, 1e-4, 2000, warmup_start=0.5, warmup_per_step=5e-5),
    classification=_labels(200_000, 1e-4, 1000, warmup_start=0.3, warmup_per_step=7e-5),
    encoder_only=INR_PRESETS["paper"],
)  # fmt: skip
CPU = ClassificationPreset(
    encoder=EncoderConfig(dim=256), latent_dim=64, hidden_dim=512, decoder_dim=128, classifier_dim=128,
    reconstruction=_codes(1500, 5e-4, 100, warmup_start=0.1, warmup_per_step=0.005, decay="cosine"),
    classification=_labels(2000, 3e-4, 100, decay="cosine"),
    encoder_only=INR_PRESETS["cpu"],
)  # fmt: skip
DEMO = ClassificationPreset(
    encoder=EncoderConfig(dim=64, num_frequencies=32), latent_dim=64, hidden_dim=256, decoder_dim=64,
    classifier_dim=128,
    reconstruction=_codes(1000, 1e-3, 100, warmup_start=0.1, warmup_per_step=0.01),
    classification=_labels(600, 1e-3, 50),
    encoder_only=INR_PRESETS["demo"], decoding_dim=128, code_dim=64,
)  # fmt: skip
CLASSIFICATION_PRESETS = {"paper": PAPER, "cpu": CPU, "demo": DEMO}

_COSINE: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.01, "decay": "cosine"}
_SLOW = {"warmup_start": 1e-4, "warmup_per_step": 1e-4}
_GREY: INR2ArrayConfig = INR2Array.presets["inr"]

INR2ARRAY_PRESETS = {
    "paper": INR2ArrayPreset(
        representation=_GREY, classifier=LatentTransformerConfig(),
        reconstruction=_codes(200_000, 1e-4, 1000, **_COSINE, **_SLOW),
        classification=_labels(200_000, 1e-4, 1000, batch_size=128, decay="cosine", **_SLOW),
        epochs=100,
    ),
    "cpu": INR2ArrayPreset(
        representation=replace(_GREY, dim=64, num_blocks=3, ff_dim=256, decoder_dim=128),
        classifier=LatentTransformerConfig(dim=128, num_layers=4, ff_dim=512),
        reconstruction=_codes(2000, 1e-3, 200, batch_size=32, warmup_start=0.01, warmup_per_step=0.01, **_COSINE),
        classification=_labels(
            2000, 3e-4, 100, batch_size=128, warmup_start=0.01, warmup_per_step=0.005, decay="cosine"
        ),
    ),
    "demo": INR2ArrayPreset(
        representation=replace(_GREY, dim=32, num_heads=2, num_blocks=1, ff_dim=64, decoder_dim=64),
        classifier=LatentTransformerConfig(dim=64, num_layers=2, ff_dim=128),
        reconstruction=_codes(600, 1e-3, 100, batch_size=16, warmup_start=0.1, warmup_per_step=0.05, **_COSINE),
        classification=_labels(400, 1e-3, 50, warmup_start=0.1, warmup_per_step=0.02, decay="cosine"),
    ),
}  # fmt: skip


def two_stage_preset(model: str, name: str) -> ClassificationPreset | INR2ArrayPreset:
    """The preset called `name` of INR2JLS ("inr2jls") or INR2ARRAY ("inr2array"). Raises UsageError."""
    if model not in TWO_STAGE:
        raise UsageError(f"there is no two-stage method {model!r}", hint=did_you_mean(model, TWO_STAGE))
    presets = CLASSIFICATION_PRESETS if model == ClassificationPreset.model else INR2ARRAY_PRESETS
    if name not in presets:
        raise UsageError(f"there is no preset {name!r}", hint=did_you_mean(name, presets))
    return presets[name]
