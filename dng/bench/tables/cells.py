"""A table's cell: one method on one zoo, over seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from dng.bench.comparison.classification import compare_classifiers
from dng.bench.data import Zoo
from dng.bench.generalization.run import run_generalization
from dng.bench.inr_classification import run_inr_classification
from dng.bench.presets import classification_preset
from dng.bench.tables.scales import Scale, scale
from zootool.progress import Reporter


@dataclass(frozen=True)
class Cell:
    """What was measured: a score per seed (percent, or tau), the model's size and seconds of training and testing."""

    table: int
    method: str
    column: str
    scores: tuple[float, ...]
    num_parameters: int
    seconds: float

    def text(self) -> str:
        """Mean and sample standard deviation."""
        digits = 3 if self.table in (2, 8) else 1
        if len(self.scores) == 1:
            return f"{self.scores[0]:.{digits}f}"
        return f"{fmean(self.scores):.{digits}f} ± {stdev(self.scores):.{digits}f}"


@dataclass(frozen=True, eq=False)
class Job:
    """A cell to be measured."""

    table: int
    method: str
    column: str
    zoo: Zoo
    scale_name: str

    @property
    def folder(self) -> str:
        """Where it goes, below the run's folder."""
        return f"table-{self.table}/{self.column}/{self.method}"

    def measure(self, out: Path, report: Reporter) -> Cell:
        """Measure the cell in `out`; what is there already is kept."""
        scores, size, seconds = _MEASURES[self.table](self, scale(self.scale_name), out, report)
        return Cell(self.table, self.method, self.column, tuple(scores), size, seconds)


_Measured = tuple[list[float], int, float]


def _inr2jls(job: Job, chosen: Scale, out: Path, report: Reporter) -> _Measured:
    results = []
    for seed in range(chosen.seeds):
        preset = classification_preset(chosen.inr2jls).with_seed(seed)
        results.append(run_inr_classification(job.zoo, chosen.inr2jls, preset, out / f"{seed}", report=report))
    seconds = sum(result.seconds for result in results)
    return [100 * result.test_accuracy for result in results], results[0].num_parameters, seconds


def _classification(job: Job, chosen: Scale, out: Path, report: Reporter) -> _Measured:
    if job.method == "inr2jls":
        return _inr2jls(job, chosen, out, report)
    budget = chosen.with_probes if job.table == 1 else chosen.encoders
    found = compare_classifiers(job.zoo, job.scale_name, [job.method], budget, chosen.seeds, out, report)
    (result,) = found.methods
    seconds = sum(answer.seconds for answer in result.answers)
    return [100 * accuracy for accuracy in result.accuracies], result.answers[0].num_parameters, seconds


def _generalization(job: Job, chosen: Scale, out: Path, report: Reporter) -> _Measured:
    found = run_generalization(job.zoo, chosen.generalization, [job.method], chosen.seeds, out, report=report)
    (result,) = found.models
    return [scores.kendall_tau for scores in result.last], result.num_parameters, result.seconds


_MEASURES: dict[int, Callable[[Job, Scale, Path, Reporter], _Measured]] = {
    1: _classification,
    2: _generalization,
    7: _classification,
    8: _generalization,
}
