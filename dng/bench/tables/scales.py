"""How much of the paper's budget a run of its tables has."""

from dataclasses import dataclass, replace

from dng.bench.comparison.settings import CLASSIFICATION, EqualBudget
from zootool.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Scale:
    """Seeds, the budget of methods that classify INRs without probes (Table 7) and with (Table 1), and presets."""

    seeds: int
    encoders: EqualBudget
    with_probes: EqualBudget
    inr2jls: str
    generalization: str


_DEMO = CLASSIFICATION["demo"]
# NG-T takes a hundred times as long as the DNG-Encoder, and all methods make equally many steps.
_SHORT = replace(_DEMO, training=replace(_DEMO.training, steps=40, batch_size=16, validate_every=20))

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
