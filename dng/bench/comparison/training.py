"""Training one method on a zoo: built for its networks, fitted to its statistics, picked on validation."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dng.bench.comparison.settings import EqualBudget
from dng.data import Zoo
from dng.methods.build import build_method
from dng.methods.registry import METHODS
from dng.models.model import Reader
from dng.runs.on_zoo import HERE, Place, fit_reader
from dng.runs.tasks import Target
from dng.training.claim import claim, read_json
from dng.training.symmetries import Symmetries
from dng.training.train import TrainConfig, TrainResult
from zootool.files import write_json_atomic
from zootool.progress import Reporter, silent

_RATES, _METHOD = "learning-rates.json", "method.json"


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

    def train(self, config: TrainConfig, folder: Path) -> tuple[Reader, TrainResult]:
        wanted = {"method": self.name, "zoo": self.zoo.id, "target": self.target.name} | _revision(self.name)
        claim(folder / _METHOD, wanted | {"num_parameters": self.budget.num_parameters, **asdict(config)})
        model = build_method(
            self.name, self.zoo.architectures.values(), self.target.num_outputs, self.budget.num_parameters,
            config.seed, self.target.predicts,
        )  # fmt: skip
        result = fit_reader(
            model, self.zoo, self.target, config, folder,
            symmetries=self.symmetries, place=self.place, report=self.report, stage=f"training {self.name}",
        )  # fmt: skip
        return model.eval(), result


def check_revision(name: str, out: Path, seed: int) -> None:
    """Raise UsageError where the training in `out`/seed-S/NAME is of a method that computed something else then."""
    path = out / f"seed-{seed}" / name / _METHOD
    if path.exists():
        claim(path, _revision(name))


def _revision(name: str) -> dict[str, int | None]:
    return {"revision": METHODS[name].revision}


def _only_rate(budget: EqualBudget) -> float:
    return budget.learning_rates[0] if budget.learning_rates else budget.training.lr
