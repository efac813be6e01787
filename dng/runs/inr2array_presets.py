"""The settings of INR2ARRAY in the benchmark of INR classification, by name: as `dng.runs.two_stage`.

`demo` shows that everything works. Its few hundred steps end where the decoder still renders the mean of all images: at
first the latents of different networks hardly differ, and they take far longer to grow apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from dng.methods.inr2array import INR2Array, INR2ArrayConfig, LatentTransformerConfig
from dng.training.train import TrainConfig
from zootool.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class INR2ArrayPreset:
    """INR2ARRAY, its training against renderings, the transformer that classifies its latents, and its training.

    The side of the images and the kind of decoder in `representation` are exchanged for what the zoo's images ask for.
    With `epochs` the classifier is trained for so many instead of its steps.
    """

    model: ClassVar[str] = "inr2array"
    ablation: ClassVar[str] = "none"
    sees_images: ClassVar[bool] = False

    representation: INR2ArrayConfig
    classifier: LatentTransformerConfig
    reconstruction: TrainConfig
    classification: TrainConfig
    epochs: int | None = None

    @property
    def seed(self) -> int:
        """The seed of initial weights, order of batches and dropout."""
        return self.reconstruction.seed

    def with_seed(self, seed: int) -> "INR2ArrayPreset":
        """The same settings under another seed."""
        return replace(
            self,
            reconstruction=replace(self.reconstruction, seed=seed),
            classification=replace(self.classification, seed=seed),
        )

    def with_ablation(self, name: str) -> "INR2ArrayPreset":
        """The same settings: INR2ARRAY has no ablations. Raises UsageError where one is named."""
        if name != "none":
            raise UsageError(f"INR2ARRAY has no ablation {name!r}", hint="they are INR2JLS's: --model inr2jls")
        return self

    def for_images(self, side: int, channels: int) -> INR2ArrayConfig:
        """The model for images of this shape: coloured ones have the decoder that was published for them."""
        published = INR2Array.presets["inr" if channels == 1 else "inr-rgb"]
        return replace(self.representation, image_side=side, decoder=published.decoder)

    def classifier_training(self, batches_per_epoch: Callable[[int], int]) -> TrainConfig:
        """The training of the classifier: epochs become steps, with a validation behind each.

        `batches_per_epoch` counts the batches of an epoch by their size.
        """
        if self.epochs is None:
            return self.classification
        epoch = batches_per_epoch(self.classification.batch_size)
        return replace(self.classification, steps=self.epochs * epoch, validate_every=epoch)


_PUBLISHED = TrainConfig(
    steps=200_000, batch_size=64, lr=1e-4, optimizer="adamw", weight_decay=0.01, warmup_start=1e-4,
    warmup_per_step=1e-4, decay="cosine", validate_every=1000, higher_is_better=False,
)  # fmt: skip

PAPER = INR2ArrayPreset(
    representation=INR2Array.presets["inr"],
    classifier=LatentTransformerConfig(),
    reconstruction=_PUBLISHED,
    classification=replace(_PUBLISHED, batch_size=128, weight_decay=0.1, higher_is_better=True),
    epochs=100,
)

DEMO = INR2ArrayPreset(
    representation=replace(PAPER.representation, dim=32, num_heads=2, num_blocks=1, ff_dim=64, decoder_dim=64),
    classifier=LatentTransformerConfig(dim=64, num_layers=2, ff_dim=128),
    reconstruction=replace(
        _PUBLISHED, steps=600, batch_size=16, lr=1e-3, warmup_start=0.1, warmup_per_step=0.05, validate_every=100
    ),
    classification=replace(
        PAPER.classification, steps=400, batch_size=64, lr=1e-3, warmup_start=0.1, warmup_per_step=0.02,
        validate_every=50,
    ),
)  # fmt: skip

CPU = INR2ArrayPreset(
    representation=replace(PAPER.representation, dim=64, num_heads=4, num_blocks=3, ff_dim=256, decoder_dim=128),
    classifier=LatentTransformerConfig(dim=128, num_layers=4, ff_dim=512),
    reconstruction=replace(
        _PUBLISHED, steps=2000, batch_size=32, lr=1e-3, warmup_start=0.01, warmup_per_step=0.01, validate_every=200
    ),
    classification=replace(
        PAPER.classification, steps=2000, lr=3e-4, warmup_start=0.01, warmup_per_step=0.005, validate_every=100
    ),
)

INR2ARRAY_PRESETS = {"paper": PAPER, "cpu": CPU, "demo": DEMO}


def inr2array_preset(name: str) -> INR2ArrayPreset:
    """The preset called `name`. Raises UsageError."""
    if name not in INR2ARRAY_PRESETS:
        raise UsageError(f"there is no preset {name!r}", hint=did_you_mean(name, INR2ARRAY_PRESETS))
    return INR2ARRAY_PRESETS[name]
