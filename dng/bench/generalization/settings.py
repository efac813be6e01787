"""The settings of `zoo bench generalization`, by preset and by what the zoo's networks are."""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from dng.encoder.config import EncoderConfig
from dng.methods.dynamic_graph import DNG
from dng.models.heads import count_parameters
from dng.runs.presets import ReaderPreset, reader_preset
from dng.training.symmetries import Symmetries
from dng.training.train import TrainConfig
from zootool.architecture import Architecture
from zootool.errors import UsageError, did_you_mean

PRESETS = ("demo", "quick", "paper")


@dataclass(frozen=True)
class GeneralizationSettings:
    """The DNG predictor with its training, which all others that are trained in steps share.

    Published methods have `num_parameters` within 5 %, or their published sizes where that is None.
    """

    dng: ReaderPreset
    num_parameters: int | None = None

    def plain(self) -> dict[str, Any]:
        """The settings as a run keeps them."""
        return {"dng": self.dng.plain(), "num_parameters": self.num_parameters, "flat_mlp": asdict(self.flat_mlp)}

    @property
    def flat_mlp(self) -> TrainConfig:
        """The training of the flat MLP: the same but for its own learning rate and weight decay."""
        return replace(self.dng.training, lr=1e-3, optimizer="adamw", weight_decay=1e-2)


def generalization_settings(
    preset: str,
    architectures: Collection[Architecture],
    batches_per_epoch: Callable[[int], int],
    num_parameters: int | None = None,
) -> GeneralizationSettings:
    """`paper`: as published for zoos of this kind. `quick`: narrower and shorter, for two cores and a minute a seed;
    `demo`: fewer and smaller still, to see that everything works; it learns next to nothing.

    In `quick` training networks are varied by `Symmetries`, and published methods have as many parameters as the DNG
    predictor where `num_parameters` doesn't say otherwise. Raises UsageError for an unknown preset.
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}", hint=did_you_mean(preset, PRESETS))
    published = reader_preset("paper", architectures, batches_per_epoch)
    if preset == "paper":
        return GeneralizationSettings(published, num_parameters)
    chosen = _quick(published)
    if preset == "demo":
        chosen = _demo(chosen)
    return GeneralizationSettings(chosen, num_parameters or _size(chosen, architectures))


def _size(preset: ReaderPreset, architectures: Collection[Architecture]) -> int:
    with torch.device("meta"):
        return count_parameters(DNG(architectures, 1, preset.config))


def _quick(published: ReaderPreset) -> ReaderPreset:
    encoder: EncoderConfig = replace(
        published.config.encoder, dim=64, head_dim=16, num_frequencies=16, output_activation=None, padding=None
    )
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
    config = replace(published.config, encoder=encoder, head_dim=128)
    return ReaderPreset(config, training, Symmetries())


def _demo(quick: ReaderPreset) -> ReaderPreset:
    encoder = replace(quick.config.encoder, dim=16, head_dim=4)
    training = replace(quick.training, steps=100, batch_size=16, validate_every=20)
    return replace(quick, config=replace(quick.config, encoder=encoder, head_dim=32), training=training)
