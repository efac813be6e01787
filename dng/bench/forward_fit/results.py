"""What the forward-fit experiment measured: test MSE per layer, per network and seed."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from dng.bench.forward_fit.model import KINDS, Kind
from dng.bench.forward_fit.settings import ForwardFitSettings
from dng.bench.table import Table
from zootool.records import from_plain, parse_json

RESULTS = "results.json"


@dataclass(frozen=True)
class Fit:
    """One trained network: its test MSE at the layers 1..L, and the variance of what it had to fit there.

    The variance is the MSE of the best constant, so their ratio compares layers. `seconds` are those of the call
    that finished the training.
    """

    kind: Kind
    seed: int
    hidden_dim: int
    num_parameters: int
    best_epoch: int
    mse: tuple[float, ...]
    target_variance: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class ForwardFitResult:
    """All trainings of a run, and the settings that they share."""

    preset: str
    settings: ForwardFitSettings
    fits: tuple[Fit, ...]
    skipped: bool = False

    @property
    def num_seeds(self) -> int:
        """How many times each network was trained."""
        return len({fit.seed for fit in self.fits})

    def is_of(self, num_seeds: int) -> bool:
        """Whether it holds every network under each of so many seeds."""
        return {(fit.kind, fit.seed) for fit in self.fits} == {
            (kind, seed) for kind in KINDS for seed in range(num_seeds)
        }

    def fits_of(self, kind: Kind) -> tuple[Fit, ...]:
        """The trainings of one network, seed by seed."""
        return tuple(fit for fit in self.fits if fit.kind == kind)

    def mean_mse(self, kind: Kind) -> tuple[float, ...]:
        """The mean over seeds of the test MSE, per layer."""
        return tuple(fmean(values) for values in zip(*(fit.mse for fit in self.fits_of(kind)), strict=True))

    def std_mse(self, kind: Kind) -> tuple[float, ...] | None:
        """The sample standard deviation over seeds, per layer; None for one seed."""
        if self.num_seeds < 2:
            return None
        return tuple(stdev(values) for values in zip(*(fit.mse for fit in self.fits_of(kind)), strict=True))

    def target_variance(self) -> tuple[float, ...]:
        """The mean over seeds of the target's variance, per layer."""
        return tuple(fmean(v) for v in zip(*(fit.target_variance for fit in self.fits_of("dynamic")), strict=True))

    def table(self) -> Table:
        """Test MSE per layer, mean and standard deviation over seeds."""
        layers = range(1, self.settings.num_layers + 1)
        rows = [self._row(kind, label) for kind, label in KINDS.items()]
        variance = (f"{value:.3f}" for value in self.target_variance())
        spread = f"mean ± standard deviation over {self.num_seeds} seeds" if self.num_seeds > 1 else "one seed"
        return Table(
            f"Test MSE of every layer's post-activation, {spread}",
            ("graph", "width", "parameters", *(f"layer {layer}" for layer in layers)),
            (*rows, ("variance of the target (MSE of its mean)", "", "", *variance)),
        )

    def _row(self, kind: Kind, label: str) -> tuple[str, ...]:
        means, stds = self.mean_mse(kind), self.std_mse(kind)
        if stds is None:
            cells = [f"{mean:.3g}" for mean in means]
        else:
            cells = [f"{mean:.3g} ± {std:.1g}" for mean, std in zip(means, stds, strict=True)]
        first = self.fits_of(kind)[0]
        return (label, f"{first.hidden_dim}", f"{first.num_parameters:,}", *cells)


def read_result(out: Path) -> ForwardFitResult | None:
    """The finished result in `out`, marked as skipped, or None. Raises FormatError where it isn't one of ours."""
    path = out / RESULTS
    if not path.exists():
        return None
    value = parse_json(path.read_bytes(), str(path))
    return from_plain(ForwardFitResult, value | {"skipped": True}, str(path))
