"""How much of the paper's budget a run of its tables has."""

from dataclasses import dataclass, replace

from dng.bench.comparison.settings import CLASSIFICATION, EqualBudget
from dng.runs.two_stage import TWO_STAGE
from zootool.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Scale:
    """Seeds, the budget of methods that classify INRs without probes (Table 7) and with (Table 1), and presets.

    `two_stage` is the preset of INR2JLS and INR2ARRAY (Table 1), `generalization` that of Tables 2 and 8.
    """

    seeds: int
    encoders: EqualBudget
    with_probes: EqualBudget
    two_stage: str
    generalization: str

    def budget(self, table: int) -> EqualBudget:
        """That of the methods in a table of INR classification."""
        return self.with_probes if table == 1 else self.encoders

    def num_trainings(self, table: int, method: str) -> int:
        """How many trainings a cell takes: the classifier of codes is one too, other methods try learning rates."""
        if method in TWO_STAGE:
            return 2 * self.seeds
        if table in (2, 8):
            return self.seeds
        rates = len(self.budget(table).learning_rates)
        return self.seeds + (rates if rates > 1 else 0)


_DEMO = CLASSIFICATION["demo"]
# NG-T takes a hundred times as long as the DNG-Encoder, and all methods make equally many steps.
_SHORT = replace(
    _DEMO, training=replace(_DEMO.training, steps=40, batch_size=16, lr=3e-3, warmup_per_step=0.1, validate_every=20)
)

SCALES: dict[str, Scale] = {
    "demo": Scale(1, _SHORT, _SHORT, "demo", "demo"),
    "cpu": Scale(2, CLASSIFICATION["cpu"], CLASSIFICATION["cpu"], "cpu", "quick"),
    "paper": Scale(
        3, CLASSIFICATION["paper"], replace(CLASSIFICATION["paper"], num_parameters=6_000_000), "paper", "paper"
    ),
}


def scale(name: str) -> Scale:
    """The scale of this name. Raises UsageError."""
    if name not in SCALES:
        raise UsageError(f"there is no scale {name!r}", hint=did_you_mean(name, SCALES))
    return SCALES[name]
