"""What the efficiency benchmark measured, and its tables."""

from dataclasses import dataclass

from dng.bench.efficiency.cases import AS_COMPUTED, AS_WRITTEN, BOTH, Form
from dng.bench.efficiency.measure import Latency
from dng.bench.efficiency.published import PUBLISHED_GFLOP
from dng.bench.table import Table

_NOTE_FLOPS = (
    "GFLOP: twice the multiply-adds of the matrix products, in 1e9. As written: the formulas as they stand, which is "
    "what was published. As computed: what gives the same results here (fast paths of our models; neural graphs on "
    "dense layers, without what no output reads, and not counted as written). Computing also composes weights with "
    "weights, once until they change: at most {once:.2f} GFLOP, not counted here."
)
_NOTE_ALONE = (
    "MB: 1e6 bytes that are alive at once, weights and inputs included. ms: the median of the forward passes ± half "
    "the distance of their quartiles."
)
_NOTE_BATCH = "ms are per network, MB for the whole batch."


@dataclass(frozen=True)
class Cost:
    """What one forward pass of `batch_size` networks costs in bytes and seconds."""

    batch_size: int
    peak_bytes: int
    latency: Latency


@dataclass(frozen=True)
class Measurement:
    """The cost of one model in one form: exact FLOPs, and what was measured for one network and for a batch.

    `flops_once` are those of weights with weights, which the first network costs besides.
    """

    name: str
    form: Form
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

    def tables(self) -> tuple[Table, Table, Table]:
        """FLOPs by form, beside the published ones; what a network costs by itself, as in the paper, and in a batch."""
        place = self.device if self.device != "cpu" else f"the CPU with {self.num_threads} threads"
        once = max(m.flops_once for m in self.measurements) / 1e9
        header = ("model", "parameters", "GFLOP as written", "published (as written)", "GFLOP as computed")
        names = dict.fromkeys(m.name for m in self.measurements)
        alone = tuple((m.name, m.form, *_cells(m.single)) for m in self.measurements)
        together = tuple((m.name, m.form, *_cells(m.batch)) for m in self.measurements)
        columns = ("model", "form", "MB", "ms")
        return (
            Table("FLOPs of one network", header, tuple(map(self._flops, names)), _NOTE_FLOPS.format(once=once)),
            Table(f"One network, on {place}", columns, alone, _NOTE_ALONE),
            Table(f"A batch of {self.batch_size} networks, on {place}", columns, together, _NOTE_BATCH),
        )

    def _flops(self, name: str) -> tuple[str, ...]:
        found = [m for m in self.measurements if m.name == name]
        written, computed = (
            next((f"{m.flops_per_network / 1e9:.3f}" for m in found if m.form in (form, BOTH)), "-")
            for form in (AS_WRITTEN, AS_COMPUTED)
        )
        return name, f"{found[0].num_parameters:,}", written, PUBLISHED_GFLOP.get(name, "-"), computed


def _cells(cost: Cost) -> tuple[str, str]:
    latency, per_network = cost.latency, 1e3 / cost.batch_size
    spread = (latency.upper_quartile - latency.lower_quartile) / 2
    return f"{cost.peak_bytes / 1e6:.1f}", f"{latency.seconds * per_network:.2f} ± {spread * per_network:.2f}"
