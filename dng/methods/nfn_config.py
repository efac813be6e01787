"""The options that NFN's classifier and NFN's editor have in common."""

from dataclasses import dataclass

from dng.methods.nfn_layers import Variant
from zootool.errors import UsageError


@dataclass(frozen=True)
class NFNLayersConfig:
    """The layers of an NFN, and how weights and biases are encoded for them.

    `variant` is the layers' symmetry: of hidden neurons ("hnp") or of all ("np"). `channels` are the layers' widths.
    `num_frequencies` 0 leaves out the Fourier features, `io_bands` 0 the fixed encoding of inputs and outputs, whose
    frequencies end at `io_max_frequency` / 2.
    """

    variant: Variant = "hnp"
    channels: tuple[int, ...] = (512, 512, 512)
    num_frequencies: int = 128
    sigma: float = 10.0
    io_bands: int = 0
    io_max_frequency: float = 10.0

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise UsageError(f"channels must be positive, one number per layer, got {self.channels}")

    def widened_channels(self, factor: float) -> tuple[int, ...]:
        """The widths times `factor`, at least 1; one after another steps up, so that sizes grow in small steps."""
        last = len(self.channels) - 1
        shifts = [(index - last / 2) / len(self.channels) for index in range(len(self.channels))]
        return tuple(max(1, round(factor * width + shift)) for width, shift in zip(self.channels, shifts, strict=True))
