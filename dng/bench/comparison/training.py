"""Training one method on a zoo: built for its networks, fitted to its statistics, picked on validation."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from dng.bench.comparison.settings import EqualBudget
from dng.data import EndlessBatches, Loader, Zoo
from dng.methods.methods import REVISIONS, build_method
from dng.models.predictors import Classifies, MethodClassifier, MethodPredictor, PredictsAccuracy
from dng.runs.accuracy import AccuracyPrediction
from dng.runs.on_zoo import HERE, Place, training_loaders
from dng.runs.targets import Target
from dng.runs.tasks import NetworkClassification
from dng.training.claim import claim, read_json
from dng.training.symmetries import Symmetries
from dng.training.train import Task, TrainConfig, TrainResult, train
from zootool.files import write_json_atomic
from zootool.graph import GraphBatch
from zootool.progress import Reporter, silent

_RATES, _METHOD = "learning-rates.json", "method.json"


@dataclass(frozen=True, eq=False)
class Trained:
    """A method with the weights that validation picked, how it scored there, and the learning rate it was given."""

    model: Classifies | PredictsAccuracy
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

    The model comes back on the device of `place`.

    Finished parts are kept. Raises what `build_method` does, and UsageError where the folder holds another training.
    """
    seed = budget.training.seed
    run = _Run(name, zoo, target, budget, symmetries, place, report)
    lr = run.chosen_rate(out / "trials" / name) if len(budget.learning_rates) > 1 else _only_rate(budget)
    config = replace(budget.training, lr=lr)
    model, result = run.train(config, out / f"seed-{seed}" / name)
    return Trained(model, result, lr)


@dataclass(frozen=True, eq=False)
class _Run:
    name: str
    zoo: Zoo
    target: Target
    budget: EqualBudget
    symmetries: Symmetries | None
    place: Place
    report: Reporter

    def chosen_rate(self, folder: Path) -> float:
        """The learning rate that scores best on validation after a short training under seed 0."""
        path = folder / _RATES
        if not path.exists():
            scores = {}
            for rate in self.budget.learning_rates:
                config = replace(self.budget.training, seed=0, lr=rate, steps=self.budget.trial_steps)
                _, result = self.train(config, folder / f"{rate:g}")
                scores[f"{rate:g}"] = result.best_score
            write_json_atomic(path, scores)
        scores = read_json(path)
        return float(max(scores, key=lambda rate: scores[rate]))

    def train(self, config: TrainConfig, folder: Path) -> tuple[Classifies | PredictsAccuracy, TrainResult]:
        wanted = {"method": self.name, "zoo": self.zoo.id, "target": self.target.name} | _revision(self.name)
        claim(folder / _METHOD, wanted | {"num_parameters": self.budget.num_parameters, **asdict(config)})
        loaders = training_loaders(self.zoo, config, self.place, images=False)
        architectures = self.zoo.architectures.values()
        body = build_method(self.name, architectures, self.target.num_outputs, self.budget.num_parameters, config.seed)
        body.fit(_graphs(self.zoo, config.batch_size))
        model = (MethodClassifier(body) if self.target.is_class else MethodPredictor(body)).to(self.place.device)
        values = self.target.by_row.to(self.place.device)
        task = _task(model, loaders["validation"], lambda batch: values[batch.rows], self.symmetries)
        stage = f"training {self.name}"
        result = train(task, EndlessBatches(loaders["train"]), config, folder, stage, self.report)
        model.eval()
        return model, result


def check_revision(name: str, out: Path, seed: int) -> None:
    """Raise UsageError where the training in `out`/seed-S/NAME is of a method that computed something else then."""
    path = out / f"seed-{seed}" / name / _METHOD
    if path.exists():
        claim(path, _revision(name))


def _revision(name: str) -> dict[str, int | None]:
    return {"revision": REVISIONS.get(name)}


def _only_rate(budget: EqualBudget) -> float:
    return budget.learning_rates[0] if budget.learning_rates else budget.training.lr


def _graphs(zoo: Zoo, batch_size: int) -> Iterator[GraphBatch]:
    """The training networks, once."""
    return (batch for batch in zoo.select(split="train").loader(batch_size, targets=()))


def _task(
    model: MethodClassifier | MethodPredictor,
    validation: Loader,
    lookup: Callable[[GraphBatch], Tensor],
    symmetries: Symmetries | None,
) -> Task:
    if isinstance(model, MethodClassifier):
        return NetworkClassification(model, validation, lookup)
    return AccuracyPrediction(model, validation, lookup, symmetries)
