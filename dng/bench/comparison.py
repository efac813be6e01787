"""Methods against each other at equal budget: the same networks, updates, selection and learning rates.

`ClassifierComparison` classifies INRs by encoders with MLP heads (paper, Table 7): unlike INR2JLS no method here sees
an image, but labels and weights alone. What it leaves besides what every benchmark does:

    trials/METHOD/           short trainings, one per learning rate, where there are several
    seed-S/METHOD/           the training (see `dng.training.loop`), and answer.json behind it: what it scored on test
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import torch

from dng.bench.certainty import accuracy_interval, largest_share, percent, too_few
from dng.bench.harness import SETTINGS, Benchmark, Case, called
from dng.bench.page import Table
from dng.methods.building import build_method
from dng.methods.registry import METHODS, method
from dng.models.heads import count_parameters
from dng.models.model import Reader
from dng.runs.on_zoo import HERE, Place, fit_reader, require_splits
from dng.runs.tasks import Prediction, Target, read_target
from dng.training.loop import TrainConfig, TrainResult
from dng.training.same_settings import claim, read_json
from dng.training.symmetries import Symmetries
from dng.zoo_data import Zoo
from zootool.errors import UsageError
from zootool.files import write_json_atomic
from zootool.progress import Reporter, silent

SPLITS = ("train", "validation", "test")
_RATES, _METHOD = "learning-rates.json", "method.json"


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
    return called("preset", preset, CLASSIFICATION)


def updates_of(*trainings: TrainConfig) -> str:
    """How long a method learns: the updates and the networks in each, stage by stage."""
    return " + ".join(f"{training.steps:,} of {training.batch_size}" for training in trainings)


@dataclass(frozen=True, eq=False)
class Trained:
    """A method with the weights that validation picked, how it scored there, and the learning rate it was given."""

    model: Reader
    result: TrainResult
    lr: float


def train_method(
    name: str,
    zoo: Zoo,
    target: Target,
    budget: EqualBudget,
    out: Path,
    *,
    symmetries: Symmetries | None = None,
    place: Place = HERE,
    report: Reporter = silent,
) -> Trained:
    """Train the method `name` in `out`/seed-S/NAME; learning rates are tried beside it, once for all seeds.

    The model comes back on the device of `place`. Finished parts are kept. Raises what `build_method` does, and
    UsageError where the folder holds another training.
    """

    def trained(config: TrainConfig, folder: Path) -> tuple[Reader, TrainResult]:
        wanted = {"method": name, "zoo": zoo.id, "target": target.name, "revision": METHODS[name].revision}
        claim(folder / _METHOD, wanted | {"num_parameters": budget.num_parameters, **asdict(config)})
        architectures, size = zoo.architectures.values(), budget.num_parameters
        model = build_method(name, architectures, target.num_outputs, size, config.seed, target.predicts)
        result = fit_reader(
            model, zoo, target, config, folder,
            symmetries=symmetries, place=place, report=report, stage=f"training {name}",
        )  # fmt: skip
        return model.eval(), result

    rates, lr = budget.learning_rates, budget.training.lr
    if len(rates) > 1:
        folder = out / "trials" / name
        if not (folder / _RATES).exists():
            short = replace(budget.training, seed=0, steps=budget.trial_steps)
            tried = {f"{rate:g}": trained(replace(short, lr=rate), folder / f"{rate:g}")[1] for rate in rates}
            write_json_atomic(folder / _RATES, {rate: result.best_score for rate, result in tried.items()})
        scores = read_json(folder / _RATES)
        lr = float(max(scores, key=lambda rate: scores[rate]))
    elif rates:
        lr = rates[0]
    config = replace(budget.training, lr=lr)
    return Trained(*trained(config, out / f"seed-{config.seed}" / name), lr)


def as_of_now(name: str, folder: str) -> dict[str, dict[str, Any]]:
    """What a training in `folder`/NAME, where there is one, has to say: that the method computes the same today."""
    return {f"{folder}/{name}/{_METHOD}": {"revision": METHODS[name].revision}}


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


@dataclass(eq=False)
class ClassifierComparison(Benchmark[Comparison]):
    """Every method under every seed; each reads the test split once.

    Raises UsageError for unknown methods, zoos that one can't take and budgets that one can't meet, before anything is
    trained; BadDataError where the zoo lacks labels or a split.
    """

    name: ClassVar[str] = "inr-classification"

    zoo: Zoo
    preset: str
    methods: Sequence[str]
    budget: EqualBudget
    num_seeds: int
    place: Place = HERE

    def __post_init__(self) -> None:
        self.target = read_target(self.zoo, "label")
        require_splits(self.zoo, SPLITS)
        architectures = self.zoo.architectures.values()
        for name in self.methods:
            method(name)
            with torch.device("meta"):
                build_method(name, architectures, self.target.num_outputs, self.budget.num_parameters)

    def settings(self) -> dict[str, dict[str, Any]]:
        budget = asdict(self.budget.with_seed(0))
        return {SETTINGS: {"zoo_id": self.zoo.id, "preset": self.preset, "budget": budget}}

    def cases(self) -> list[Case]:
        return [
            Case(
                self._file(name, seed), MethodAnswer, partial(self._answer, name, seed), as_of_now(name, f"seed-{seed}")
            )
            for name in self.methods
            for seed in range(self.num_seeds)
        ]

    def _file(self, name: str, seed: int) -> str:
        return f"seed-{seed}/{name}/answer.json"

    def _answer(self, name: str, seed: int, out: Path, report: Reporter) -> MethodAnswer:
        started, budget = time.perf_counter(), self.budget.with_seed(seed)
        trained = train_method(name, self.zoo, self.target, budget, out, place=self.place, report=report)
        loader = self.zoo.select(split="test").loader(budget.training.batch_size, device=self.place.device, targets=())
        predictions, labels = Prediction(trained.model, loader, self.target.by_row.to(self.place.device)).predict(
            loader
        )
        return MethodAnswer(
            test_accuracy=(predictions == labels).float().mean().item(),
            validation_accuracy=trained.result.best_score,
            best_step=trained.result.best_step,
            lr=trained.lr,
            num_parameters=count_parameters(trained.model),
            seconds=time.perf_counter() - started,
        )

    def result(self, answers: Mapping[str, MethodAnswer], out: Path) -> Comparison:
        methods = tuple(
            MethodResult(name, tuple(answers[self._file(name, seed)] for seed in range(self.num_seeds)))
            for name in self.methods
        )
        splits = {split: self.zoo.select(split=split) for split in SPLITS}
        test_labels = self.target.by_row[torch.from_numpy(splits["test"].rows)]
        return Comparison(
            self.zoo.id, self.zoo.info.name, self.preset, self.num_seeds, self.budget,
            {split: len(networks) for split, networks in splits.items()}, methods, largest_share(test_labels.tolist()),
        )  # fmt: skip

    def tables(self, result: Comparison) -> list[Table]:
        return [comparison_table(result)]


def comparison_table(found: Comparison) -> Table:
    """Test accuracies over the seeds, in the order asked for."""
    tested, training = found.networks["test"], found.budget.training
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
    header = ("method", "parameters", "test accuracy (%)", "95 % interval", "validation (%)", "learning rate")
    return Table(
        f"INRs of {found.zoo_name} classified from their weights: {found.networks['train']:,} to learn from, "
        f"{found.networks['test']:,} to test on",
        (*header, "seconds a seed"),
        tuple(rows),
        f"Equal budget: {training.steps:,} steps of {training.batch_size} networks, picked on validation, "
        f"{found.seeds} seed{'s' * (found.seeds > 1)}; the test split is read once per training. Always the most "
        f"frequent test class would be right in {found.largest_class:.1%}. The interval is over "
        "test networks (Wilson), seconds are those of the calls that finished the trainings.",
    )
