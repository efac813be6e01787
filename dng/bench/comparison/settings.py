"""What all methods of a comparison have in common, by preset."""

from dataclasses import dataclass, replace

from dng.training.train import TrainConfig
from zootool.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class EqualBudget:
    """The training of every method, its size, and the learning rates that each may choose from.

    A method is as large as `num_parameters` within 5 %, or as published where that is None. Where `learning_rates`
    has several, each is tried for `trial_steps` steps under the first seed, and validation picks one for all seeds.
    """

    training: TrainConfig
    num_parameters: int | None = None
    learning_rates: tuple[float, ...] = ()
    trial_steps: int = 0

    def __post_init__(self) -> None:
        if self.num_parameters is not None and self.num_parameters < 1:
            raise UsageError(f"a budget is a number of parameters, got {self.num_parameters}")
        if len(self.learning_rates) > 1 and self.trial_steps < 1:
            raise UsageError("several learning rates need trial_steps to be tried for")

    def with_seed(self, seed: int) -> "EqualBudget":
        """The same under another seed."""
        return replace(self, training=replace(self.training, seed=seed))


_TRAINING = TrainConfig(
    steps=300, batch_size=64, lr=1e-3, optimizer="adamw", weight_decay=5e-4, warmup_start=0.1, warmup_per_step=0.02,
    decay="cosine", validate_every=50, clip=10.0,
)  # fmt: skip

CLASSIFICATION: dict[str, EqualBudget] = {
    "demo": EqualBudget(_TRAINING, 100_000),
    # What the slowest method, NG-T, makes of two seeds and the trials in about 40 minutes on a processor.
    "cpu": EqualBudget(
        replace(_TRAINING, steps=500, batch_size=16, validate_every=125), 400_000, (1e-3, 3e-3), trial_steps=150
    ),
    "paper": EqualBudget(
        replace(_TRAINING, steps=300_000, batch_size=128, validate_every=2000, warmup_per_step=1e-4, decay="none"),
        400_000,
        (1e-4, 3e-4, 1e-3),
        trial_steps=20_000,
    ),
}
"""Encoders with MLP heads that classify INRs (paper, Table 7), whose steps were not published for the rivals."""


def classification_budget(preset: str) -> EqualBudget:
    """The budget of a preset. Raises UsageError."""
    if preset not in CLASSIFICATION:
        raise UsageError(f"there is no preset {preset!r}", hint=did_you_mean(preset, CLASSIFICATION))
    return CLASSIFICATION[preset]
