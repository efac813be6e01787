"""What the efficiency benchmark measured, and its tables."""

from dataclasses import dataclass

from dng.bench.efficiency.measure import Latency
from dng.bench.table import Table

_NOTE_ALONE = (
    "GFLOP: twice the multiply-adds of the matrix products, in 1e9. MB: 1e6 bytes that are alive at once, weights and "
    "inputs included. ms: the median of the forward passes ± half the distance of their quartiles. The fast path also "
    "composes weights with weights, once until they change: at most {once:.2f} GFLOP, not counted here."
)
_NOTE_BATCH = "GFLOP and ms are per network, MB for the whole batch."


@dataclass(frozen=True)
class Cost:
    """What one forward pass of `batch_size` networks costs in bytes and seconds."""

    batch_size: int
    peak_bytes: int
    latency: Latency


@dataclass(frozen=True)
class Measurement:
    """The cost of one model on one path: exact FLOPs, and what was measured for one network and for a batch.

    `flops_once` are those of weights with weights, which the first network costs besides.
    """

    name: str
    as_written: bool
    num_parameters: int
    flops_per_network: int
    flops_once: int
    single: Cost
    batch: Cost


@dataclass(frozen=True)
class EfficiencyResult:
    """All measurements of one run, and where they were made."""

    device: str
    num_threads: int
    torch_version: str
    batch_size: int
    measurements: tuple[Measurement, ...]

    def tables(self) -> tuple[Table, Table]:
        """What one network costs by itself, the setting of the paper's tables, and what it costs among others."""
        place = self.device if self.device != "cpu" else f"the CPU with {self.num_threads} threads"
        once = max(m.flops_once for m in self.measurements) / 1e9
        columns = ("parameters", "GFLOP", "MB", "ms")
        alone = Table(
            f"One network, on {place}",
            ("model", "path", *columns),
            tuple((*_named(m), f"{m.num_parameters:,}", *_cells(m, m.single)) for m in self.measurements),
            _NOTE_ALONE.format(once=once),
        )
        together = Table(
            f"A batch of {self.batch_size} networks, on {place}",
            ("model", "path", *columns[1:]),
            tuple((*_named(m), *_cells(m, m.batch)) for m in self.measurements),
            _NOTE_BATCH,
        )
        return alone, together


def _named(measurement: Measurement) -> tuple[str, str]:
    return measurement.name, "as written" if measurement.as_written else "fast"


def _cells(measurement: Measurement, cost: Cost) -> tuple[str, str, str]:
    latency, per_network = cost.latency, 1e3 / cost.batch_size
    spread = (latency.upper_quartile - latency.lower_quartile) / 2
    return (
        f"{measurement.flops_per_network / 1e9:.3f}",
        f"{cost.peak_bytes / 1e6:.1f}",
        f"{latency.seconds * per_network:.2f} ± {spread * per_network:.2f}",
    )
