"""How methods that learn from targets are trained, by name: `paper` as published, `cpu` and `demo` smaller and shorter.

Attention: as for the ViT zoo; families that differ in shape: as for the CNN Wild Park; one family with convolutions: as
for the small CNN zoo; else as for INRs (method, section 5). Every method is trained as the DNG-Encoder is.
"""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from dng.encoder.config import PUBLISHED_SMALL_CNN_ENCODER, EncoderConfig
from dng.methods.building import config_for
from dng.methods.dynamic_graph import DNG, DNGConfig
from dng.methods.registry import METHODS, ZooKind, zoo_kind
from dng.models.heads import count_parameters
from dng.training.loop import TrainConfig
from dng.training.symmetries import Symmetries
from zootool.architecture import Architecture
from zootool.errors import UsageError, did_you_mean

_DEMO_DIM = 32


@dataclass(frozen=True)
class ReaderPreset:
    """A method's config, and its training.

    With `symmetries` a predictor of accuracies is trained on networks that are changed by them at random.
    """

    config: Any
    training: TrainConfig
    symmetries: Symmetries | None = None

    def plain(self) -> dict[str, Any]:
        """The settings as a run keeps them."""
        return asdict(self.config) | {
            "training": asdict(self.training),
            "symmetries": None if self.symmetries is None else asdict(self.symmetries),
        }


_INR = TrainConfig(
    steps=300_000, batch_size=128, lr=1e-4, optimizer="adamw", weight_decay=5e-4, warmup_start=0.5,
    warmup_per_step=5e-5, validate_every=2000,
)  # fmt: skip
_SHORT = replace(_INR, warmup_start=0.1)

INR_PRESETS = {
    "paper": ReaderPreset(DNGConfig(EncoderConfig(dim=128), 128), _INR),
    "cpu": ReaderPreset(
        DNGConfig(EncoderConfig(dim=128), 128),
        replace(_SHORT, steps=4000, lr=3e-4, warmup_per_step=0.005, decay="cosine", validate_every=200),
    ),
    "demo": ReaderPreset(
        DNGConfig(EncoderConfig(dim=64, num_frequencies=32), 64),
        replace(_SHORT, steps=600, batch_size=64, lr=1e-3, warmup_per_step=0.01, validate_every=50),
    ),
}
"""The encoder with an MLP classifier on INRs (Table 7)."""

_PLAIN = TrainConfig(steps=1, batch_size=128, lr=1e-3, warmup_start=0.5, warmup_per_step=5e-4)
_REGULARISED = replace(_PLAIN, optimizer="adamw", amsgrad=True, weight_decay=5e-4, clip=10.0)
_CLASSIFIERS: dict[ZooKind, tuple[TrainConfig, int]] = {
    "small-cnn": (_PLAIN, 200),
    "wild-park": (_REGULARISED, 50),
    "vit": (replace(_REGULARISED, batch_size=64), 50),
}
"""Training and epochs, as published for zoos of classifiers."""


def reader_preset(
    name: str,
    architectures: Collection[Architecture],
    batches_per_epoch: Callable[[int], int],
    method: str = "dng",
    num_outputs: int = 1,
    variant: str | None = None,
) -> ReaderPreset:
    """The preset `name` (paper, cpu or demo) of a method for a zoo of these architectures.

    Published epochs become steps: `batches_per_epoch` counts the batches that the training loader makes of an epoch, by
    their size. In `paper` a method has its published size, in the others that of the DNG-Encoder. A `variant` is
    another of the method's published configurations, at its size. Raises UsageError for an unknown preset or variant,
    and for what the method can't take.
    """
    if name not in INR_PRESETS:
        raise UsageError(f"there is no preset {name!r}", hint=did_you_mean(name, INR_PRESETS))
    chosen = _dng_preset(name, architectures, batches_per_epoch)
    if variant is not None:
        return replace(chosen, config=_variant(method, variant).covering(architectures))
    if method == "dng":
        return chosen
    with torch.device("meta"):
        budget = None if name == "paper" else count_parameters(DNG(architectures, num_outputs, chosen.config))
        return replace(chosen, config=config_for(method, architectures, num_outputs, budget))


def _variant(method: str, name: str) -> Any:
    presets = METHODS[method].reader().presets
    if name not in presets:
        raise UsageError(f"{method} has no variant {name!r}", hint=did_you_mean(name, presets))
    return presets[name]


def _dng_preset(
    name: str, architectures: Collection[Architecture], batches_per_epoch: Callable[[int], int]
) -> ReaderPreset:
    kind = zoo_kind(architectures)
    if kind == "inr":
        return INR_PRESETS[name]
    training, epochs = _CLASSIFIERS[kind]
    steps_per_epoch = max(1, batches_per_epoch(training.batch_size))
    training = replace(training, steps=epochs * steps_per_epoch, validate_every=steps_per_epoch)
    config: DNGConfig = DNG.presets[kind]
    if kind == "small-cnn" and name == "paper":
        config = replace(config, encoder=PUBLISHED_SMALL_CNN_ENCODER)
    config = config.covering(architectures)
    if name != "demo":
        return ReaderPreset(config, training)
    frequencies = min(config.encoder.num_frequencies, _DEMO_DIM)
    encoder = replace(config.encoder, dim=_DEMO_DIM, head_dim=_DEMO_DIM // 4, num_frequencies=frequencies)
    return ReaderPreset(replace(config, encoder=encoder, head_dim=2 * _DEMO_DIM), INR_PRESETS["demo"].training)
