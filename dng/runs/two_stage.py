"""The settings of a benchmark run, by name.

`paper` is as published. `cpu` has half the paper's widths and as many steps as two CPU cores make in less than an hour.
`demo` takes a minute or two.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

from dng.encoder.config import EncoderConfig
from dng.runs.inr2array_presets import INR2ArrayPreset, inr2array_preset
from dng.training.train import TrainConfig
from zootool.errors import UsageError, did_you_mean

Ablation = Literal[
    "none",
    "no-augmentation",
    "noise",
    "inr-inr",
    "no-latent-generator",
    "encoder-only",
    "positional",
    "non-linearity",
    "joint-classifier",
]
"""Rows of the paper's tables: none is INR2JLS itself; no-augmentation and noise are Table 4's; inr-inr and
no-latent-generator Table 3's; encoder-only Table 3's and 7's; positional and non-linearity Table 6's;
joint-classifier is the one classifier of all views that the paper's text describes."""

NOISE = 0.06


@dataclass(frozen=True)
class EncoderOnly:
    """The encoder with an MLP classifier, trained together (Table 7): its own width and training."""

    dim: int
    head_dim: int
    training: TrainConfig


@dataclass(frozen=True)
class ClassificationPreset:
    """INR2JLS's widths, its training, the training of the classifier on its latents, and the ablations' widths."""

    model: ClassVar[str] = "inr2jls"
    sees_images: ClassVar[bool] = True

    encoder: EncoderConfig
    latent_dim: int
    hidden_dim: int
    decoder_dim: int
    classifier_dim: int
    reconstruction: TrainConfig
    classification: TrainConfig
    encoder_only: EncoderOnly
    decoding_dim: int = 512
    code_dim: int = 256
    ablation: Ablation = field(default="none")

    @property
    def seed(self) -> int:
        """The seed of initial weights, order of batches and dropout."""
        return self.reconstruction.seed

    def with_seed(self, seed: int) -> "ClassificationPreset":
        """The same settings under another seed."""
        return replace(
            self,
            reconstruction=replace(self.reconstruction, seed=seed),
            classification=replace(self.classification, seed=seed),
            encoder_only=replace(self.encoder_only, training=replace(self.encoder_only.training, seed=seed)),
        )

    def classifier_training(self, batches_per_epoch: Callable[[int], int]) -> TrainConfig:
        """The training of the classifier, whatever the number of batches in an epoch."""
        del batches_per_epoch
        return self.classification

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


PAPER = ClassificationPreset(
    encoder=EncoderConfig(dim=512, num_frequencies=128, sigma=3.0),
    latent_dim=128,
    hidden_dim=1024,
    decoder_dim=256,
    classifier_dim=256,
    reconstruction=TrainConfig(
        steps=400_000,
        batch_size=64,
        lr=1e-4,
        warmup_start=0.5,
        warmup_per_step=5e-5,
        validate_every=2000,
        higher_is_better=False,
    ),
    classification=TrainConfig(
        steps=200_000,
        batch_size=64,
        lr=1e-4,
        optimizer="adamw",
        weight_decay=0.1,
        warmup_start=0.3,
        warmup_per_step=7e-5,
        validate_every=1000,
    ),
    encoder_only=EncoderOnly(
        dim=128,
        head_dim=128,
        training=TrainConfig(
            steps=300_000,
            batch_size=128,
            lr=1e-4,
            optimizer="adamw",
            weight_decay=5e-4,
            warmup_start=0.5,
            warmup_per_step=5e-5,
            validate_every=2000,
        ),
    ),
)

DEMO = ClassificationPreset(
    encoder=EncoderConfig(dim=64, num_frequencies=32, sigma=3.0),
    latent_dim=64,
    hidden_dim=256,
    decoder_dim=64,
    classifier_dim=128,
    reconstruction=TrainConfig(
        steps=1000,
        batch_size=64,
        lr=1e-3,
        warmup_start=0.1,
        warmup_per_step=0.01,
        validate_every=100,
        higher_is_better=False,
    ),
    classification=TrainConfig(
        steps=600, batch_size=64, lr=1e-3, optimizer="adamw", weight_decay=0.1, validate_every=50
    ),
    encoder_only=EncoderOnly(
        dim=64,
        head_dim=64,
        training=TrainConfig(
            steps=600,
            batch_size=64,
            lr=1e-3,
            optimizer="adamw",
            weight_decay=5e-4,
            warmup_start=0.1,
            warmup_per_step=0.01,
            validate_every=50,
        ),
    ),
    decoding_dim=128,
    code_dim=64,
)

CPU = ClassificationPreset(
    encoder=EncoderConfig(dim=256, num_frequencies=128, sigma=3.0),
    latent_dim=64,
    hidden_dim=512,
    decoder_dim=128,
    classifier_dim=128,
    reconstruction=TrainConfig(
        steps=1500,
        batch_size=64,
        lr=5e-4,
        warmup_start=0.1,
        warmup_per_step=0.005,
        decay="cosine",
        validate_every=100,
        higher_is_better=False,
    ),
    classification=TrainConfig(
        steps=2000,
        batch_size=64,
        lr=3e-4,
        optimizer="adamw",
        weight_decay=0.1,
        decay="cosine",
        validate_every=100,
    ),
    encoder_only=EncoderOnly(
        dim=128,
        head_dim=128,
        training=TrainConfig(
            steps=4000,
            batch_size=128,
            lr=3e-4,
            optimizer="adamw",
            weight_decay=5e-4,
            warmup_start=0.1,
            warmup_per_step=0.005,
            decay="cosine",
            validate_every=200,
        ),
    ),
)

CLASSIFICATION_PRESETS = {"paper": PAPER, "cpu": CPU, "demo": DEMO}


def classification_preset(name: str) -> ClassificationPreset:
    """The preset called `name`. Raises UsageError."""
    if name not in CLASSIFICATION_PRESETS:
        raise UsageError(f"there is no preset {name!r}", hint=did_you_mean(name, CLASSIFICATION_PRESETS))
    return CLASSIFICATION_PRESETS[name]


TwoStagePreset = ClassificationPreset | INR2ArrayPreset
"""The settings of a method that learns codes without labels, and then a classifier of the frozen codes."""

TWO_STAGE = (ClassificationPreset.model, INR2ArrayPreset.model)


def two_stage_preset(model: str, name: str) -> TwoStagePreset:
    """The preset called `name` of INR2JLS ("inr2jls") or INR2ARRAY ("inr2array"). Raises UsageError."""
    if model not in TWO_STAGE:
        raise UsageError(f"there is no two-stage method {model!r}", hint=did_you_mean(model, TWO_STAGE))
    return inr2array_preset(name) if model == INR2ArrayPreset.model else classification_preset(name)
