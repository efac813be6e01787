"""The settings of the forward-fit experiment, fixed before its first run (method, section 8)."""

from dataclasses import dataclass

from dng.training.batches import num_batches
from dng.training.train import TrainConfig
from zootool.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class ForwardFitSettings:
    """The MLPs' widths n_0..n_L, how many of them with how many inputs each, the networks' widths, the training.

    `dim` is the width of node and edge vectors, `hidden_dim` that of the dynamic network's MLPs; the static network's
    is chosen to have as many parameters. The published text names no validation split: `num_validation` further MLPs
    pick the weights, so that the test split is read once.
    """

    widths: tuple[int, ...] = (4, 16, 16, 16)
    num_train: int = 1000
    num_validation: int = 200
    num_test: int = 500
    num_inputs: int = 8
    dim: int = 32
    hidden_dim: int = 64
    epochs: int = 40
    batch_size: int = 32
    lr: float = 1e-3

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.widths) - 1

    def training(self, seed: int) -> TrainConfig:
        """Adam with cosine decay, validated once per epoch."""
        steps_per_epoch = num_batches(self.num_train, self.batch_size)
        return TrainConfig(
            steps=self.epochs * steps_per_epoch,
            batch_size=self.batch_size,
            lr=self.lr,
            decay="cosine",
            validate_every=steps_per_epoch,
            higher_is_better=False,
            seed=seed,
        )


FORWARD_FIT_PRESETS = {"full": ForwardFitSettings(), "quick": ForwardFitSettings(epochs=12)}


def forward_fit_preset(name: str) -> ForwardFitSettings:
    """The preset called `name`. Raises UsageError."""
    if name not in FORWARD_FIT_PRESETS:
        raise UsageError(f"there is no preset {name!r}", hint=did_you_mean(name, FORWARD_FIT_PRESETS))
    return FORWARD_FIT_PRESETS[name]
