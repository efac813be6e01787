"""The settings for training an encoder with a head, chosen by what the zoo's networks are (method, section 5)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from dng.encoder.config import (
    HETEROGENEOUS_CNN_ENCODER,
    PUBLISHED_SMALL_CNN_ENCODER,
    SMALL_CNN_ENCODER,
    VIT_ENCODER,
    EncoderConfig,
)
from dng.methods.methods import zoo_kind
from dng.runs.two_stage import classification_preset
from dng.training.symmetries import Symmetries
from dng.training.train import TrainConfig
from zootool.architecture import Architecture

_DEMO_DIM = 32
_DEMO_FREQUENCIES = 32

ENCODER_PARTS = ("encoder", "head_dim", "head_dropout", "training")
"""What may be changed by name."""


@dataclass(frozen=True)
class EncoderPreset:
    """The encoder, the width of its head's hidden layers and their dropout, and the training.

    With `symmetries` a predictor of accuracies is trained on networks that are changed by them at random.
    """

    encoder: EncoderConfig
    head_dim: int
    head_dropout: float
    training: TrainConfig
    symmetries: Symmetries | None = None


def encoder_preset(
    name: str, architectures: Collection[Architecture], batches_per_epoch: Callable[[int], int]
) -> EncoderPreset:
    """The preset `name` (paper or demo) for a zoo of these architectures.

    Attention: as for the ViT zoo; families that differ in shape: as for the CNN Wild Park; one family with
    convolutions: as for the small CNN zoo; else as for INRs. Published epochs become steps: `batches_per_epoch` counts
    the batches that the training loader makes of an epoch, by their size. Raises UsageError for an unknown preset.
    """
    inr = classification_preset(name)
    kind = zoo_kind(architectures)
    if kind == "vit":
        chosen = _by_epochs(VIT_ENCODER, 256, 0.2, _regularised(64), 50, batches_per_epoch)
    elif kind == "wild-park":
        chosen = _by_epochs(HETEROGENEOUS_CNN_ENCODER, 256, 0.2, _regularised(128), 50, batches_per_epoch)
    elif kind == "small-cnn":
        encoder = PUBLISHED_SMALL_CNN_ENCODER if name == "paper" else SMALL_CNN_ENCODER
        chosen = _by_epochs(encoder, 1024, 0.0, _plain(128), 200, batches_per_epoch)
    else:
        encoder = replace(inr.encoder, dim=inr.encoder_only.dim)
        return EncoderPreset(encoder, inr.encoder_only.head_dim, 0.5, inr.encoder_only.training)
    chosen = replace(chosen, encoder=chosen.encoder.covering(architectures))
    return _shrunk(chosen, inr.encoder_only.training) if name == "demo" else chosen


def _by_epochs(
    encoder: EncoderConfig,
    head_dim: int,
    head_dropout: float,
    training: TrainConfig,
    epochs: int,
    batches_per_epoch: Callable[[int], int],
) -> EncoderPreset:
    steps_per_epoch = max(1, batches_per_epoch(training.batch_size))
    training = replace(training, steps=epochs * steps_per_epoch, validate_every=steps_per_epoch)
    return EncoderPreset(encoder, head_dim, head_dropout, training)


def _plain(batch_size: int) -> TrainConfig:
    return TrainConfig(steps=1, batch_size=batch_size, lr=1e-3, warmup_start=0.5, warmup_per_step=5e-4)


def _regularised(batch_size: int) -> TrainConfig:
    return replace(_plain(batch_size), optimizer="adamw", amsgrad=True, weight_decay=5e-4, clip=10.0)


def _shrunk(preset: EncoderPreset, training: TrainConfig) -> EncoderPreset:
    published = preset.encoder
    num_frequencies = min(published.num_frequencies, _DEMO_FREQUENCIES)
    encoder = replace(published, dim=_DEMO_DIM, head_dim=_DEMO_DIM // 4, num_frequencies=num_frequencies)
    return EncoderPreset(encoder, 2 * _DEMO_DIM, preset.head_dropout, training)
