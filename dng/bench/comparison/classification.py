"""Classifying INRs by encoders with MLP heads, method against method (paper, Table 7).

Unlike INR2JLS no method here sees an image: labels and weights alone. What a comparison leaves in its folder:

    settings.json            the zoo and the budget, written first
    trials/METHOD/           short trainings, one per learning rate, where there are several
    seed-S/METHOD/           the training (see `dng.training.train`), and answer.json behind it: what it scored on test
    results.json table.md    everything that was measured, written last
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch

from dng.bench.certainty import accuracy_interval, largest_share, too_few
from dng.bench.comparison.settings import EqualBudget
from dng.bench.comparison.training import check_revision, train_method
from dng.bench.table import Table, spread
from dng.data import Zoo
from dng.methods.build import build_method
from dng.methods.registry import METHODS, method
from dng.models.heads import count_parameters
from dng.runs.on_zoo import HERE, Place, require_splits
from dng.runs.tasks import Prediction, Target, read_target
from dng.training.claim import claim, read_json
from zootool.files import write_bytes_atomic, write_json_atomic
from zootool.progress import Reporter, silent
from zootool.records import from_plain

RESULTS, SETTINGS = "results.json", "settings.json"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class MethodAnswer:
    """One method under one seed: accuracies as fractions, and what it took."""

    test_accuracy: float
    validation_accuracy: float
    best_step: int
    lr: float
    num_parameters: int
    seconds: float


@dataclass(frozen=True)
class MethodResult:
    """A method over the seeds."""

    method: str
    answers: tuple[MethodAnswer, ...]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies by seed."""
        return [answer.test_accuracy for answer in self.answers]


@dataclass(frozen=True)
class Comparison:
    """What was measured on one zoo."""

    zoo_id: str
    zoo_name: str
    preset: str
    seeds: int
    budget: EqualBudget
    networks: dict[str, int]
    methods: tuple[MethodResult, ...]
    largest_class: float
    skipped: bool = False


def compare_classifiers(
    zoo: Zoo,
    preset: str,
    names: Sequence[str],
    budget: EqualBudget,
    num_seeds: int,
    out: Path,
    place: Place = HERE,
    report: Reporter = silent,
) -> Comparison:
    """Train every method under every seed, read the test split once each; finished parts are kept.

    Raises UsageError for unknown methods, zoos that one can't take and budgets that one can't meet, before anything is
    trained; BadDataError where the zoo lacks labels or a split.
    """
    target = read_target(zoo, "label")
    require_splits(zoo, SPLITS)
    for name in names:
        method(name)
        with torch.device("meta"):
            build_method(name, zoo.architectures.values(), target.num_outputs, budget.num_parameters)
    claim(out / SETTINGS, {"zoo_id": zoo.id, "preset": preset, "budget": asdict(budget.with_seed(0))})
    done_before = (out / RESULTS).exists()
    results = []
    for name in names:
        answers = []
        for seed in range(num_seeds):
            path = out / f"seed-{seed}" / name / "answer.json"
            check_revision(name, out, seed)
            if not path.exists():
                done_before = False
                write_json_atomic(path, asdict(_answer(name, zoo, target, budget.with_seed(seed), out, place, report)))
            plain = read_json(path)
            answers.append(from_plain(MethodAnswer, plain, str(path)))
        results.append(MethodResult(name, tuple(answers)))
    networks = {split: len(zoo.select(split=split)) for split in SPLITS}
    test_labels = target.by_row[torch.from_numpy(zoo.select(split="test").rows)]
    found = Comparison(
        zoo.id, zoo.info.name, preset, num_seeds, budget, networks, tuple(results),
        largest_share(test_labels.tolist()), skipped=done_before,
    )  # fmt: skip
    write_bytes_atomic(out / "table.md", comparison_table(found).markdown().encode("utf-8"))
    write_json_atomic(out / RESULTS, asdict(found))
    return found


def _answer(
    name: str, zoo: Zoo, target: Target, budget: EqualBudget, out: Path, place: Place, report: Reporter
) -> MethodAnswer:
    started = time.perf_counter()
    trained = train_method(name, zoo, target, budget, out, place=place, report=report)
    loader = zoo.select(split="test").loader(budget.training.batch_size, device=place.device, targets=())
    predictions, labels = Prediction(trained.model, loader, target.by_row.to(place.device)).predict(loader)
    return MethodAnswer(
        test_accuracy=(predictions == labels).float().mean().item(),
        validation_accuracy=trained.result.best_score,
        best_step=trained.result.best_step,
        lr=trained.lr,
        num_parameters=count_parameters(trained.model),
        seconds=time.perf_counter() - started,
    )


def comparison_table(found: Comparison) -> Table:
    """Test accuracies over the seeds, in the order asked for."""
    tested = found.networks["test"]
    rows = [
        (
            METHODS[result.method].title,
            f"{result.answers[0].num_parameters:,}",
            too_few(tested, "test networks") or percent(result.accuracies),
            "{:.1f} - {:.1f}".format(*(100 * bound for bound in accuracy_interval(fmean(result.accuracies), tested))),
            percent([answer.validation_accuracy for answer in result.answers]),
            f"{result.answers[0].lr:g}",
            f"{fmean(answer.seconds for answer in result.answers):,.0f}",
        )
        for result in found.methods
    ]
    training = found.budget.training
    return Table(
        f"INRs of {found.zoo_name} classified from their weights: {found.networks['train']:,} to learn from, "
        f"{found.networks['test']:,} to test on",
        (
            "method",
            "parameters",
            "test accuracy (%)",
            "95 % interval",
            "validation (%)",
            "learning rate",
            "seconds a seed",
        ),
        tuple(rows),
        f"Equal budget: {training.steps:,} steps of {training.batch_size} networks, picked on validation, "
        f"{found.seeds} seed{'s' * (found.seeds > 1)}; the test split is read once per training. Always the most "
        f"frequent test class would be right in {found.largest_class:.1%}. The interval is over "
        "test networks (Wilson), seconds are those of the calls that finished the trainings.",
    )


def percent(values: Sequence[float]) -> str:
    """Mean and sample standard deviation in percent."""
    return spread([100 * value for value in values], 1)
