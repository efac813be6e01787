"""The settings of a benchmark run, by name: `paper` as published, `demo` for two CPU cores and a minute or two."""

from dataclasses import dataclass, replace

from dng.config import EncoderConfig
from dng.inr2jls import INR2JLSConfig
from dng.train import TrainConfig
from zootool.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class ClassificationPreset:
    """INR2JLS's widths, its training, and the training of the classifier on its latents."""

    encoder: EncoderConfig
    latent_dim: int
    hidden_dim: int
    decoder_dim: int
    classifier_dim: int
    reconstruction: TrainConfig
    classification: TrainConfig

    def model_config(self, image_side: int, image_channels: int) -> INR2JLSConfig:
        """INR2JLS for images of this shape."""
        return INR2JLSConfig(
            image_side,
            image_channels,
            encoder=self.encoder,
            latent_dim=self.latent_dim,
            hidden_dim=self.hidden_dim,
            decoder_dim=self.decoder_dim,
        )

    def with_seed(self, seed: int) -> "ClassificationPreset":
        """The same settings under another seed."""
        return replace(
            self,
            reconstruction=replace(self.reconstruction, seed=seed),
            classification=replace(self.classification, seed=seed),
        )


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
)

CLASSIFICATION_PRESETS = {"paper": PAPER, "demo": DEMO}


def classification_preset(name: str) -> ClassificationPreset:
    """The preset called `name`. Raises UsageError."""
    if name not in CLASSIFICATION_PRESETS:
        raise UsageError(f"there is no preset {name!r}", hint=did_you_mean(name, CLASSIFICATION_PRESETS))
    return CLASSIFICATION_PRESETS[name]
