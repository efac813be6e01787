"""The settings of `zoo bench generalization`, by preset and by what the zoo's networks are."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from dng.bench.encoder_presets import EncoderPreset, encoder_preset
from dng.config import EncoderConfig
from dng.train import TrainConfig
from zootool.architecture import Architecture
from zootool.errors import UsageError, did_you_mean

PRESETS = ("quick", "paper")


@dataclass(frozen=True)
class GeneralizationSettings:
    """The DNG predictor with its training, and the training of the flat MLP."""

    dng: EncoderPreset
    flat_mlp: TrainConfig


def generalization_settings(
    preset: str, architectures: Collection[Architecture], num_training: int
) -> GeneralizationSettings:
    """`paper`: as published for zoos of this kind. `quick`: narrower and shorter, for two cores and a minute a seed.

    Raises UsageError for an unknown preset.
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}", hint=did_you_mean(preset, PRESETS))
    published = encoder_preset("paper", architectures, num_training)
    chosen = published if preset == "paper" else _quick(published)
    return GeneralizationSettings(chosen, _FLAT_MLP)


def _quick(published: EncoderPreset) -> EncoderPreset:
    encoder: EncoderConfig = replace(published.encoder, dim=64, head_dim=16, num_frequencies=16)
    training = TrainConfig(
        steps=600,
        batch_size=64,
        lr=2e-3,
        optimizer="adamw",
        weight_decay=5e-4,
        warmup_start=0.1,
        warmup_per_step=0.02,
        decay="cosine",
        validate_every=50,
        clip=10.0,
    )
    return EncoderPreset(encoder, 128, published.head_dropout, training)


_FLAT_MLP = TrainConfig(
    steps=600, batch_size=64, lr=1e-3, optimizer="adamw", weight_decay=1e-2, decay="cosine", validate_every=20
)
