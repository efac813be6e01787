"""A table's cell, one method on one zoo over seeds, and the job that measures it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch

from dng.bench.certainty import accuracy_interval, too_few
from dng.bench.comparison.classification import compare_classifiers
from dng.bench.generalization.run import run_generalization
from dng.bench.inr_classification import run_inr_classification
from dng.bench.published import LAST, Scored
from dng.bench.table import spread, updates_of
from dng.bench.tables.scales import Scale
from dng.data import Zoo
from dng.methods.build import RefusedError
from dng.runs.on_zoo import Place
from dng.runs.two_stage import TWO_STAGE, two_stage_preset
from dng.training.claim import read_json
from dng.training.distributed import local_device
from zootool.engines.claims import Claims
from zootool.engines.job import Advance, Job, Outcome
from zootool.files import write_json_atomic
from zootool.progress import Reporter
from zootool.records import from_plain

RUNS = "runs"
_PERCENT = 100


@dataclass(frozen=True)
class Cell:
    """What was measured: a score per seed (percent, or tau), the model's size and seconds of training and testing.

    A tau is over last checkpoints in `scores`, and over all in `all_checkpoints`. `updates` says how long the method
    learned, `objection` why its scores are no numbers to quote; `interval` is then what they leave open.
    """

    table: int
    method: str
    column: str
    scores: tuple[float | None, ...]
    num_parameters: int
    seconds: float
    all_checkpoints: tuple[float | None, ...] = ()
    updates: str = ""
    objection: str = ""
    interval: tuple[float, float] | None = None

    def text(self, scored: Scored = LAST) -> str:
        """Mean and sample standard deviation; or why there is none, with the interval."""
        digits = 3 if self.table in (2, 8) else 1
        scores = [score for score in (self.scores if scored == LAST else self.all_checkpoints) if score is not None]
        if not self.objection and scores:
            return spread(scores, digits)
        bounds = "" if self.interval is None else " ({:.{d}f} - {:.{d}f})".format(*self.interval, d=digits)
        return (self.objection or "constant prediction") + bounds


@dataclass(frozen=True, eq=False, kw_only=True)
class CellJob(Job[Outcome]):
    """A cell to be measured in a run's folder. It takes one thread unless told otherwise.

    Where the method can't take the zoo, its reason is left in the place of a cell.
    """

    table: int
    method: str
    column: str
    zoo: Zoo
    scale_name: str
    scale: Scale

    @property
    def place(self) -> str:
        """Where it goes, below the run's folder."""
        return f"{self.column_place}/{self.method}"

    @property
    def column_place(self) -> str:
        """Where its zoo's column of the table goes."""
        return f"table-{self.table}/{self.column}"

    @property
    def path(self) -> Path:
        """The file that is there when the cell is done."""
        return self.folder / self.place / "cell.json"

    @property
    def training_place(self) -> Place:
        """The device, alone."""
        return Place(local_device(self.device))

    def __len__(self) -> int:
        """A hundred for each training."""
        return _PERCENT * self.scale.num_trainings(self.table, self.method)

    @property
    def label(self) -> str:
        """What errors call it."""
        return self.place

    def run(self, advance: Advance) -> Outcome:
        """Measure the cell, unless another process is at it or has done it; what it had begun is kept."""
        with Claims(self.folder) as claims, claims.unit(self.number) as held:
            if not held:
                return Outcome(self.number, "claimed")
            if self.path.exists():
                advance(len(self))
                return Outcome(self.number, "found")
            progress = _Progress(len(self), advance)
            with _threads(self.threads):
                plain = self._measure(progress.report)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomic(self.path, plain)
            progress.finish()
        return Outcome(self.number, "built")

    def read(self) -> Cell | str | None:
        """The cell, or why the method couldn't take the zoo; None where neither is there yet."""
        if not self.path.exists():
            return None
        plain = read_json(self.path)
        return str(plain["refused"]) if "refused" in plain else from_plain(Cell, plain["cell"], str(self.path))

    def _measure(self, report: Reporter) -> dict[str, object]:
        try:
            return {"cell": asdict(_MEASURES[self.table](self, self.path.parent / RUNS, report))}
        except RefusedError as error:
            return {"refused": error.message}


class _Progress:
    """What one training after the other reports, as percents of each."""

    def __init__(self, total: int, advance: Advance) -> None:
        self.left, self.advance = total, advance
        self.percent = 0

    def report(self, stage: str, done: int, total: int) -> None:
        """How far a training is; a smaller number than before is the next one's."""
        if not stage.startswith("training"):
            return
        percent = _PERCENT * done // total
        self._move(percent - self.percent if percent >= self.percent else percent)
        self.percent = percent

    def finish(self) -> None:
        """Whatever wasn't reported is done as well: what trains without steps, or was there already."""
        self._move(self.left)

    def _move(self, count: int) -> None:
        count = min(count, self.left)
        self.left -= count
        if count:
            self.advance(count)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _two_stage(job: CellJob, out: Path, report: Reporter) -> Cell:
    results = []
    for seed in range(job.scale.seeds):
        preset = two_stage_preset(job.method, job.scale.two_stage).with_seed(seed)
        folder, place = out / f"{seed}", job.training_place
        results.append(run_inr_classification(job.zoo, job.scale.two_stage, preset, folder, place=place, report=report))
    seconds = sum(result.seconds for result in results)
    accuracies = [result.test_accuracy for result in results]
    return _accuracies(job, accuracies, results[0].num_parameters, seconds, results[0].updates)


def _classification(job: CellJob, out: Path, report: Reporter) -> Cell:
    if job.method in TWO_STAGE:
        return _two_stage(job, out, report)
    budget = job.scale.budget(job.table)
    found = compare_classifiers(
        job.zoo, job.scale_name, [job.method], budget, job.scale.seeds, out, job.training_place, report
    )
    (result,) = found.methods
    seconds = sum(answer.seconds for answer in result.answers)
    size = result.answers[0].num_parameters
    return _accuracies(job, result.accuracies, size, seconds, updates_of(budget.training))


def _accuracies(job: CellJob, accuracies: Sequence[float], size: int, seconds: float, updates: str) -> Cell:
    count = len(job.zoo.select(split="test"))
    low, high = accuracy_interval(fmean(accuracies), count)
    percents = tuple(_PERCENT * accuracy for accuracy in accuracies)
    return Cell(
        job.table, job.method, job.column, percents, size, seconds, updates=updates,
        objection=too_few(count, "test networks"), interval=(_PERCENT * low, _PERCENT * high),
    )  # fmt: skip


def _generalization(job: CellJob, out: Path, report: Reporter) -> Cell:
    scale = job.scale
    found = run_generalization(
        job.zoo, scale.generalization, [job.method], scale.seeds, out, place=job.training_place, report=report
    )
    (result,) = found.models
    last, everything = (
        tuple(scores.kendall_tau for scores in scored) for scored in (result.last, result.all_checkpoints)
    )
    return Cell(
        job.table, job.method, job.column, last, result.num_parameters, result.seconds, everything,
        "" if job.method == "statistics" else found.updates, found.objection(job.method), result.interval,
    )  # fmt: skip


_MEASURES: dict[int, Callable[[CellJob, Path, Reporter], Cell]] = {
    1: _classification,
    2: _generalization,
    7: _classification,
    8: _generalization,
}
